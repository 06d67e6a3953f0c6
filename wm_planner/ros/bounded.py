"""Subscriptions that look at a message's size before they look into it.

rclpy makes a Python object of every point and every name: a plan of 100,000 points takes seconds,
in which nothing else of the node runs. So messages come as bytes here, and what is too large is
refused before it is converted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from wm_planner.ros.conversions import MAX_NAMES, MAX_POINTS

KIB, MIB = 2**10, 2**20
# Greatest size of a message, serialised; of any other kind a MiB.
MAX_BYTES: dict[type, int] = {
    JointState: 256 * KIB,  # some thousand joints
    JointTrajectory: 4 * MIB,
    String: 16 * MIB,  # a robot's description
    Image: 64 * MIB,
    CompressedImage: 64 * MIB,
}
_WARN_EVERY_S = 5.0


def bounded(
    node: Node, kind: type, topic: str, callback: Callable[[Any], None]
) -> Callable[[bytes], None]:
    """`callback` for the bytes of a message; what is too large is named in the log instead.

    Args:
        node: that listens.
        kind: message type. Of a JointTrajectory points and names are bounded, too.
        topic: name of the topic.
        callback: takes a message.
    """
    full_name = node.resolve_topic_name(topic)

    def on_bytes(data: bytes) -> None:
        why = excess(data, kind)
        if why:
            node.get_logger().error(
                f"{full_name}: message refused: {why}", throttle_duration_sec=_WARN_EVERY_S
            )
        else:
            callback(deserialize_message(data, kind))

    return on_bytes


def excess(data: bytes, kind: type) -> str:
    """What of a serialised message is beyond its bounds, in words; '' when nothing is."""
    if kind is JointTrajectory:
        num_names, num_points = trajectory_size(data)
        if num_names > MAX_NAMES:
            return f"it names {num_names} joints, at most {MAX_NAMES} are read"
        if num_points > MAX_POINTS:
            return f"it has {num_points} points, at most {MAX_POINTS} are read"
    most = MAX_BYTES.get(kind, MIB)
    if len(data) > most:
        return f"it has {len(data)} bytes, at most {most} are read"
    return ""


def trajectory_size(data: bytes) -> tuple[int, int]:
    """Names and points of a serialised JointTrajectory, without converting it.

    Points are not counted behind more than `MAX_NAMES` names. What is cut off has none.
    """
    order = "<" if data[1:2] == b"\x01" else ">"
    at = 12  # behind the encapsulation and the stamp

    def count() -> int:
        nonlocal at
        at += -at % 4
        (value,) = struct.unpack_from(f"{order}I", data, at)
        at += 4
        return int(value)

    def skip_text() -> None:
        nonlocal at
        size = count()
        at += size

    num_names = 0
    try:
        skip_text()  # frame_id
        num_names = count()
        if num_names > MAX_NAMES:
            return num_names, 0
        for _ in range(num_names):
            skip_text()
        return num_names, count()
    except struct.error:
        return num_names, 0
