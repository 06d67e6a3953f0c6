"""Does the robot do what it is sent?

A robot in a protective stop, or behind a driver that takes no commands, still reports its joints.
Recordings of that would teach a model that actions do nothing.

Shapes: A = entries of one raw action.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from wm_planner.embodiment import ActionSpace

WINDOW_S = 4.0
LAG_S = 1.0  # what was sent later than this ago is not asked for yet
ENOUGH = 0.1  # share of the way at full speed that a joint is led before it is judged
LEAST = 0.1  # share of the way it was led that it must have gone
STILL = 1e-3  # rad or m: less is the noise of a joint that stands
_STUCK = "commanded but not moving"
_WHY = "is it in a protective stop, or its controller inactive?"


def full_speed(action: ActionSpace, control_dt_s: float) -> np.ndarray:
    """(A,) greatest speeds of an action of kind 'velocity', 'position' or 'position_delta'."""
    if action.kind == "position":
        return np.array(action.max_rate)
    most = np.maximum(np.abs(action.low), np.abs(action.high))
    return most / control_dt_s if action.kind == "position_delta" else most


def enough_way(action: ActionSpace, control_dt_s: float) -> np.ndarray:
    """(A,) ways after which joints are judged, where no box says better."""
    return ENOUGH * (WINDOW_S - LAG_S) * full_speed(action, control_dt_s)


class FollowWatch:
    """Compares, joint by joint, how far a robot was led and how far it went.

    Args:
        action: kind 'velocity', 'position' or 'position_delta', of joints.
        control_dt_s: control period, seconds.
        enough: (A,) ways after which a joint is judged.
        ahead: a joint that is sent to a place further than this from where it is, all the time,
            must move, too.
    """

    def __init__(
        self,
        action: ActionSpace,
        control_dt_s: float,
        enough: np.ndarray,
        ahead: float = np.inf,
    ) -> None:
        self._action, self._dt_s = action, control_dt_s
        self._scale = control_dt_s if action.kind == "velocity" else 1.0
        self._enough, self._ahead = enough, ahead
        self._led = np.zeros(action.size)
        size = max(round(WINDOW_S / control_dt_s), 2)
        self._lag = max(round(LAG_S / control_dt_s), 1)
        self._past: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque(maxlen=size)

    def add(self, action: np.ndarray, position: np.ndarray, place: np.ndarray | None = None) -> str:
        """Take note of a control period.

        Args:
            action: (A,) that was sent.
            position: (A,) measured.
            place: (A,) where the robot was sent in its place; None: nowhere.

        Returns:
            Which joint does not follow, in words; '' when all do.
        """
        if self._action.kind == "position":
            self._led = place = np.array(action)
        else:
            self._led = self._led + self._scale * action
        off = np.zeros_like(position) if place is None else np.abs(place - position)
        self._past.append((self._led, position, off))
        num = len(self._past)
        if num < min(2 * self._lag, self._past.maxlen or 0):
            return ""
        led = np.ptp([led for led, _, _ in list(self._past)[: max(num - self._lag, 1)]], axis=0)
        went = np.ptp([position for _, position, _ in self._past], axis=0)
        stuck = (led > self._enough) & (went < LEAST * led)
        if num == self._past.maxlen:
            ahead = np.min([off for _, _, off in self._past], axis=0)
            pushed = (ahead > self._ahead) & (went < LEAST * ahead)
            led, stuck = np.where(pushed, ahead, led), stuck | pushed
        if not stuck.any():
            return ""
        joint = int(np.argmax(stuck))
        return (
            f"{_STUCK}: in {num * self._dt_s:.1f} s joint '{self._action.names[joint]}' was led "
            f"{led[joint]:.3f} and went {went[joint]:.3f}; {_WHY}"
        )


class StirWatch:
    """Says whether anything moves at all of a robot whose joints are not those of its action.

    Args:
        action: a twist.
        control_dt_s: control period, seconds.
    """

    def __init__(self, action: ActionSpace, control_dt_s: float) -> None:
        self._names, self._dt_s = action.names, control_dt_s
        self._enough = enough_way(action, control_dt_s)
        self._led, self._since_s = np.zeros(action.size), 0.0
        self._anchors: dict[str, float] = {}

    def sense(self, positions: Mapping[str, float]) -> None:
        """Take note of joints."""
        for name, position in positions.items():
            if abs(position - self._anchors.setdefault(name, position)) > STILL:
                self._anchors[name] = position
                self._led, self._since_s = np.zeros_like(self._led), 0.0

    def add(self, action: np.ndarray) -> str:
        """Take note of a control period with an (A,) action; see `FollowWatch.add`."""
        kept = 1 - min(self._dt_s / WINDOW_S, 1.0)  # what was long ago counts less
        self._led = kept * self._led + np.abs(action) * self._dt_s
        self._since_s += self._dt_s
        stuck = self._led > self._enough
        if not stuck.any() or self._since_s < 2 * LAG_S:
            return ""
        axis = int(np.argmax(stuck))
        return (
            f"{_STUCK}: '{self._names[axis]}' was led {self._led[axis]:.3f} and no joint has moved "
            f"by more than {STILL:g} in {self._since_s:.1f} s; {_WHY}"
        )
