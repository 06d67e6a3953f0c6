"""Where joints may be, and what of an action would carry them out of there.

Shapes: A = entries of one raw action.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from wm_planner.errors import ConfigError
from wm_planner.runtime.robot_description import JointLimit
from wm_planner.runtime.safety import NO_LIMIT, Limits

PERIODS = 64  # of what was sent: a measurement is not older


class PositionGuard:
    """Cuts velocities and efforts that lead beyond the position limits.

    A velocity is cut to what ends inside: the way that was gone since the position was measured, a
    control period of the velocity, and the way that braking takes. At or beyond a limit nothing
    goes further out; what leads back passes. An effort is cut to zero once the joint, as fast as
    it is, would be beyond the limit at the end of the period: nothing here brakes a joint that
    takes efforts.

    Args:
        kind: of the action: 'velocity' or 'effort'.
        low, high: (A,) limits, radians or metres; infinite where there are none.
        dt_s: control period, seconds.
        max_rate: (A,) by how much a velocity changes per second, as in `Limits`: so the robot
            brakes. None: at once.

    Raises:
        ConfigError: limits that are no limits.
    """

    target = None  # the action itself goes to the robot

    def __init__(
        self,
        kind: str,
        low: np.ndarray,
        high: np.ndarray,
        dt_s: float,
        max_rate: np.ndarray | None = None,
    ) -> None:
        self.kind, self.dt_s = kind, dt_s
        self.low, self.high = checked_limits(low, high)
        self._brake = np.full(len(self.low), np.inf) if max_rate is None else np.array(max_rate)
        self._up, self._down = SpeedBound(self._brake, dt_s), SpeedBound(self._brake, dt_s)
        self._speed = SpeedEstimate(dt_s)

    def begin(self, positions: np.ndarray) -> None:
        """The robot stands still."""
        self._up, self._down = (SpeedBound(self._brake, self.dt_s) for _ in range(2))

    def allow(self, action: np.ndarray, positions: np.ndarray, age_s: float) -> np.ndarray:
        """See `safety.Guard`."""
        if self.kind == "effort":
            ahead = positions + self._speed.of(positions, age_s) * (self.dt_s + age_s)
            least = np.where(np.minimum(positions, ahead) <= self.low, 0.0, -np.inf)
            most = np.where(np.maximum(positions, ahead) >= self.high, 0.0, np.inf)
            return np.clip(action, least, most)
        most = self._up.towards(self.high - positions, age_s)
        least = -self._down.towards(positions - self.low, age_s)
        return self._sent(np.clip(action, least, most))

    def refuse(self, positions: np.ndarray | None) -> None:
        """Zero is sent from now on."""
        self._sent(np.zeros(len(self.low)))
        self._speed = SpeedEstimate(self.dt_s)

    def _sent(self, action: np.ndarray) -> np.ndarray:
        self._up.sent(action)
        self._down.sent(-action)
        return action


class SpeedBound:
    """How fast joints may be in one direction by what they were sent, and how fast they may go.

    A joint takes up a higher speed at once, and a lower one as fast as it brakes.

    Args:
        brake: (A,) change of speed per second; infinite: at once.
        dt_s: control period, seconds.
    """

    def __init__(self, brake: np.ndarray, dt_s: float) -> None:
        self._brake, self._dt_s = brake, dt_s
        self._now = np.zeros(len(brake))
        self._periods: deque[np.ndarray] = deque([self._now], maxlen=PERIODS)  # newest first

    def sent(self, speed: np.ndarray) -> None:
        """Note what a tick sends, (A,) in this direction."""
        speed = np.maximum(speed, 0.0)
        self._periods.appendleft(np.maximum(self._now, speed))
        self._now = np.maximum(speed, self._now - self._brake * self._dt_s)

    def towards(self, room: np.ndarray, age_s: float) -> np.ndarray:
        """(A,) greatest speeds that end within (A,) `room`, measured `age_s` ago."""
        room = np.maximum(room - self._gone(age_s), 0.0)
        with np.errstate(invalid="ignore"):  # of endless room
            braking = self._now**2 / (2 * self._brake)
            slower = np.maximum(room - braking, 0.0) / self._dt_s
            root = np.sqrt(self._dt_s**2 + 2 * room / self._brake)
            # v of which v * dt + v^2 / (2 * brake) is the room
            faster = np.where(np.isinf(room), np.inf, 2 * room / (self._dt_s + root))
        return np.where(faster >= self._now, faster, np.minimum(slower, self._now))

    def _gone(self, seconds: float) -> np.ndarray:
        """(A,) greatest way of the last seconds."""
        gone = np.zeros(len(self._brake))
        for speed in self._periods:
            if seconds <= 0:
                break
            gone = gone + speed * min(seconds, self._dt_s)
            seconds -= self._dt_s
        return gone


class SpeedEstimate:
    """Speeds of joints out of the positions that a guard is shown, one control period apart.

    Args:
        dt_s: control period, seconds.
    """

    def __init__(self, dt_s: float) -> None:
        self._dt_s = dt_s
        self._before: tuple[np.ndarray, float] | None = None  # positions and their age
        self._speed: np.ndarray | None = None

    def of(self, positions: np.ndarray, age_s: float) -> np.ndarray:
        """(A,) per second: zero until two measurements have come."""
        if self._before is not None:
            before, old_s = self._before
            passed_s = self._dt_s + old_s - age_s
            if passed_s > 0.1 * self._dt_s:  # else the same measurement once more
                self._speed = (positions - before) / passed_s
        self._before = np.array(positions), age_s
        return np.zeros(len(positions)) if self._speed is None else self._speed


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
