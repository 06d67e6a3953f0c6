"""Between ROS messages and the package's plain values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from wm_planner.config import suggest
from wm_planner.data.image_message import image_array as image_array  # for those who convert here
from wm_planner.data.messages import POINT_FIELDS, point_rows
from wm_planner.data.messages import proprio_array as proprio_array
from wm_planner.errors import ConfigError
from wm_planner.types import Plan

MAX_POINTS = 2000  # of a plan: 200 s at 10 Hz
MAX_NAMES = 1000  # of a trajectory


def to_time(stamp_ns: int) -> Time:
    """Nanoseconds to a message stamp."""
    return Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def to_ns(stamp: Time) -> int:
    """Message stamp to nanoseconds."""
    return stamp.sec * 10**9 + stamp.nanosec


def image_message(image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Image:
    """(H, W, 3) uint8 RGB to a message; height 0 clears a goal."""
    message = Image()
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id = frame_id
    message.height, message.width = image.shape[:2]
    message.encoding = "rgb8"
    message.step = 3 * message.width
    message.data = np.ascontiguousarray(image).tobytes()
    return message


def joint_state_message(proprio: np.ndarray, names: Sequence[str], stamp_ns: int) -> JointState:
    """(P,) values named '<joint>/<position|velocity|effort>' to a message."""
    joints = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
    values = dict(zip(names, map(float, proprio), strict=True))
    message = JointState(name=joints)
    message.header.stamp = to_time(stamp_ns)
    message.position = [values.get(f"{joint}/position", 0.0) for joint in joints]
    for field in ("velocity", "effort"):
        if any(name.endswith(f"/{field}") for name in names):
            setattr(message, field, [values.get(f"{joint}/{field}", 0.0) for joint in joints])
    return message


def check_interface(interface: str) -> str:
    """Return `interface` if it is one.

    Raises:
        ConfigError: it is not.
    """
    if interface not in POINT_FIELDS:
        raise ConfigError(
            f"unknown command_interface '{interface}'.{suggest(interface, POINT_FIELDS)}"
        )
    return interface


def plan_message(plan: Plan, names: Sequence[str], interface: str) -> JointTrajectory:
    """Plan to a trajectory stamped with the observation's capture time."""
    message = JointTrajectory(joint_names=list(names))
    message.header.stamp = to_time(plan.stamp_ns)
    for i, action in enumerate(plan.actions):
        point = JointTrajectoryPoint()
        setattr(point, POINT_FIELDS[interface], [float(value) for value in action])
        passed = i * plan.dt_ns
        point.time_from_start = Duration(sec=passed // 10**9, nanosec=passed % 10**9)
        message.points.append(point)
    return message


def plan_from_message(
    message: JointTrajectory, names: Sequence[str], interface: str, dt_ns: int
) -> Plan:
    """Trajectory to plan; values are not judged here, non-finite ones included.

    Raises:
        ValueError: other joints than `names`, no points or more than `MAX_POINTS`, points without
            a value per joint, or another spacing than 0, `dt_ns`, 2 `dt_ns` ...
    """
    if len(message.joint_names) > MAX_NAMES:
        raise ValueError(
            f"it names {len(message.joint_names)} joints, at most {MAX_NAMES} are read"
        )
    if len(message.points) > MAX_POINTS:
        raise ValueError(f"it has {len(message.points)} points, at most {MAX_POINTS} are read")
    if list(message.joint_names) != list(names):
        raise ValueError(f"it is for {message.joint_names}, this robot takes {list(names)}")
    rows = point_rows(message, interface)
    if not rows or {len(row) for row in rows} != {len(names)}:
        raise ValueError(f"it needs points that carry one '{interface}' value per joint")
    times = [to_ns(point.time_from_start) for point in message.points]
    if times != [i * dt_ns for i in range(len(rows))]:
        raise ValueError(f"its points must begin at 0 and be {dt_ns} ns apart")
    return Plan(to_ns(message.header.stamp), dt_ns, np.array(rows, dtype=np.float32))


def action_array(message: JointTrajectory, interface: str, size: int) -> np.ndarray | None:
    """(size,) float64 action of a one-point trajectory; None when it carries something else."""
    if len(message.points) != 1:
        return None
    (values,) = point_rows(message, interface)
    return np.array(values) if len(values) == size else None


def command_message(
    action: np.ndarray, names: Sequence[str], interface: str, stamp_ns: int, dt_ns: int
) -> JointTrajectory:
    """One action as a one-point trajectory that holds for a control period."""
    point = JointTrajectoryPoint()
    setattr(point, POINT_FIELDS[interface], [float(value) for value in action])
    point.time_from_start = Duration(sec=dt_ns // 10**9, nanosec=dt_ns % 10**9)
    message = JointTrajectory(joint_names=list(names), points=[point])
    message.header.stamp = to_time(stamp_ns)
    return message
