"""A planner without torch: from each picture a plan that moves every joint to and fro.

It stands in for the planner where that is not what fails. Run as a module it is a process of its
own: ``python -m faults.stand_in``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from faults.wire import Wire
from wm_planner.robot import RobotFile, read_robot
from wm_planner.ros.conversions import plan_message, to_ns
from wm_planner.ros.qos import COMMAND, SENSOR
from wm_planner.ros.run import run_node
from wm_planner.types import Plan

ROBOT = Path(__file__).parent / "arm.yaml"
SPEED, TURN = 0.3, 0.4  # rad/s, and rad from zero where a joint turns back
ROWS = 14


class StandInPlanner(Node):
    """Publishes ``plan``; its numbers are never zero."""

    def __init__(self, robot: RobotFile | None = None, **options: Any) -> None:
        super().__init__("planner_node", **options)
        robot = robot or read_robot(ROBOT)
        self._names, self._dt_ns = list(robot.action.names), robot.embodiment.dt_ns
        self._signs = np.ones(len(self._names))
        self.plans = Wire(self.create_publisher(JointTrajectory, "plan", COMMAND))
        self.create_subscription(Image, "observation/image", self._on_image, SENSOR)
        self.create_subscription(JointState, robot.joint_states, self._on_state, SENSOR)

    def plan(self, stamp_ns: int, seconds: float = 0.0) -> JointTrajectory:
        """A good plan."""
        rows = np.tile(SPEED * self._signs, (ROWS, 1)).astype(np.float32)
        plan = Plan(stamp_ns, self._dt_ns, rows, seconds=seconds)
        return plan_message(plan, self._names, "velocity")

    def _on_state(self, message: JointState) -> None:
        place = dict(zip(message.name, message.position, strict=False))
        for joint, name in enumerate(self._names):
            position = place.get(name, 0.0)
            if position > TURN:
                self._signs[joint] = -1.0
            elif position < -TURN:
                self._signs[joint] = 1.0

    def _on_image(self, message: Image) -> None:
        self.plans.send(self.plan(to_ns(message.header.stamp), time.monotonic()))


def main(args: list[str] | None = None) -> None:
    """Entry point."""
    run_node(StandInPlanner, args)


if __name__ == "__main__":
    main()
