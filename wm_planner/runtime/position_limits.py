"""Where joints may be, and what of an action would carry them out of there.

Shapes: A = entries of one raw action.
"""

from __future__ import annotations

import numpy as np

from wm_planner.errors import ConfigError
from wm_planner.runtime.robot_description import JointLimit
from wm_planner.runtime.safety import NO_LIMIT, Limits


class PositionGuard:
    """Cuts velocities and efforts that lead beyond the position limits.

    A velocity is cut to what ends inside at the end of the control period, counted from when the
    position was measured. At or beyond a limit nothing goes further out; what leads back passes.

    Args:
        kind: of the action: 'velocity' or 'effort'.
        low, high: (A,) limits, radians or metres; infinite where there are none.
        dt_s: control period, seconds.

    Raises:
        ConfigError: limits that are no limits.
    """

    target = None  # the action itself goes to the robot

    def __init__(self, kind: str, low: np.ndarray, high: np.ndarray, dt_s: float) -> None:
        self.kind, self.dt_s = kind, dt_s
        self.low, self.high = checked_limits(low, high)

    def begin(self, positions: np.ndarray) -> None:
        """Nothing is remembered."""

    def allow(self, action: np.ndarray, positions: np.ndarray, age_s: float) -> np.ndarray:
        """See `safety.Guard`."""
        if self.kind == "effort":
            least = np.where(positions <= self.low, 0.0, -np.inf)
            most = np.where(positions >= self.high, 0.0, np.inf)
        else:
            seconds = self.dt_s + age_s
            least = np.minimum((self.low - positions) / seconds, 0.0)
            most = np.maximum((self.high - positions) / seconds, 0.0)
        return np.clip(action, least, most)

    def refuse(self, positions: np.ndarray | None) -> None:
        """Nothing is remembered."""


def checked_limits(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(A,) position limits as float64.

    Raises:
        ConfigError: sizes differ, or a lower limit is not below its upper one.
    """
    low, high = (np.array(x, dtype=np.float64) for x in (low, high))
    if low.shape != high.shape or not np.all(low < high):
        raise ConfigError(f"position limits: low {low.tolist()} must be below high {high.tolist()}")
    return low, high


def within_positions(limits: Limits, low: np.ndarray, high: np.ndarray) -> Limits:
    """Limits of an action that is itself a position, inside the position limits.

    Raises:
        ConfigError: nothing is left between them.
    """
    low, high = np.maximum(limits.low, low), np.minimum(limits.high, high)
    if not np.all(low < high):
        raise ConfigError(
            f"position limits: they leave nothing of the action's bounds "
            f"{limits.low.tolist()} .. {limits.high.tolist()}"
        )
    return Limits(low, high, limits.max_rate)


def tightened(limits: Limits, kind: str, dt_s: float, joints: list[JointLimit]) -> Limits:
    """Limits of an action that obey the greatest speeds and efforts of its joints, too.

    A speed bounds a velocity, the change of a position, and, over a control period, how far a
    joint may be told to go.

    Args:
        limits: of the action.
        kind: of the action.
        dt_s: control period, seconds.
        joints: of the action, in its order.

    Raises:
        ConfigError: nothing is left between the bounds of an action.
    """
    speed = np.array([joint.speed for joint in joints])
    if kind == "position":
        rate = np.full(len(speed), np.inf) if limits.max_rate is None else limits.max_rate
        rate = np.minimum(rate, speed)
        return Limits(limits.low, limits.high, np.minimum(rate, NO_LIMIT))
    if kind == "position_delta":
        most = speed * dt_s
    elif kind == "effort":
        most = np.array([joint.effort for joint in joints])
    else:
        most = speed
    low, high = np.maximum(limits.low, -most), np.minimum(limits.high, most)
    if not np.all(low < high):
        raise ConfigError(
            f"robot_description: its joints reach {most.tolist()}, the action's bounds are "
            f"{limits.low.tolist()} .. {limits.high.tolist()}: nothing is left"
        )
    return Limits(low, high, limits.max_rate)
