"""How much of a plan the limits of a robot would change."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wm_planner.runtime.integrator import Integrator
from wm_planner.runtime.position_limits import PositionGuard
from wm_planner.runtime.safety import Limits, differs, limit

BOUND, RATE, POSITION, ANY = "bound", "rate", "position_limit", "any"
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
        counts: see `count_cuts`.
    """

    limits: Limits
    dt_s: float
    kind: str = "velocity"
    position_limits: tuple[np.ndarray, np.ndarray] | None = None
    actions: int = 0
    plans: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((BOUND, RATE, ANY), 0))

    def add(
        self, rows: np.ndarray, last_sent: np.ndarray, positions: np.ndarray | None = None
    ) -> None:
        """The first (N, A) actions of a plan, (A,) what the robot was told before, and where its
        joints are, if that is known."""
        counts = count_cuts(
            rows, last_sent, self.limits, self.dt_s, self.kind, positions, self.position_limits
        )
        self.plans += 1
        self.actions += len(rows)
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def line(self) -> str:
        """For people."""
        cut = self.counts[ANY]
        share = 100 * cut / max(1, self.actions)
        reasons = f"{self.counts[BOUND]} beyond bounds, {self.counts[RATE]} faster than max_rate"
        if self.position_limits is not None:
            reasons += f", {self.counts.get(POSITION, 0)} beyond position limits"
        return (
            f"{self.plans} plans; of {self.actions} actions limits would have cut {cut} "
            f"({share:.1f} %): {reasons}"
        )


def count_cuts(
    actions: np.ndarray,
    last_sent: np.ndarray,
    limits: Limits,
    dt_s: float,
    kind: str = "velocity",
    positions: np.ndarray | None = None,
    position_limits: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, int]:
    """How many actions of a plan each limit would cut, in the order of the controller's gate.

    Args:
        actions: (N, A) finite, one control period apart.
        last_sent: (A,) the action before them.
        limits: bounds and rates.
        dt_s: control period, seconds.
        kind: of the action.
        positions: (A,) where the joints are before the first action; from there on they are taken
            to follow. Of efforts nobody can tell, so that they count as staying there.
        position_limits: (A,) lower and upper ones; position limits count only with both known.

    Returns:
        'bound', 'rate', 'position_limit': actions that it would cut; one action may count for
        several. 'any': actions that would not reach the robot as they are.
    """
    counts = dict.fromkeys((BOUND, RATE, POSITION, ANY), 0)
    guard = _guard(kind, positions, position_limits, dt_s)
    sent, place = np.asarray(last_sent, np.float64), positions
    for action in np.asarray(actions, np.float64):
        inside = np.clip(action, limits.low, limits.high)
        allowed, _ = limit(inside, sent, limits, dt_s)
        final = allowed
        if position_limits is not None and kind == "position":
            final = np.clip(allowed, *position_limits)
        elif guard is not None and place is not None:
            final = guard.allow(allowed, place, 0.0)
            place = place if guard.target is None else guard.target
        cut = {BOUND: differs(action, inside), RATE: differs(inside, allowed)}
        cut |= {POSITION: differs(allowed, final), ANY: differs(action, final)}
        for name, happened in cut.items():
            counts[name] += happened
        sent = final
    return counts


def _guard(
    kind: str,
    positions: np.ndarray | None,
    position_limits: tuple[np.ndarray, np.ndarray] | None,
    dt_s: float,
) -> Integrator | PositionGuard | None:
    if positions is None or position_limits is None or kind == "position":
        return None
    if kind == "effort":
        return PositionGuard(kind, *position_limits, dt_s)
    guard = Integrator(kind, *position_limits, dt_s, _FOLLOWS)
    guard.begin(positions)
    return guard
