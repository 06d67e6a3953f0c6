"""Whatever comes on a topic, no node ends: every node, every topic, what no driver should send."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, Header, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from wm_planner.bringup import RunOptions, bring_up
from wm_planner.cli.monitor import MonitorNode
from wm_planner.nodes.camera_node import CameraNode
from wm_planner.nodes.command_guard import CommandGuard
from wm_planner.nodes.controller_node import ControllerNode
from wm_planner.nodes.explore_node import ExploreNode
from wm_planner.nodes.finetune_node import FinetuneNode
from wm_planner.nodes.planner_node import PlannerNode
from wm_planner.robot import read_robot
from wm_planner.ros.conversions import image_message

from .test_parameter_files import ROOT
from .test_planner_live import checkpoint as checkpoint

ROBOT = read_robot(ROOT / "config" / "robots" / "example_forward.yaml")
NAMES = list(ROBOT.action.names)
NAN, HUGE = float("nan"), 1e308
STAMPS = [Time(), Time(sec=-(2**31)), Time(sec=2**31 - 1, nanosec=2**32 - 1)]
GOOD_PICTURE = image_message(np.zeros((96, 96, 3), np.uint8), 10**18)


def image(**changes: Any) -> Image:
    picture = image_message(np.zeros((96, 96, 3), np.uint8), 10**18)
    for name, value in changes.items():
        setattr(picture, name, value)
    return picture


def trajectory(names: list[str], *rows: list[float], **header: Any) -> JointTrajectory:
    message = JointTrajectory(joint_names=names)
    message.header = Header(**header)
    for row in rows:
        fields = dict.fromkeys(("positions", "velocities", "effort"), row)
        message.points.append(JointTrajectoryPoint(**fields))
    return message


def event(message: str, **values: str) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(name="episode", message=message, values=pairs)


def reported(name: str, message: str = "", **values: str) -> DiagnosticArray:
    status = event(message, **values)
    status.name = name
    return DiagnosticArray(status=[status])


EVENTS = [
    event(""),
    event("start"),
    event("end"),
    event("begin", episode="0", stamp_ns="0"),
    event("start", episode="0", stamp_ns="-1"),
    event("start", episode="x", stamp_ns="1"),
    event("start", episode="0", stamp_ns="9" * 400),
    event("end", episode="0", stamp_ns="9" * 5000),
    event("start", episode="9" * 400, stamp_ns="1"),
    event("start", episode="0", stamp_ns="1", name="../up"),
    event("start", episode="0", stamp_ns="1", name="n" * 4000),
    event("start", episode="0", stamp_ns="1", name="a\tb\nc"),
    event("end", episode="7", stamp_ns="1", outcome="perhaps"),
    event("end", episode="0", stamp_ns="1", success="maybe", num_steps="x", distance="y"),
    event("start", episode="0", stamp_ns=str(2**63 - 1)),
    event("end", episode="0", stamp_ns=str(2**63 - 1)),
    *[event("end", episode="0", stamp_ns=str(number)) for number in range(20)],
]
BAD: dict[type, list[Any]] = {
    Image: [
        Image(),
        image(encoding=""),
        image(encoding="32FC7"),
        image(encoding="bayer_rggb8"),
        image(step=0),
        image(step=2**32 - 1),
        image(height=0),
        image(width=0),
        image(height=2**32 - 1, width=2**32 - 1),
        image(height=2**31, width=1, step=3),
        image(data=b""),
        image(data=b"\x00" * 7),
        image(height=32, width=32, step=96),
        *(image(header=Header(stamp=stamp)) for stamp in STAMPS),
    ],
    CompressedImage: [
        CompressedImage(),
        CompressedImage(format="jpeg", data=b"\xff\xd8\xff"),
        CompressedImage(format="png", data=b"no picture"),
    ],
    JointState: [
        JointState(),
        JointState(name=[""]),
        JointState(name=NAMES),
        JointState(name=NAMES, position=[0.0]),
        JointState(name=NAMES, position=[NAN] * 6, velocity=[NAN] * 6),
        JointState(name=NAMES, position=[HUGE] * 6, effort=[-HUGE] * 9),
        JointState(name=NAMES * 2, position=[0.0] * 12),
        JointState(name=["?"] * 1000, position=[0.0] * 1000),
        *(
            JointState(header=Header(stamp=stamp), name=NAMES, position=[0.1] * 6)
            for stamp in STAMPS
        ),
    ],
    JointTrajectory: [
        JointTrajectory(),
        trajectory([], [0.0]),
        trajectory(NAMES, []),
        trajectory(NAMES, [0.0]),
        trajectory(NAMES, [NAN] * 6),
        trajectory(NAMES, [HUGE] * 6),
        trajectory(NAMES, [0.0] * 6, [0.0]),
        trajectory(NAMES[:2], [0.0] * 6),
        trajectory([""] * 6, [0.0] * 6),
        trajectory(NAMES, *[[0.0] * 6] * 3000),
        *(trajectory(NAMES, [0.0] * 6, stamp=stamp) for stamp in STAMPS),
    ],
    Float64MultiArray: [
        Float64MultiArray(),
        Float64MultiArray(data=[NAN] * 6),
        Float64MultiArray(data=[0.0]),
    ],
    DiagnosticStatus: EVENTS,
    DiagnosticArray: [
        DiagnosticArray(),
        reported(""),
        reported("finetune_node: bag"),
        reported("bridge_node: step"),
        reported("planner_node: plan", plan_seconds="x"),
        reported("controller_node: command", "ok", commands="many"),
        reported("controller_node: command", "stale", **{"age plan": "old"}),
    ],
    String: [String(), String(data="<robot"), String(data="x" * 10**6)],
    Header: [Header(stamp=stamp) for stamp in STAMPS],
}


def parameters_of(name: str) -> dict[str, Any]:
    robot, options = ROBOT, RunOptions(bags="bags", explore={"episodes": 1})
    return next(s.parameters for s in bring_up(robot, options) if s.name == name)


def node_of(graph, kind: type, path) -> Any:
    if kind is MonitorNode:
        return graph.serve(MonitorNode(lambda _line: None, context=graph.context))
    if kind is PlannerNode:
        return graph.add(kind, autostart=False, checkpoint=str(path))
    name = {
        CameraNode: "camera_node",
        CommandGuard: "command_guard",
        ControllerNode: "controller_node",
        ExploreNode: "explore_node",
        FinetuneNode: "finetune_node",
    }[kind]
    parameters = parameters_of(name)
    if kind is CameraNode:
        parameters = {**parameters, "fail_after_s": 0.0}
    if kind is FinetuneNode:
        parameters = {**parameters, "output": str(path)}
    if kind is ControllerNode:
        parameters = {**parameters, "position_limits": "robot_description"}
    return graph.add(kind, **parameters)


def counted(subscription: Any) -> SimpleNamespace:
    """Counts what a subscription has served."""
    count, callback = SimpleNamespace(served=0), subscription.callback

    @functools.wraps(callback)
    def counting(*args: Any) -> Any:
        count.served += 1
        return callback(*args)

    subscription.callback = counting
    return count


@pytest.mark.parametrize(
    "kind",
    [
        ControllerNode,
        PlannerNode,
        FinetuneNode,
        CameraNode,
        ExploreNode,
        CommandGuard,
        MonitorNode,
    ],
)
def test_no_message_ends_a_node(graph, request, tmp_path, kind):
    path = request.getfixturevalue("checkpoint") if kind is PlannerNode else tmp_path
    node = node_of(graph, kind, path)
    if kind in (ControllerNode, PlannerNode):
        node.trigger_configure()
        node._active = True  # past what activation waits for: as if all was well until now
    peer = graph.peer("anybody")
    profile = QoSProfile(depth=50, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    tried = 0
    for subscription in list(node.subscriptions):
        topic, message_type = subscription.topic_name, subscription.msg_type
        if message_type not in BAD:
            continue
        count = counted(subscription)
        publisher = peer.create_publisher(message_type, topic, profile)
        graph.until(publisher.get_subscription_count, f"discovery of {topic}")
        for message in BAD[message_type]:
            before = count.served
            publisher.publish(message)
            graph.until(lambda: count.served > before, f"{topic}: {str(message)[:200]}")  # noqa: B023
            tried += 1
        peer.destroy_publisher(publisher)
    assert tried
    client = peer.create_client(GetParameters, f"{node.get_name()}/get_parameters")
    graph.until(client.service_is_ready, "its services")
    future = client.call_async(GetParameters.Request(names=["use_sim_time"]))
    graph.until(future.done, "an answer")
    if node.acts:  # not a lifecycle node, which here is as it was before its activation
        (answer,) = node.set_parameters([Parameter("use_sim_time", value=True)])
        assert not answer.successful and "cannot be changed" in answer.reason


def test_a_recorder_records_on_after_events_that_mean_nothing(graph, tmp_path):
    """They are latched: every restart of the recorder gets all of them."""
    peer = graph.peer("anybody")
    profile = QoSProfile(depth=100, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    publisher = peer.create_publisher(DiagnosticStatus, "episode", profile)
    for message in EVENTS:
        publisher.publish(message)
    publisher.publish(event("start", episode="3", stamp_ns="5", name="last"))
    for _ in range(2):
        recorder = node_of(graph, FinetuneNode, tmp_path)
        graph.until(
            lambda: (
                recorder._recorder.recording and recorder._recorder.path.name.startswith("last")  # noqa: B023
            ),
            "the good event",
            60.0,
        )
        graph.remove(recorder)
