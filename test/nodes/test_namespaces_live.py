"""Two robots in one graph, each in a namespace of its own, and parameters that reach the wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from sim_bridge.bridge_node import BridgeNode
from wm_planner.errors import ConfigError
from wm_planner.nodes.camera_node import CameraNode
from wm_planner.nodes.controller_node import ControllerNode
from wm_planner.nodes.finetune_node import FinetuneNode
from wm_planner.ros import diagnostics
from wm_planner.ros.base import NodeBase
from wm_planner.ros.conversions import image_message, joint_state_message, plan_message
from wm_planner.ros.parameters import check_parameter_files
from wm_planner.ros.qos import COMMAND, EVENTS, RECORD, RELIABLE
from wm_planner.types import Plan

JOINTS = ("slide_x", "slide_y")
POSITIONS = tuple(f"{name}/position" for name in JOINTS)
CONTROLLER = {
    "action_names": list(JOINTS),
    "low": [-1.0, -1.0],
    "high": [1.0, 1.0],
    "max_rate": [0.0, 0.0],
    "safe_action": [0.0, 0.0],
    "adapter": "forward",
    "stale_after_s": 30.0,
}


class Robot:
    """Controller and recorder in a namespace, and who would drive them there."""

    def __init__(self, graph, namespace: str, bags) -> None:
        self.graph = graph
        self.commands: list[list[float]] = []
        self.told: set[str] = set()
        options = {"context": graph.context, "namespace": namespace}
        overrides = [Parameter(name, value=value) for name, value in CONTROLLER.items()]
        self.controller = graph.serve(ControllerNode(parameter_overrides=overrides, **options))
        self.controller.trigger_configure()
        output = [Parameter("output", value=str(bags))]
        self.recorder = graph.serve(FinetuneNode(parameter_overrides=output, **options))
        node = self.node = graph.serve(NodeBase("person", **options))
        node.create_subscription(
            Float64MultiArray, "command", lambda m: self.commands.append(list(m.data)), COMMAND
        )
        node.hear_diagnostics(lambda m: self.told.update(status.name for status in m.status))
        self._out = {
            kind: node.create_publisher(kind, topic, profile)
            for kind, topic, profile in (
                (JointTrajectory, "plan", COMMAND),
                (JointState, "joint_states", RELIABLE),
                (Image, "observation/image", RELIABLE),
                (DiagnosticStatus, "episode", EVENTS),
            )
        }

    def feed(self) -> None:
        now_ns = self.node.get_clock().now().nanoseconds
        picture = image_message(np.zeros((8, 8, 3), np.uint8), now_ns)
        plan = Plan(now_ns, 10**8, np.full((100, 2), 0.5, np.float32))
        self._out[JointState].publish(joint_state_message(np.zeros(2), POSITIONS, now_ns))
        self._out[Image].publish(picture)
        self._out[JointTrajectory].publish(plan_message(plan, JOINTS, "velocity"))

    def event(self, kind: str) -> None:
        values = {"episode": 0, "stamp_ns": self.node.get_clock().now().nanoseconds}
        told = diagnostics.status("episode", diagnostics.OK, kind, values)
        self._out[DiagnosticStatus].publish(told)


def test_two_robots_in_one_graph_do_not_hear_each_other(graph, tmp_path):
    left, right = (Robot(graph, name, tmp_path / name) for name in ("left", "right"))
    names: set[str] = set()
    everybody = graph.peer("everybody")
    everybody.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: names.update(s.name for s in m.status), RECORD
    )
    for robot in (left, right):
        robot.controller.trigger_activate()

    def moves() -> bool:
        left.feed()
        return bool(left.commands) and left.commands[-1] == [0.5, 0.5] and bool(right.commands)

    graph.until(moves, "motion of the left one", 60.0)
    left.event("start")
    graph.until(lambda: left.recorder._recorder.recording, "the left recording")
    assert all(command == [0.0, 0.0] for command in right.commands)
    assert not right.recorder._recorder.recording
    assert graph.call(right.node, Trigger, "controller_node/stop").success
    count = len(left.commands)
    graph.until(lambda: moves() and len(left.commands) > count, "motion of the left one", 60.0)
    wanted = {"left/controller_node: command", "right/controller_node: command"}
    graph.until(lambda: wanted <= names, "diagnostics that tell them apart")
    for robot in (left, right):
        graph.until(lambda: "controller_node: command" in robot.told, "its own")  # noqa: B023
        assert not [name for name in robot.told if "/" in name]


def test_a_simulated_robot_waits_for_the_nodes_of_its_own_namespace(graph):
    pytest.importorskip("mujoco")
    bridge = graph.serve(BridgeNode(context=graph.context, namespace="left"))
    for namespace in ("left", "right"):
        graph.serve(NodeBase(f"node_{namespace}", context=graph.context, namespace=namespace))
    graph.until(lambda: bridge.missing(("node_left",)) == [], "its node")
    assert bridge.missing(("node_right",)) == ["node_right"]
    assert {p.topic_name for p in bridge.publishers if "clock" in p.topic_name} == {"/left/clock"}


@pytest.mark.parametrize(
    ("key", "node", "reaches"),
    [
        ("controller_node", "/controller_node", True),
        ("/controller_node", "/controller_node", True),
        ("/**", "/left/controller_node", True),
        ("/**/controller_node", "/controller_node", True),
        ("/**/controller_node", "/a/b/controller_node", True),
        ("/*/controller_node", "/left/controller_node", True),
        ("/left/*", "/left/controller_node", True),
        ("controller_node", "/left/controller_node", False),
        ("/*/controller_node", "/controller_node", False),
        ("/**/controller_node", "/other_name", False),
        ("/right/**", "/left/controller_node", False),
    ],
)
def test_parameters_that_reach_nobody_are_told(graph, tmp_path, key, node, reaches):
    """As ROS itself matches, which drops the others without a word."""
    import rclpy

    file = tmp_path / "parameters.yaml"
    file.write_text(yaml.dump({key: {"ros__parameters": {"size": 64}}}))
    namespace, _, name = node.rpartition("/")
    arguments = ["--ros-args", "--params-file", str(file)]
    plain = rclpy.create_node(
        name,
        namespace=namespace,
        context=graph.context,
        cli_args=arguments,
        automatically_declare_parameters_from_overrides=True,
    )
    assert graph.serve(plain).has_parameter("size") == reaches
    if reaches:
        assert check_parameter_files(node, "controller_node", arguments) == []
    else:
        text = f"{file}: holds nothing for node {node}, only for /{key.lstrip('/')}; write"
        with pytest.raises(ConfigError, match=re.escape(text)):
            check_parameter_files(node, "controller_node", arguments)
        assert key.endswith("**") or check_parameter_files("/camera_node", "camera_node", arguments)


def test_overrides_of_qos_are_refused_not_ignored(graph):
    key = "qos_overrides./observation/image.publisher.reliability"
    with pytest.raises(ConfigError, match="take no QoS overrides"):
        graph.add(CameraNode, **{key: "best_effort"})
