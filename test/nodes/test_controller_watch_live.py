"""The controller says OK only where the robot gets its commands and does them."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist, TwistStamped
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.serialization import serialize_message
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from wm_planner.nodes.controller_node import ControllerNode
from wm_planner.ros import bounded
from wm_planner.ros.diagnostics import ERROR, OK, WARN, values_of
from wm_planner.ros.qos import LATCHED, RECORD

from . import jtc
from .test_controller_live import DT_S, LIMITS, NEVER_S, Arm

MINUTE = 60.0
CLOCK_NS = 150_000_000  # by which the clock of a robot's controller may be off
FORWARD = {**LIMITS, "adapter": "forward", "action_names": ["slide_x", "slide_y"]}
TWIST = {
    **LIMITS,
    "adapter": "twist",
    "action_names": ["linear.x", "angular.z"],
    "frame_id": "base_link",
}


class WatchedArm(Arm):
    """An arm that moves as it is told, unless it is blocked, and hears the diagnostics."""

    def __init__(self, graph, adapter: str = "forward", **parameters) -> None:
        self.blocked = False
        self.behind_ns = 0
        self._moved_s = time.monotonic()
        super().__init__(graph, adapter, **{"stale_after_s": NEVER_S, **parameters})
        self.told = told_by(self.node)

    def state(self, stamp_ns=None, names=None, values=None) -> None:
        now_s = time.monotonic()
        passed_s, self._moved_s = now_s - self._moved_s, now_s
        if self.sent and not self.blocked:
            self.place = tuple(np.array(self.place) + passed_s * np.array(self.sent[-1]))
        super().state(self.now_ns() - self.behind_ns)

    def until_told(self, level: bytes, words: str, **live: bool) -> dict[str, str]:
        """Until the newest status says so; its values."""

        def said() -> bool:
            newest = self.told[-1] if self.told else None
            return newest is not None and newest.level == level and words in newest.message

        self.live(said, words, **live)
        return values_of(self.told[-1])


def told_by(node) -> list:
    """Statuses of the controller's command, as they come."""
    told: list = []

    def on_diagnostics(message: DiagnosticArray) -> None:
        told.extend(s for s in message.status if s.name.endswith("controller_node: command"))

    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, RECORD)
    return told


@pytest.fixture(scope="module")
def robot_context(context):
    """Of a process of its own: in one process, a topic has one type."""
    other = rclpy.context.Context()
    rclpy.init(context=other, domain_id=context.get_domain_id())
    anchor = rclpy.create_node("robot_anchor", context=other)
    yield other
    anchor.destroy_node()
    rclpy.shutdown(context=other)


@pytest.fixture
def robot(robot_context):
    node = rclpy.create_node("robot", context=robot_context)
    yield node
    node.destroy_node()


def silent(arm: WatchedArm) -> None:
    """The last command is safe, and none follows it."""
    arm.graph.until(arm.last_is_safe, "the safe command", MINUTE)
    count, end_s = len(arm.commands), time.monotonic() + 4 * DT_S
    arm.live(lambda: time.monotonic() > end_s, "a few periods")
    assert len(arm.commands) == count


@pytest.mark.parametrize(
    ("parameters", "kind", "profile", "words"),
    [
        (FORWARD, None, None, "nobody listens on /command"),
        (TWIST, Twist, 10, "write command.adapter: twist_unstamped"),
        ({**TWIST, "adapter": "twist_unstamped"}, TwistStamped, 10, "write command.adapter: twist"),
        (FORWARD, JointTrajectory, 10, "write command.adapter: joint_trajectory"),
        (FORWARD, Float64MultiArray, LATCHED, "durability 'transient_local'"),
    ],
)
def test_it_says_that_nobody_gets_the_commands(graph, robot, parameters, kind, profile, words):
    controller = graph.add(ControllerNode, **parameters)
    told = told_by(graph.peer("person"))
    if kind is not None:
        robot.create_subscription(kind, "command", lambda _: None, profile)
    controller.trigger_configure()
    graph.until(lambda: told and words in told[-1].message, words, MINUTE)
    assert told[-1].level == ERROR
    assert all(status.level != OK for status in told)


