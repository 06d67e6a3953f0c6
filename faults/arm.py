"""A simulated arm and its camera: joint velocities in, joint states and pictures out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray

from faults.wire import Wire
from wm_planner.robot import RobotFile
from wm_planner.ros.conversions import image_message, to_time

STATE_S = 0.02


class Arm(Node):
    """Moves as it is told by the newest command, for ever, as behind a forward controller.

    Its stamps are those of a wall clock that `offset_ns` has stepped.

    Args:
        robot: whose topics and joints it has.
        seed: of the pictures' noise.
        size: of the pictures, pixels.
        picture_s: from one to the next.
        options: of `rclpy.node.Node`.
    """

    def __init__(
        self,
        robot: RobotFile,
        seed: int,
        size: int = 96,
        picture_s: float = 0.07,
        **options: Any,
    ) -> None:
        super().__init__("campaign_arm", **options)
        self._size = size
        self._names = list(robot.action.names)
        self._rng = np.random.default_rng(seed)
        self._low, self._high = np.full(len(self._names), -1.5), np.full(len(self._names), 1.5)
        self.positions = np.zeros(len(self._names))
        self.velocities = np.zeros(len(self._names))
        self.offset_ns = 0
        self._moved_s = time.monotonic()
        joints = self.create_publisher(JointState, robot.joint_states, 10)
        pictures = self.create_publisher(Image, robot.cameras["front"].topic, 5)
        self.joints, self.pictures = Wire(joints), Wire(pictures)
        self.create_subscription(
            Float64MultiArray, robot.command.topic, self._on_command, qos_profile_sensor_data
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(STATE_S, self._on_state, clock=steady)
        self.create_timer(picture_s, self._on_picture, clock=steady)

    def stamp_ns(self) -> int:
        """Now, by the robot's clock."""
        return time.time_ns() + self.offset_ns

    def _on_command(self, message: Float64MultiArray) -> None:
        values = np.array(message.data)
        if values.shape == self.velocities.shape and np.isfinite(values).all():
            self._move()
            self.velocities = values

    def _move(self) -> None:
        now_s = time.monotonic()
        step = self.velocities * (now_s - self._moved_s)
        self.positions = np.clip(self.positions + step, self._low, self._high)
        self._moved_s = now_s

    def _on_state(self) -> None:
        self._move()
        message = JointState(name=self._names, position=self.positions.tolist())
        message.velocity = self.velocities.tolist()
        message.header.stamp = to_time(self.stamp_ns())
        self.joints.send(message)

    def _on_picture(self) -> None:
        self._move()
        self.pictures.send(image_message(self.picture(), self.stamp_ns(), "arm_camera"))

    def picture(self) -> np.ndarray:
        """(size, size, 3) uint8 RGB: a bar for each joint, and the noise of a sensor."""
        size = self._size
        rows = np.linspace(60, 180, size, dtype=np.float32)[:, None, None]
        image = np.broadcast_to(rows, (size, size, 3)).copy()
        for joint, position in enumerate(self.positions):
            top = 10 + 28 * joint
            left = int(np.clip((position + 1.6) / 3.2 * (size - 12), 0, size - 12))
            image[top : top + 20, left : left + 12, joint % 3] = 255
            image[top : top + 20, left : left + 12, (joint + 1) % 3] = 20
        image += self._rng.normal(0, 3, image.shape)
        return np.clip(image, 0, 255).astype(np.uint8)
