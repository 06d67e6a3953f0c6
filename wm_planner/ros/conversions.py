"""Between ROS messages and the package's plain values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from wm_planner.config import suggest
from wm_planner.errors import ConfigError, ImageSourceError
from wm_planner.types import Plan

# What a robot takes: the field of a trajectory point that carries the action.
INTERFACES = {"position": "positions", "velocity": "velocities", "effort": "effort"}
_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0)}


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


def image_array(message: Image) -> np.ndarray:
    """Message to (H, W, 3) uint8 RGB; 'rgb8' and 'rgba8' are views of the message's bytes.

    Raises:
        ImageSourceError: an encoding that is not 8-bit colour or grey, or too few bytes.
    """
    grey = message.encoding in ("mono8", "8UC1")
    if not grey and message.encoding not in _CHANNELS:
        raise ImageSourceError(
            f"image encoding '{message.encoding}' is not supported."
            f"{suggest(message.encoding, [*_CHANNELS, 'mono8'])}"
        )
    channels = 1 if grey else 4 if "a" in message.encoding else 3
    data = np.frombuffer(message.data, np.uint8)
    needed = message.height * message.step
    if message.step < channels * message.width or data.size < needed:
        raise ImageSourceError(
            f"image of {message.width} x {message.height} '{message.encoding}' needs rows of "
            f"{channels * message.width} bytes, got step {message.step} and {data.size} bytes"
        )
    rows = data[:needed].reshape(message.height, message.step)[:, : channels * message.width]
    pixels = rows.reshape(message.height, message.width, channels)
    if grey:
        return np.repeat(pixels, 3, axis=2)
    order = _CHANNELS[message.encoding]
    return pixels[:, :, :3] if order == (0, 1, 2) else pixels[:, :, list(order)]


def joint_state_message(proprio: np.ndarray, names: Sequence[str], stamp_ns: int) -> JointState:
    """(P,) values named '<joint>/<position|velocity>' to a message."""
    joints = list(dict.fromkeys(name.split("/")[0] for name in names))
    values = dict(zip(names, map(float, proprio), strict=True))
    message = JointState(name=joints)
    message.header.stamp = to_time(stamp_ns)
    message.position = [values.get(f"{joint}/position", 0.0) for joint in joints]
    if any(name.endswith("/velocity") for name in names):
        message.velocity = [values.get(f"{joint}/velocity", 0.0) for joint in joints]
    return message


def proprio_array(message: JointState, names: Sequence[str]) -> np.ndarray:
    """Message to (P,) float32 in the order of `names`.

    Raises:
        ConfigError: the message lacks a joint or the field.
    """
    index = {joint: i for i, joint in enumerate(message.name)}
    values = []
    for name in names:
        joint, _, field = name.partition("/")
        if joint not in index:
            raise ConfigError(f"joint_states has no joint '{joint}'.{suggest(joint, index)}")
        column = getattr(message, field) if field in INTERFACES else ()
        if len(column) <= index[joint]:
            raise ConfigError(f"joint_states has no {field or 'field'} for joint '{joint}'")
        values.append(column[index[joint]])
    return np.array(values, dtype=np.float32)


def check_interface(interface: str) -> str:
    """Return `interface` if it is one.

    Raises:
        ConfigError: it is not.
    """
    if interface not in INTERFACES:
        raise ConfigError(
            f"unknown command_interface '{interface}'.{suggest(interface, INTERFACES)}"
        )
    return interface


def plan_message(plan: Plan, names: Sequence[str], interface: str) -> JointTrajectory:
    """Plan to a trajectory stamped with the observation's capture time."""
    message = JointTrajectory(joint_names=list(names))
    message.header.stamp = to_time(plan.stamp_ns)
    for i, action in enumerate(plan.actions):
        point = JointTrajectoryPoint()
        setattr(point, INTERFACES[interface], [float(value) for value in action])
        passed = i * plan.dt_ns
        point.time_from_start = Duration(sec=passed // 10**9, nanosec=passed % 10**9)
        message.points.append(point)
    return message


def plan_from_message(
    message: JointTrajectory, names: Sequence[str], interface: str, dt_ns: int
) -> Plan:
    """Trajectory to plan; values are not judged here, non-finite ones included.

    Raises:
        ValueError: other joints than `names`, no points, points without a value per joint, or
            another spacing than 0, `dt_ns`, 2 `dt_ns` ...
    """
    if list(message.joint_names) != list(names):
        raise ValueError(f"it is for {message.joint_names}, this robot takes {list(names)}")
    rows = [getattr(point, INTERFACES[interface]) for point in message.points]
    if not rows or {len(row) for row in rows} != {len(names)}:
        raise ValueError(f"it needs points that carry one '{interface}' value per joint")
    times = [to_ns(point.time_from_start) for point in message.points]
    if times != [i * dt_ns for i in range(len(rows))]:
        raise ValueError(f"its points must begin at 0 and be {dt_ns} ns apart")
    return Plan(to_ns(message.header.stamp), dt_ns, np.array(rows, dtype=np.float32))


def action_array(message: JointTrajectory, interface: str, size: int) -> np.ndarray | None:
    """(size,) float64 action of a one-point trajectory; None when it carries something else."""
    values = [getattr(point, INTERFACES[interface]) for point in message.points]
    if len(values) != 1 or len(values[0]) != size:
        return None
    return np.array(values[0])


def command_message(
    action: np.ndarray, names: Sequence[str], interface: str, stamp_ns: int, dt_ns: int
) -> JointTrajectory:
    """One action as a one-point trajectory that holds for a control period."""
    point = JointTrajectoryPoint()
    setattr(point, INTERFACES[interface], [float(value) for value in action])
    point.time_from_start = Duration(sec=dt_ns // 10**9, nanosec=dt_ns % 10**9)
    message = JointTrajectory(joint_names=list(names), points=[point])
    message.header.stamp = to_time(stamp_ns)
    return message
