"""Where a robot may go beside the limits of its joints: its tip's box, and clear of itself.

Shapes: A = entries of one raw action, J = joints, N = steps of a path, D = entries of a place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from wm_planner.runtime.safety import Guard

STEPS = 8  # of a path: so fine it is looked at, and so finely an action is cut
_SAME = 1e-9
_PERIODS = 64  # of what was sent: a measurement is not older


class Check(Protocol):
    """What may be violated at a place."""

    def excess(self, place: np.ndarray) -> np.ndarray:
        """How much each condition is violated at a place (D,), metres; 0 or less: not at all."""

    def told(self, number: int) -> str:
        """The condition of that number, for people."""


class FreeSpace:
    """How far a path may be gone.

    No condition may be violated more than where the path begins: a robot that is outside already
    may come back.

    Args:
        checks: all of them hold.

    Attributes:
        cut: the condition that ended the newest path, for people; empty: none did.
    """

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = tuple(checks)
        self.cut = ""

    def steps(self, path: np.ndarray) -> int:
        """How many steps of a path, (N + 1, D) places, may be gone."""
        self.cut = ""
        most = [np.maximum(check.excess(path[0]), 0.0) + _SAME for check in self._checks]
        for number, place in enumerate(path[1:]):
            for check, allowed in zip(self._checks, most, strict=True):
                over = check.excess(place) - allowed
                if not np.all(over <= 0):  # NaN is not allowed
                    self.cut = check.told(int(np.argmax(over)))
                    return number
        return len(path) - 1

    def violated(self, place: np.ndarray) -> list[str]:
        """Conditions that do not hold at a place (D,), for people."""
        return [
            check.told(int(number))
            for check in self._checks
            for number in np.flatnonzero(~(check.excess(place) <= _SAME))
        ]

    def end(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """(D,) how far the straight way from place to place may be gone; `end` itself if all."""
        shares = np.linspace(0.0, 1.0, STEPS + 1)[:, None]
        steps = self.steps(begin + shares * (end - begin))
        return end if steps == STEPS else begin + steps / STEPS * (end - begin)


class VelocityGuard:
    """Shortens velocities that lead out of the free space.

    A velocity leads as far as a control period of it and braking do, from where the last ones have
    led since the positions were measured. What is shortened keeps its direction.

    Args:
        space: the free space.
        place: (positions (J,), displacement (A,)) -> place (D,): where the robot is after a small
            displacement, in the unit of the action times seconds.
        dt_s: control period, seconds.
        max_rate: (A,) change of the action per second, by which the robot brakes; None: at once.
    """

    target = None  # the action itself goes to the robot

    def __init__(
        self,
        space: FreeSpace,
        place: Callable[[np.ndarray, np.ndarray], np.ndarray],
        dt_s: float,
        max_rate: np.ndarray | None = None,
    ) -> None:
        self._space, self._place, self._dt_s = space, place, dt_s
        self._brake = np.inf if max_rate is None else max_rate
        self._sent: deque[np.ndarray] = deque(maxlen=_PERIODS)  # newest first

    def begin(self, positions: np.ndarray) -> None:
        """The robot stands still."""
        self._sent.clear()

    def allow(self, action: np.ndarray, positions: np.ndarray, age_s: float) -> np.ndarray:
        """See `safety.Guard`."""
        gone = np.zeros(len(action))
        last = self._sent[0] if self._sent else gone
        for sent in self._sent:
            gone = gone + sent * min(max(age_s, 0.0), self._dt_s)
            age_s -= self._dt_s
        path = []
        for share in np.linspace(0.0, 1.0, STEPS + 1):
            speed = share * action
            fastest = np.where(np.abs(speed) >= np.abs(last), speed, last)
            braking = fastest * np.abs(fastest) / (2 * self._brake)
            path.append(self._place(positions, gone + speed * self._dt_s + braking))
        steps = self._space.steps(np.stack(path))
        allowed = action if steps == STEPS else action * (steps / STEPS)
        self._sent.appendleft(allowed)
        return allowed

    def refuse(self, positions: np.ndarray | None) -> None:
        """Zero is sent from now on."""
        if self._sent:
            self._sent.appendleft(np.zeros_like(self._sent[0]))


class PositionSpaceGuard:
    """Shortens the way to positions that lie outside of the free space.

    Args:
        space: the free space.
    """

    target = None

    def __init__(self, space: FreeSpace) -> None:
        self._space = space

    def begin(self, positions: np.ndarray) -> None:
        """Nothing is remembered."""

    def allow(self, action: np.ndarray, positions: np.ndarray, age_s: float) -> np.ndarray:
        """See `safety.Guard`."""
        return self._space.end(np.asarray(positions, np.float64), action)

    def refuse(self, positions: np.ndarray | None) -> None:
        """Nothing is remembered."""


class Guards:
    """Several guards, each of which is given what the one before it allows.

    Args:
        guards: of which none turns actions into targets.
    """

    target = None

    def __init__(self, guards: Sequence[Guard]) -> None:
        self._guards = tuple(guards)

    def begin(self, positions: np.ndarray) -> None:
        """See `safety.Guard`."""
        for guard in self._guards:
            guard.begin(positions)

    def allow(self, action: np.ndarray, positions: np.ndarray, age_s: float) -> np.ndarray:
        """See `safety.Guard`."""
        for guard in self._guards:
            action = guard.allow(action, positions, age_s)
        return action

    def refuse(self, positions: np.ndarray | None) -> None:
        """See `safety.Guard`."""
        for guard in self._guards:
            guard.refuse(positions)
