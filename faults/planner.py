"""The graph with the real planner: the shipped arm, its simulator, and a shipped checkpoint."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from faults.fault import PLANNER
from faults.stage import Stage
from faults.wire import Wire
from wm_planner.bringup import NodeSpec, RunOptions, bring_up
from wm_planner.data.prepare import prepare
from wm_planner.models.catalog import resolve_checkpoint
from wm_planner.robot import RobotFile, read_robot
from wm_planner.ros.conversions import image_array, image_message, joint_state_message
from wm_planner.ros.qos import LATCHED, RELIABLE

ROBOT = Path(__file__).parents[1] / "config" / "robots" / "arm_reach.yaml"
TRUE = "/true"  # where the driver publishes; the campaign hands on


class Relay(Node):
    """Hands on what the driver publishes, and keeps the goal that the driver shows."""

    def __init__(self, robot: RobotFile, **options: Any) -> None:
        super().__init__("campaign_relay", **options)
        source = robot.cameras["front"]
        self._source = source
        self.goal: np.ndarray | None = None
        self.goal_joints: JointState | None = None
        self.joints = Wire(self.create_publisher(JointState, robot.joint_states, RELIABLE))
        self.pictures = Wire(self.create_publisher(Image, source.topic, RELIABLE))
        self.create_subscription(JointState, TRUE + robot.joint_states, self.joints.send, RELIABLE)
        self.create_subscription(Image, TRUE + source.topic, self.pictures.send, RELIABLE)
        assert robot.driver is not None
        name = robot.driver.name
        self.create_subscription(Image, f"/{name}/goal_image", self._on_goal, LATCHED)
        self.create_subscription(JointState, f"/{name}/goal_joint_states", self._on_joints, LATCHED)

    def _on_goal(self, message: Image) -> None:
        self.goal = prepare(image_array(message), self._source.crop, self._source.size)

    def _on_joints(self, message: JointState) -> None:
        self.goal_joints = message


class PlannerStage(Stage):
    """See the module; the joint states and the pictures go through this process."""

    kind = PLANNER

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._goals: list[tuple[np.ndarray, JointState]] = []

    def read_robot(self) -> RobotFile:
        """The shipped one."""
        return read_robot(ROBOT)

    def specs(self) -> list[NodeSpec]:
        """As `robot run` starts them, with a checkpoint that may be spoilt."""
        self.checkpoint = str(self.directory / "checkpoint")
        shutil.copytree(resolve_checkpoint("arm_reach-base"), self.checkpoint, dirs_exist_ok=True)
        options = RunOptions(
            str(self.directory), str(self.bags), self.checkpoint, activate=True, imagine=False
        )
        self.processes.heavy.add("planner_node")
        specs = []
        topics = (self.robot.joint_states, self.robot.cameras["front"].topic)
        for spec in bring_up(self.robot, options):
            if self.robot.driver is not None and spec.name == self.robot.driver.name:
                spec = replace(spec, remappings={topic: TRUE + topic for topic in topics})
            specs.append(spec)
        return specs

    def make_nodes(self) -> list[Any]:
        """The relay."""
        self.relay = Relay(self.robot, context=self.context)
        self.joints, self.pictures, self.plans = self.relay.joints, self.relay.pictures, None
        return [self.relay]

    def __enter__(self) -> PlannerStage:
        super().__enter__()
        for _ in range(2):  # a robot that has arrived does not move
            self._goals.append(self._next_goal())
        self.set_goal()
        return self

    def _next_goal(self) -> tuple[np.ndarray, JointState]:
        """Picture and joints of the next goal that the driver draws."""
        assert self.robot.driver is not None
        relay = self.relay
        relay.goal = relay.goal_joints = None
        if self._goals or not self.until(lambda: relay.goal is not None, 20.0):
            self.peer.trigger(f"/{self.robot.driver.name}/reset")
        self.until(lambda: relay.goal is not None and relay.goal_joints is not None, 60.0)
        assert relay.goal is not None and relay.goal_joints is not None, "the driver shows no goal"
        return relay.goal, relay.goal_joints

    def prepare(self) -> None:
        """The other goal."""
        self.set_goal()

    def stamp_ns(self) -> int:
        """Now, by the robot's clock."""
        return self.wall_ns()

    def goal_state(self) -> JointState:
        """The joints of the goal, stamped now."""
        shown = self._goals[0][1]
        place = dict(zip(shown.name, shown.position, strict=True))
        names = self.robot.proprio
        values = np.array([place[name.rpartition("/")[0]] for name in names])
        return joint_state_message(values, names, self.stamp_ns())

    def set_goal(self) -> None:
        """Ask for the goal that is not asked for."""
        self._goals.reverse()
        state = self.goal_state()
        self.peer.publisher(JointState, "goal/joint_states", LATCHED).publish(state)
        picture = image_message(self._goals[0][0], 0)
        picture.header.stamp = state.header.stamp
        self.peer.publisher(Image, "goal/image", LATCHED).publish(picture)
