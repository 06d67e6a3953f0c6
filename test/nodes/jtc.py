"""What joint_trajectory_controller refuses, by its own rules: a double for tests.

After `validate_trajectory_msg` of ros2_controllers, whose branches humble, jazzy, kilted and master
agree but for efforts, with the parameters' defaults: no partial goals, no integration, no velocity
at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

EPSILON = 1.1920929e-07  # std::numeric_limits<float>::epsilon()


def ns(time: Any) -> int:
    return time.sec * 10**9 + time.nanosec


def refusal(message: Any, joints: Sequence[str], now_ns: int) -> str:
    """Why a trajectory_msgs/JointTrajectory is refused at `now_ns` of its clock; '' when not."""
    names, points = list(message.joint_names), list(message.points)
    if len(names) != len(joints):
        return "joints on incoming trajectory don't match the controller joints"
    if not points:
        return "empty trajectory received"
    for name in names:
        if name not in joints:
            return f"incoming joint {name} doesn't match the controller's joints"
    if any(abs(velocity) > EPSILON for velocity in points[-1].velocities):
        return "velocity of last trajectory point is not zero"
    start_ns = ns(message.header.stamp)
    if start_ns and start_ns + ns(points[-1].time_from_start) < now_ns:
        return "non-zero start time that ends in the past"
    before_ns = 0
    for number, point in enumerate(points):
        due_ns = ns(point.time_from_start)
        if number and due_ns <= before_ns:
            return "time between points is not strictly increasing"
        before_ns = due_ns
        if len(point.positions) != len(names):
            return f"mismatch between joint_names and positions at point {number}"
        for field in (point.velocities, point.accelerations):
            if len(field) not in (0, len(names)):
                return f"mismatch between joint_names and velocities at point {number}"
        if len(point.effort):
            return "trajectories with effort fields are not supported"
    return ""
