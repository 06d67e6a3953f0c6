"""The policy for SROS2 allows what the nodes of a robot do, and nothing more."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("torch", reason="the planner needs the 'model' extra")

from wm_planner.bringup import NodeSpec, enclave_arguments
from wm_planner.cli.learner_node import LearnerNode
from wm_planner.cli.listener import ENCLAVE as OPERATOR
from wm_planner.cli.sim import child_of
from wm_planner.nodes.camera_node import CameraNode
from wm_planner.nodes.command_guard import CommandGuard
from wm_planner.nodes.controller_node import ControllerNode
from wm_planner.nodes.explore_node import ExploreNode
from wm_planner.nodes.finetune_node import FinetuneNode
from wm_planner.nodes.marker_node import MarkerNode
from wm_planner.nodes.planner_node import PlannerNode
from wm_planner.robot import read_robot
from wm_planner.tasks import get_task
from wm_planner.view.node import ViewNode

from .test_parameter_files import ROOT

POLICY = ROOT / "config" / "security" / "policy.xml"
TEST_ROBOT = Path(__file__).parent / "stand_in.yaml"
LIMITS = {
    "action_names": ["slide_x", "slide_y"],
    "low": [-1.0, -1.0],
    "high": [1.0, 1.0],
    "max_rate": [0.0, 0.0],
    "safe_action": [0.0, 0.0],
    "adapter": "forward",
    "guarded": True,
}
Permissions = dict[tuple[str, str], set[str]]  # (topics or services, qualifier) -> names


def explorer() -> dict:
    robot = read_robot(TEST_ROBOT)
    body = json.dumps(robot.embodiment.to_json())
    return {"embodiment": body, "home": list(robot.home), "recorder": "finetune_node"}


def recorder(tmp_path: Path) -> dict:
    body = json.dumps(get_task("wall").embodiment.to_json())
    return {"output": str(tmp_path), "embodiment": body, "imagined": True}


class ViewerOfWall(ViewNode):
    """The page's node, which has found out which robot is planned for."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self._know(get_task("wall").embodiment, "joint_states")


# Every node of a robot, each with the settings that make it use most topics.
NODES = {
    "camera_node": (CameraNode, lambda _: {"fail_after_s": 0.0}),
    "planner_node": (PlannerNode, lambda _: {"checkpoint": "wall-base"}),
    "controller_node": (
        ControllerNode,
        lambda _: {**LIMITS, "position_limits": "robot_description"},
    ),
    "command_guard": (
        CommandGuard,
        lambda _: {key: LIMITS[key] for key in ("action_names", "safe_action", "adapter")},
    ),
    "finetune_node": (FinetuneNode, recorder),
    "learner": (LearnerNode, lambda _: {}),
    "marker_node": (MarkerNode, lambda _: {"embodiment": explorer()["embodiment"]}),
    "view_node": (ViewerOfWall, lambda _: {}),
    "explore_node": (ExploreNode, lambda _: {**explorer(), "use_description": True}),
}


def used_by(node, graph) -> Permissions:
    """What a node publishes, hears, answers and asks for, by its own names."""
    name, namespace = node.get_name(), node.get_namespace()
    found: Permissions = {}
    for kind, qualifier, ask in (
        ("topics", "publish", node.get_publisher_names_and_types_by_node),
        ("topics", "subscribe", node.get_subscriber_names_and_types_by_node),
        ("services", "reply", node.get_service_names_and_types_by_node),
        ("services", "request", node.get_client_names_and_types_by_node),
    ):
        names = {relative(topic, name) for topic, _ in ask(name, namespace)}
        if names:
            found[kind, qualifier] = names
    return found


def relative(topic: str, node: str) -> str:
    """As the policy writes it: '~/x' is the node's own, '/x' the same in every namespace."""
    private = f"/{node}/"
    if topic.startswith(private):
        return "~/" + topic.removeprefix(private)
    return topic if topic in ("/rosout", "/parameter_events", "/clock") else topic.lstrip("/")


def policy() -> dict[str, Permissions]:
    """Permissions by node."""
    root = ET.parse(POLICY).getroot()
    assert root.tag == "policy" and root.attrib == {"version": "0.2.0"}
    found: dict[str, Permissions] = {}
    for enclave in root.iterfind("enclaves/enclave"):
        (profile,) = enclave.iterfind("profiles/profile")
        node = profile.attrib["node"]
        assert enclave.attrib["path"] == f"/wm_planner/{node}" and profile.attrib["ns"] == "/"
        own = found.setdefault(node, {})
        for group in profile:
            ((qualifier, allowed),) = group.attrib.items()
            names = [item.text for item in group]
            assert allowed == "ALLOW" and names == sorted(set(names))
            assert {item.tag for item in group} == {group.tag[:-1]}
            own[group.tag, qualifier] = set(names)
    return found


@pytest.mark.parametrize("name", NODES)
def test_a_node_may_do_what_it_does_and_nothing_more(graph, tmp_path, name):
    kind, parameters = NODES[name]
    node = graph.add(kind, **parameters(tmp_path))
    if hasattr(node, "trigger_configure"):
        node.trigger_configure()
    allowed = policy()[name]
    graph.until(lambda: used_by(node, graph).keys() == allowed.keys(), "the node in the graph")
    assert used_by(node, graph) == allowed


def test_every_node_has_an_enclave_of_its_own():
    assert set(policy()) == {*NODES, OPERATOR}
    assert {file.stem for file in (ROOT / "wm_planner/nodes").glob("*_node.py")} <= set(NODES)


def test_security_gives_every_process_its_enclave(tmp_path, monkeypatch):
    spec = NodeSpec("planner_node", "wm_planner.nodes.planner_node", "planner_node", {})
    monkeypatch.delenv("ROS_SECURITY_ENABLE", raising=False)
    assert "--enclave" not in child_of(spec, tmp_path).command
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    assert list(child_of(spec, tmp_path).command)[-2:] == ["--enclave", "/wm_planner/planner_node"]
    paths = {path.attrib["path"] for path in ET.parse(POLICY).getroot().iter("enclave")}
    assert paths == {enclave_arguments(name, os.environ)[1] for name in policy()}


def test_only_the_operator_and_the_nodes_of_the_loop_may_move_the_robot():
    """Whoever may publish on `command` moves the robot; `plan` and goals move it by a detour."""
    allowed = policy()

    def publishers(topic: str) -> set[str]:
        return {
            node for node, own in allowed.items() if topic in own.get(("topics", "publish"), ())
        }

    assert publishers("command") == {"controller_node", "command_guard"}
    assert publishers("plan") == {"planner_node", "explore_node"}
    assert publishers("goal/image") == {OPERATOR, "view_node"}


def test_the_operator_may_ask_for_every_service_of_the_nodes_and_no_other():
    allowed = policy()
    offered = {
        f"{node}/{service.removeprefix('~/')}"
        for node, own in allowed.items()
        for service in own.get(("services", "reply"), ())
    }
    asked = allowed[OPERATOR]["services", "request"]
    assert asked <= offered
    sources = "".join(f.read_text() for f in (ROOT / "wm_planner/cli").glob("robot_*.py"))
    named = set(re.findall(r'"(?:\{RECORDER\}/)?(start_episode|end_episode|drop)"', sources))
    assert {f"finetune_node/{service}" for service in named} <= asked
