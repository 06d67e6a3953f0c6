"""What a planner would see and feel of a robot, gathered by a node beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState

from wm_planner.data.alignment import tolerances
from wm_planner.data.joints import JointCollector
from wm_planner.embodiment import Embodiment
from wm_planner.robot import observation_topic
from wm_planner.ros.conversions import image_array, to_ns
from wm_planner.ros.qos import SENSOR

PICTURES: dict[str, type] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
}
TOGETHER_S = 0.5  # picture and joints of one goal lie no further apart


class View:
    """Newest pictures of all cameras, and newest proprioception.

    Args:
        node: to listen with.
        body: of the robot, whose camera nodes run.
        joint_states: topic of its joints.
        on_picture: (stamp, picture) called when a camera's picture completes the view.
        on_proprio: (stamp, proprioception) called with each.

    Attributes:
        proprio: (P,) float32; None before the first.
    """

    def __init__(
        self,
        node: Node,
        body: Embodiment,
        joint_states: str,
        on_picture: Callable[[int, np.ndarray], None] | None = None,
        on_proprio: Callable[[int, np.ndarray], None] | None = None,
    ) -> None:
        self._node, self._body, self._joint_states = node, body, joint_states
        # As the planner joins them.
        self._joints = JointCollector(body.proprio, tolerances(body).joint_gap_ns)
        self._needed = [camera.name for camera in self._body.cameras if not camera.optional]
        self._on_picture, self._on_proprio = on_picture, on_proprio
        self.proprio: np.ndarray | None = None
        self._proprio_ns = 0
        self._images: dict[str, tuple[int, np.ndarray]] = {}
        for camera in self._body.cameras:
            topic = observation_topic(self._body, camera.name)
            callback = partial(self._on_image, camera.name)
            node.create_subscription(Image, topic, callback, SENSOR)
        node.create_subscription(JointState, joint_states, self._on_joints, SENSOR)

    def _on_image(self, name: str, message: Image) -> None:
        self._images[name] = to_ns(message.header.stamp), image_array(message)
        if self._on_picture is not None and name == self._needed[0] and not self._unseen():
            self._on_picture(self._images[name][0], self.picture())

    def _on_joints(self, message: JointState) -> None:
        stamp_ns = to_ns(message.header.stamp) or self._node.get_clock().now().nanoseconds
        values = self._joints.add(message, stamp_ns)
        if values is None:  # another device's message, or joints that come in several
            return
        self._proprio_ns, self.proprio = stamp_ns, values
        if self._on_proprio is not None:
            self._on_proprio(stamp_ns, values)

    def _unseen(self) -> list[str]:
        return [name for name in self._needed if name not in self._images]

    def complete(self) -> bool:
        """Whether pictures and joints of one moment are there."""
        if self.proprio is None or self._unseen():
            return False
        stamps = [self._images[name][0] for name in self._needed] + [self._proprio_ns]
        return max(stamps) - min(stamps) <= TOGETHER_S * 1e9

    def missing(self) -> str:
        """What keeps it from being complete."""
        parts = [f"no picture of camera '{name}' came" for name in self._unseen()]
        if self.proprio is None:
            missing = self._joints.missing
            why = f" (nobody sends {missing[0]})" if missing else ""
            parts.append(f"no joints came on {self._joint_states}{why}")
        if not parts:
            parts.append(
                f"pictures and joints are more than {TOGETHER_S:g} s apart by their stamps"
            )
        return "; ".join([*parts, "'wm-planner robot check' says more"])

    def picture(self) -> np.ndarray:
        """(S, C * S, 3) uint8: the cameras side by side, black where an optional one is silent."""
        size = self._body.image_size
        black = np.zeros((size, size, 3), np.uint8)
        tiles = [self._images.get(c.name, (0, black))[1] for c in self._body.cameras]
        return np.concatenate(tiles, axis=1)
