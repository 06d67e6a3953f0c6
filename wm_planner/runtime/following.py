"""Does the robot do what it is sent?

A robot in a protective stop, or behind a driver that takes no commands, still reports its joints.
Recordings of that would teach a model that actions do nothing.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from wm_planner.embodiment import ActionSpace
from wm_planner.runtime.motion import Box

WINDOW_S = 4.0
LAG_S = 1.0  # what was sent later than this ago is not asked for yet
ENOUGH = 0.25  # share of the box that a joint is led through before it is judged
LEAST = 0.1  # share of the way it was led that it must have gone


class FollowWatch:
    """Compares, joint by joint, how far a robot was led and how far it went.

    Args:
        action: kind 'velocity', 'position' or 'position_delta', of joints.
        control_dt_s: control period, seconds.
        box: in which the robot is led.
    """

    def __init__(self, action: ActionSpace, control_dt_s: float, box: Box) -> None:
        self._action = action
        self._scale = control_dt_s if action.kind == "velocity" else 1.0
        self._enough = ENOUGH * 2 * box.half
        self._led = np.zeros(action.size)
        size = max(round(WINDOW_S / control_dt_s), 2)
        self._judged = max(round((WINDOW_S - LAG_S) / control_dt_s), 1)
        self._past: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=size)

    def add(self, action: np.ndarray, position: np.ndarray) -> str:
        """Take note of a control period.

        Args:
            action: (A,) that was sent.
            position: (A,) measured.

        Returns:
            Which joint does not follow, in words; '' when all do.
        """
        if self._action.kind == "position":
            self._led = np.array(action)
        else:
            self._led = self._led + self._scale * action
        self._past.append((self._led, position))
        if len(self._past) < (self._past.maxlen or 0):
            return ""
        led = np.ptp([led for led, _ in list(self._past)[: self._judged]], axis=0)
        went = np.ptp([position for _, position in self._past], axis=0)
        stuck = (led > self._enough) & (went < LEAST * led)
        if not stuck.any():
            return ""
        joint = int(np.argmax(stuck))
        return (
            f"the robot does not do what it is sent: in {WINDOW_S:g} s joint "
            f"'{self._action.names[joint]}' was led {led[joint]:.3f} and went {went[joint]:.3f}; "
            "is it in a protective stop, or its controller inactive?"
        )