def test_ok_is_said_where_the_robot_listens_and_moves(graph):
    arm = WatchedArm(graph)
    arm.drive()
    values = arm.until_told(OK, "ok")
    assert values["listeners"] == "/arm" and values["planners"] == "/arm"
    assert values["reason"] == "ok" and values["active"] == "true"
    assert abs(float(values["joint_states behind_s"])) < 0.1
    arm.blocked = True
    arm.until_told(ERROR, "commanded but not moving")
    assert "joint 'slide_x' was led" in arm.told[-1].message
    arm.blocked = False
    arm.until_told(OK, "ok")
    arm.controller.trigger_deactivate()
    arm.until_told(WARN, "disabled", plan=False)


def test_a_blocked_arm_of_positions_is_told_from_one_that_has_arrived(graph):
    arm = WatchedArm(graph, "joint_trajectory", tracking_error=0.2)
    arm.sense()
    arm.controller.trigger_activate()
    arm.blocked = True
    arm.until_told(ERROR, "commanded but not moving")
    assert np.abs(np.array(arm.commands) - arm.place).max() <= 0.2 + 1e-9


def test_clocks_that_differ_are_said(graph):
    arm = WatchedArm(graph)
    arm.behind_ns = 400_000_000
    arm.drive()
    arm.until_told(WARN, "s behind this machine's clock")
    arm.behind_ns = -400_000_000
    arm.until_told(WARN, "s ahead of this machine's clock")
    arm.behind_ns = 0
    arm.until_told(OK, "ok")


def test_joints_that_come_in_two_messages_are_named(graph):
    arm = WatchedArm(graph)
    arm.controller.trigger_activate()

    def told() -> bool:
        Arm.state(arm, names=("slide_x/position",), values=(0.1,))
        return bool(arm.told) and "joint_states comes without slide_y" in arm.told[-1].message

    graph.until(told, "what is missing", MINUTE)
    assert arm.told[-1].level == WARN


@pytest.mark.parametrize("name", ["teleop", "controller_node"])
def test_another_publisher_of_commands_stops_the_robot_for_good(graph, robot_context, name):
    arm = WatchedArm(graph)
    arm.drive()
    stranger = rclpy.create_node(name, context=robot_context)
    stranger.create_publisher(Float64MultiArray, "command", 10)
    arm.until_told(ERROR, f"stopped: somebody else publishes on the robot's command topic: /{name}")
    silent(arm)
    arm.controller.trigger_deactivate()
    assert arm.controller.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert f"somebody else publishes on the robot's command topic: /{name}" in str(
        arm.controller._failure
    )
    stranger.destroy_node()
    graph.until(lambda: not arm.controller._watch.refusal(), "an empty topic", MINUTE)
    silent(arm)
    arm.drive()


def test_the_guard_of_the_same_namespace_is_no_stranger(graph):
    arm = WatchedArm(graph)
    guard = graph.peer("command_guard")
    guard.create_publisher(Float64MultiArray, "command", 10)
    guard.create_subscription(Float64MultiArray, "command", lambda _: None, 10)
    arm.drive()
    graph.until(lambda: arm.node.count_publishers("command") == 2, "the guard", MINUTE)
    arm.until_told(OK, "ok")
    assert values_of(arm.told[-1])["listeners"] == "/arm"


def test_a_second_planner_stops_the_robot_for_good(graph):
    arm = WatchedArm(graph)
    arm.drive()
    explorer = graph.peer("explore_node")
    publisher = explorer.create_publisher(JointTrajectory, "plan", 10)
    arm.until_told(ERROR, "stopped: 2 publishers of plans, and one alone may plan")
    assert "/explore_node" in arm.told[-1].message
    silent(arm)
    arm.controller.trigger_deactivate()
    assert arm.controller.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert "one alone may plan" in str(arm.controller._failure)
    explorer.destroy_publisher(publisher)
    graph.until(lambda: not arm.controller._watch.refusal(), "one planner", MINUTE)
    arm.drive()


