"""How much of a plan the limits of a robot would change."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wm_planner.runtime.integrator import Integrator
from wm_planner.runtime.position_limits import PositionGuard
from wm_planner.runtime.safety import Limits, differs, limit

CUTS = BOUND, RATE, POSITION, ANY = ("bound", "rate", "position_limit", "any")
_FOLLOWS = 1e9  # a tracking error that a robot which follows never has


@dataclass
class Cuts:
    """How often limits would change what is planned.

    Attributes:
        limits: bounds and rates.
        dt_s: control period, seconds.
        kind: of the action.
        position_limits: (A,) lower and upper ones; None: there are none, or they are not known.
        actions: looked at: of each plan those that are taken before the next one.
        plans: looked at.
        counts: 'bound', 'rate', 'position_limit': actions that it would cut; one action may count
            for several. 'any': actions that would not reach the robot as they are.
    """

    limits: Limits
    dt_s: float
    kind: str = "velocity"
    position_limits: tuple[np.ndarray, np.ndarray] | None = None
    actions: int = 0
    plans: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CUTS, 0))

    def add(
        self, rows: np.ndarray, last_sent: np.ndarray, positions: np.ndarray | None = None
    ) -> None:
        """Count what each limit would cut of a plan, in the order of the controller's gate.

        Args:
            rows: (N, A) finite, one control period apart: the first actions of the plan.
            last_sent: (A,) the action before them.
            positions: (A,) where the joints are before the first action; from there on they are
                taken to follow. Of efforts nobody can tell, so that they count as staying there.
                Position limits count only where positions and limits are known.
        """
        self.plans += 1
        self.actions += len(rows)
        guard = self._guard(positions)
        sent, place = np.asarray(last_sent, np.float64), positions
        for action in np.asarray(rows, np.float64):
            inside = np.clip(action, self.limits.low, self.limits.high)
            allowed, _ = limit(inside, sent, self.limits, self.dt_s)
            final = allowed
            if self.position_limits is not None and self.kind == "position":
                final = np.clip(allowed, *self.position_limits)
            elif guard is not None and place is not None:
                final = guard.allow(allowed, place, 0.0)
                place = place if guard.target is None else guard.target
            self.counts[BOUND] += differs(action, inside)
            self.counts[RATE] += differs(inside, allowed)
            self.counts[POSITION] += differs(allowed, final)
            self.counts[ANY] += differs(action, final)
            sent = final

    def _guard(self, positions: np.ndarray | None) -> Integrator | PositionGuard | None:
        if positions is None or self.position_limits is None or self.kind == "position":
            return None
        if self.kind == "effort":
            return PositionGuard(self.kind, *self.position_limits, self.dt_s)
        guard = Integrator(self.kind, *self.position_limits, self.dt_s, _FOLLOWS)
        guard.begin(positions)
        return guard

    def line(self) -> str:
        """For people."""
        cut = self.counts[ANY]
        share = 100 * cut / max(1, self.actions)
        reasons = f"{self.counts[BOUND]} beyond bounds, {self.counts[RATE]} faster than max_rate"
        if self.position_limits is not None:
            reasons += f", {self.counts[POSITION]} beyond position limits"
        return (
            f"{self.plans} plans; of {self.actions} actions limits would have cut {cut} "
            f"({share:.1f} %): {reasons}"
        )
