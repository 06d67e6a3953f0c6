"""What a simulated driver offers beside a robot's topics: goals of its own, and another start."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from wm_planner.data.prepare import prepare
from wm_planner.robot import RobotFile
from wm_planner.ros.conversions import image_array, proprio_array, to_ns
from wm_planner.ros.qos import LATCHED
from wm_planner.view.answer import answer_of
from wm_planner.view.board import Board

if TYPE_CHECKING:
    from wm_planner.ros.base import NodeBase


class SimulatedDriver:
    """Puts the driver's goals on the board; no real robot has any.

    Args:
        node: that listens.
        robot: whose driver it is.
        name: of the driver's node.
        board: that receives the goals.
    """

    def __init__(self, node: NodeBase, robot: RobotFile, name: str, board: Board) -> None:
        self._robot, self._board = robot, board
        self._picture: tuple[int, np.ndarray] | None = None
        self._proprio: tuple[int, np.ndarray] | None = None
        node.create_subscription(Image, f"/{name}/goal_image", self._on_picture, LATCHED)
        node.create_subscription(JointState, f"/{name}/goal_joint_states", self._on_joints, LATCHED)
        self._reset: Any = node.create_client(Trigger, f"/{name}/reset")

    def reset(self) -> Future | None:
        """Put the robot at another start, with another goal; None: the driver has no such thing."""
        if not self._reset.service_is_ready():
            return None
        return answer_of(self._reset.call_async(Trigger.Request()))

    def _on_picture(self, message: Image) -> None:
        source = next(iter(self._robot.cameras.values()))
        picture = prepare(image_array(message), source.crop, source.size)
        self._picture = to_ns(message.header.stamp), picture
        self._join()

    def _on_joints(self, message: JointState) -> None:
        self._proprio = to_ns(message.header.stamp), proprio_array(message, self._robot.proprio)
        self._join()

    def _join(self) -> None:
        if self._picture is None or self._proprio is None or self._picture[0] != self._proprio[0]:
            return
        self._board.can_reset = True
        self._board.keep_goal("the simulator's goal", self._picture[1], self._proprio[1])
