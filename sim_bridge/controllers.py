"""The controllers of ros2_control, as far as a simulated arm has them.

Each holds what it was last told, and says with what velocities the joints shall move now. Times
are seconds of one monotonic clock.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sim_bridge.envs.arm import JOINTS, TICK_S, ArmEnv

MAX_JOINT_SPEED = np.pi  # rad/s: a UR5e's
MAX_TIP_SPEED = 0.5  # m/s


class Controller(Protocol):
    """What moves the arm."""

    def joint_velocities(self, arm: ArmEnv, now_s: float) -> np.ndarray:
        """(6,) rad/s for the tick that begins now."""


@dataclass(frozen=True)
class ForwardVelocity:
    """forward_command_controller with velocities: goes on for ever, unless `ends_s` is finite."""

    velocities: np.ndarray
    ends_s: float = math.inf

    def joint_velocities(self, arm: ArmEnv, now_s: float) -> np.ndarray:
        """The velocities, and zero when they have ended."""
        wanted = self.velocities if now_s < self.ends_s else np.zeros(len(JOINTS))
        return np.clip(wanted, -MAX_JOINT_SPEED, MAX_JOINT_SPEED)


@dataclass(frozen=True)
class ForwardPosition:
    """forward_command_controller with positions: as fast there as the joints can, and stay."""

    positions: np.ndarray

    def joint_velocities(self, arm: ArmEnv, now_s: float) -> np.ndarray:
        """What is there within the tick."""
        return approach(arm, self.positions)


@dataclass(frozen=True)
class TipTwist:
    """Servoing of the tip; the scene says how an x, y velocity of the tip moves the joints."""

    velocity: np.ndarray
    ends_s: float = math.inf

    def joint_velocities(self, arm: ArmEnv, now_s: float) -> np.ndarray:
        """Those that move the tip so, and keep it where it is when the command has ended."""
        wanted = self.velocity if now_s < self.ends_s else np.zeros_like(self.velocity)
        return arm.joint_velocities(np.clip(wanted, -MAX_TIP_SPEED, MAX_TIP_SPEED))


@dataclass(frozen=True)
class JointTrajectory:
    """joint_trajectory_controller: from point to point, then the last position is held.

    Attributes:
        times_s: (n,) of the points, the first being where the joints were.
        positions: (n, 6), rad.
        velocities: (n, 6), rad/s; None: straight lines between the points.
    """

    times_s: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray | None = None

    def joint_velocities(self, arm: ArmEnv, now_s: float) -> np.ndarray:
        """What is at the trajectory's place at the end of the tick."""
        return approach(arm, self.at(now_s + TICK_S))

    def at(self, time_s: float) -> np.ndarray:
        """(6,) positions of a time; cubic between points that have velocities, as JTC's."""
        times = self.times_s
        if time_s >= times[-1]:
            return self.positions[-1]
        i = max(int(np.searchsorted(times, time_s, side="right")) - 1, 0)
        span = times[i + 1] - times[i]
        t = min(max((time_s - times[i]) / span, 0.0), 1.0)
        start, end = self.positions[i], self.positions[i + 1]
        if self.velocities is None:
            return start + t * (end - start)
        first, last = span * self.velocities[i], span * self.velocities[i + 1]
        bend = first + last - 2 * (end - start)
        return start + t * (first + t * (3 * (end - start) - 2 * first - last + t * bend))


def approach(arm: ArmEnv, positions: np.ndarray) -> np.ndarray:
    """(6,) velocities that reach `positions` in a tick, or as fast as the joints can."""
    return np.clip((positions - arm.joints) / TICK_S, -MAX_JOINT_SPEED, MAX_JOINT_SPEED)


def trajectory_of(
    message: Any, joints: np.ndarray, now_s: float, now_ns: int
) -> tuple[JointTrajectory | None, str]:
    """A trajectory_msgs/JointTrajectory as a controller, or None and why JTC would refuse it.

    Args:
        message: the message.
        joints: (6,) where the joints are, rad.
        now_s: monotonic time.
        now_ns: the same moment in the time of the message's stamp.
    """
    names, points = list(message.joint_names), list(message.points)
    if sorted(names) != sorted(JOINTS):
        return None, f"joints {names} don't match the controller's {list(JOINTS)}"
    if not points:
        return None, "empty trajectory"
    rows = [points_row(point, len(names)) for point in points]
    for number, row in enumerate(rows):
        if isinstance(row, str):
            return None, f"point {number}: {row}"
    passed = [_seconds(point.time_from_start) for point in points]
    if any(later <= earlier for earlier, later in itertools.pairwise(passed)):
        return None, "time between points is not strictly increasing"
    if any(abs(value) > 1e-6 for value in points[-1].velocities):
        return None, "velocity of the last point is not zero"
    stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    begin_s = now_s if stamp_ns == 0 else now_s + (stamp_ns - now_ns) / 1e9
    if stamp_ns and begin_s + passed[-1] < now_s:
        return None, f"it ends {now_s - begin_s - passed[-1]:.3f} s in the past"
    order = [names.index(joint) for joint in JOINTS]
    times = np.array([begin_s + second for second in passed])
    places = np.array([point.positions for point in points])[:, order]
    ahead = times > now_s
    if not ahead.any():  # a single point for now
        ahead[-1] = True
    times = np.concatenate([[now_s], np.maximum(times[ahead], now_s + TICK_S)])
    places = np.concatenate([[joints], places[ahead]])
    speeds = None
    if all(len(point.velocities) for point in points):
        speeds = np.array([point.velocities for point in points])[ahead][:, order]
        speeds = np.concatenate([np.zeros((1, len(JOINTS))), speeds])
    return JointTrajectory(times, places, speeds), ""


def points_row(point: Any, size: int) -> str | None:
    """Why JTC refuses a point; None: it does not."""
    if not len(point.positions):
        return "it has no positions"
    if len(point.effort):
        return "trajectories with effort are not supported"
    for field in ("positions", "velocities", "accelerations"):
        values: Sequence[float] = getattr(point, field)
        if len(values) not in (size, 0):
            return f"{len(values)} {field} for {size} joints"
        if not np.isfinite(values).all():
            return f"{field} are not finite"
    return None


def _seconds(duration: Any) -> float:
    return duration.sec + duration.nanosec / 1e9