def test_of_two_planners_of_one_name_none_is_followed_until_one_has_gone(graph):
    """One may have been killed and started again: it is listed for a while."""
    arm = WatchedArm(graph)
    arm.drive()
    again = arm.node.create_publisher(JointTrajectory, "plan", 10)
    arm.live(lambda: arm.sent[-1] == [0.0, 0.0], "the safe command")
    arm.until_told(ERROR, "one that was killed is listed for up to 30 s")
    assert values_of(arm.told[-1])["reason"] == "no_plan"
    arm.node.destroy_publisher(again)
    arm.live(lambda: arm.sent[-1] == [0.5, 0.5], "motion")


def test_a_plan_of_too_many_points_is_not_even_looked_into(graph, monkeypatch):
    converted = []
    deserialize = bounded.deserialize_message

    def counted(data: bytes, kind: type):
        converted.append(len(data))
        return deserialize(data, kind)

    monkeypatch.setattr(bounded, "deserialize_message", counted)
    arm = WatchedArm(graph)
    arm.drive()
    point = JointTrajectoryPoint(velocities=[0.1, 0.1])
    huge = serialize_message(
        JointTrajectory(joint_names=["slide_x", "slide_y"], points=[point] * 20_000)
    )
    refused = []
    logger = arm.controller.get_logger()
    monkeypatch.setattr(logger, "error", lambda text, **_: refused.append(text))
    monkeypatch.setattr(arm.controller, "get_logger", lambda: logger)
    arm._plans.publish(huge)
    arm.live(lambda: refused, "the refusal")
    assert refused == ["/plan: message refused: it has 20000 points, at most 2000 are read"]
    assert max(converted) < 10**6
    arm.live(lambda: arm.sent[-1] == [0.5, 0.5], "motion goes on")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"kind": "velocity", "integrate": True},
        {"kind": "position_delta"},
        {"kind": "position", "max_rate": [2.0, 2.0], "tracking_error": 1.0},
    ],
)
def test_a_joint_trajectory_controller_takes_every_command(graph, parameters):
    """Also where its clock is off, and each ends by itself: in a stop, where the robot is sent."""
    arm = WatchedArm(graph, "joint_trajectory", **parameters)
    arm.sense()
    arm.controller.trigger_activate()
    arm.live(lambda: len(arm.messages) >= 5, "commands")
    arm.controller.trigger_deactivate()
    arm.graph.until(lambda: len(arm.messages) == len(arm.sent), "the last command", MINUTE)
    for message in arm.messages:
        for off_ns in (-CLOCK_NS, 0, CLOCK_NS):
            assert jtc.refusal(message, ["slide_x", "slide_y"], arm.now_ns() + off_ns) == ""
        assert not any(message.points[-1].velocities)


def test_no_command_of_effort_goes_to_a_joint_trajectory_controller(graph):
    from wm_planner.errors import ConfigError

    with pytest.raises(ConfigError, match="take an effort controller and the adapter forward"):
        graph.add(ControllerNode, **{**FORWARD, "adapter": "joint_trajectory", "kind": "effort"})


def test_depth_of_the_double():
    """The double refuses what the rules name."""
    point = JointTrajectoryPoint(positions=[0.0], velocities=[0.0])
    message = JointTrajectory(joint_names=["a"], points=[point])
    assert jtc.refusal(message, ["a"], 0) == ""
    assert "joints" in jtc.refusal(message, ["a", "b"], 0)
    point.velocities = [0.1]
    assert "not zero" in jtc.refusal(message, ["a"], 0)
    point.velocities, message.header.stamp.sec = [], 1
    assert jtc.refusal(message, ["a"], 10**9) == ""
    assert "past" in jtc.refusal(message, ["a"], 2 * 10**9)
    message.points = [point, point]
    assert "increasing" in jtc.refusal(message, ["a"], 0)
    message.points = [JointTrajectoryPoint(velocities=[0.0])]
    assert "positions" in jtc.refusal(message, ["a"], 0)
