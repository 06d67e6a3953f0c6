"""The command guard: what stops a robot when its controller's process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray

from wm_planner.bringup import RunOptions, bring_up
from wm_planner.errors import ConfigError
from wm_planner.nodes.command_guard import CommandGuard
from wm_planner.robot import ADAPTERS, read_robot
from wm_planner.ros.adapters import CommandAdapter
from wm_planner.ros.command_topics import TYPES
from wm_planner.ros.diagnostics import ERROR
from wm_planner.ros.qos import COMMAND, RECORD

from .test_controller_live import DT_S as CONTROL_DT_S
from .test_controller_live import NEVER_S, SUCCESS, Arm
from .test_parameter_files import ROOT

DT_S, AFTER_S = 0.05, 0.3
AXES, JOINTS = ["linear.x", "angular.z"], ["joint_1", "joint_2"]
# Another process that moves the robot for ever, as a controller does.
CONTROLLER = """
import sys, time, rclpy
from std_msgs.msg import Float64MultiArray
rclpy.init()
node = rclpy.create_node("controller_node")
publisher = node.create_publisher(Float64MultiArray, "command", 10)
node.create_timer(0.02, lambda: publisher.publish(Float64MultiArray(data=[0.5, -0.5])))
rclpy.spin(node)
"""


class Wire:
    """A robot's command topic, with the guard on it."""

    def __init__(self, graph, adapter: str = "forward", **parameters) -> None:
        self.graph = graph
        names = AXES if adapter.startswith("twist") else JOINTS
        self.guard = graph.add(
            CommandGuard,
            action_names=names,
            adapter=adapter,
            frame_id="base_link",
            **{
                "safe_action": [0.0, 0.0],
                "control_dt_s": DT_S,
                "after_s": AFTER_S,
                "for_s": 0.5,
                **parameters,
            },
        )
        self.adapter = CommandAdapter(adapter, names, "velocity", round(DT_S * 1e9), "base_link")
        self.heard: list[tuple[float, list[float]]] = []
        self.reports: list[tuple[bytes, str]] = []
        node = graph.peer("robot")
        kind = TYPES[ADAPTERS[adapter]]
        node.create_subscription(kind, "command", self._on_command, COMMAND)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, RECORD)
        self._out = graph.peer("controller_node").create_publisher(kind, "command", COMMAND)
        graph.until(
            lambda: (
                self._out.get_subscription_count() == 2
                and node.count_publishers("command") >= 2  # one that was killed lasts for a while
                and node.count_publishers("/diagnostics")
            ),
            "discovery",
        )

    def _on_command(self, message) -> None:
        self.heard.append((time.monotonic(), list(self.adapter.action_of(message))))

    def _on_report(self, message: DiagnosticArray) -> None:
        self.reports += [
            (s.level, s.message) for s in message.status if s.name == "command_guard: command"
        ]

    def send(self, *values: float) -> None:
        self._out.publish(self.adapter.message(np.array(values), time.time_ns()))

    def within(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self.graph.until(lambda: time.monotonic() > deadline, "a while", 60.0)

    def safe(self) -> list[list[float]]:
        return [values for _, values in self.heard if not any(values)]


@pytest.mark.parametrize("adapter", sorted(ADAPTERS.keys() - {"joint_trajectory"}))
def test_silence_after_a_motion_is_answered_for_a_bounded_time(graph, adapter):
    wire = Wire(graph, adapter)
    wire.send(0.5, -0.5)
    graph.until(wire.safe, "the safe command", 60.0)
    graph.until(lambda: wire.guard._began_s is None, "the end", 60.0)
    assert 2 <= len(wire.safe()) <= 0.5 / DT_S + 2
    assert wire.reports and wire.reports[-1][0] == ERROR
    assert "it may have died" in wire.reports[-1][1]
    count = len(wire.heard)
    wire.within(2 * AFTER_S)
    assert len(wire.heard) == count
    wire.send(0.1, 0.0)  # somebody has come back
    graph.until(lambda: wire.guard._why == "", "the end of the alarm")


@pytest.mark.parametrize("last", ["nothing", "rest", "motion"])
def test_it_says_nothing_while_somebody_speaks_or_the_robot_rests(graph, last):
    wire = Wire(graph)
    own, sent_s = wire.guard._times, 0.0
    deadline = time.monotonic() + 3 * AFTER_S

    def step() -> bool:
        nonlocal sent_s
        if last == "motion" and time.monotonic() - sent_s > DT_S / 2:
            sent_s = time.monotonic()
            wire.send(0.5, 0.5)
        return time.monotonic() > deadline

    if last == "rest":
        wire.send(0.0, 0.0)
    graph.until(step, "a while", 60.0)
    if wire.guard._silent_s() <= AFTER_S:  # else this machine was held up, and the guard was right
        assert (wire.guard._times, wire.safe()) == (own, [[0.0, 0.0]] if last == "rest" else [])


def test_a_last_word_is_repeated_in_case_that_it_was_lost(graph):
    wire = Wire(graph)
    wire.send(0.5, 0.5)
    graph.until(lambda: wire.guard._moves, "motion")
    wire.send(0.0, 0.0)
    graph.until(lambda: len(wire.safe()) >= 3, "the safe command again", 60.0)
    graph.until(lambda: wire.guard._began_s is None, "the end", 60.0)
    count = len(wire.safe())
    wire.within(3 * AFTER_S)
    assert (wire.guard._times, len(wire.safe())) == (0, count)


def test_a_pause_of_its_own_is_no_silence_of_the_controller(graph):
    """Commands have come meanwhile, and wait: it must not speak before it has heard them."""
    wire = Wire(graph)
    for _ in range(5):
        wire.send(0.5, 0.5)
        wire.within(DT_S)
    stopped_s = time.monotonic()
    while time.monotonic() < stopped_s + 3 * AFTER_S:  # nobody spins
        wire.send(0.5, 0.5)
    sent_s = time.monotonic()

    def step() -> bool:
        wire.send(0.5, 0.5)
        return time.monotonic() > sent_s + AFTER_S

    graph.until(step, "a while", 60.0)
    assert (wire.guard._times, wire.safe()) == (0, [])


def test_who_comes_back_is_not_talked_over(graph):
    wire = Wire(graph, for_s=60.0)
    wire.send(0.5, 0.5)
    graph.until(wire.safe, "the safe command", 60.0)
    wire.send(0.5, 0.5)
    graph.until(lambda: wire.guard._began_s is None, "silence")


def test_a_killed_controller_is_made_up_for(graph, context):
    wire = Wire(graph)
    environment = {**os.environ, "ROS_DOMAIN_ID": str(context.get_domain_id())}
    process = subprocess.Popen([sys.executable, "-c", CONTROLLER], env=environment)
    try:
        graph.until(lambda: wire.heard, "motion", 60.0)
        assert wire.safe() == []
        process.send_signal(signal.SIGKILL)
        graph.until(wire.safe, "the safe command", 60.0)
    finally:
        process.kill()
        process.wait()


def test_its_own_end_leaves_no_motion_behind(graph):
    """A supervisor ends all when the controller is killed, the guard too."""
    wire = Wire(graph, after_s=AFTER_S)
    wire.send(0.5, 0.5)
    graph.until(lambda: wire.guard._moves, "motion")
    graph.remove(wire.guard)
    graph.until(wire.safe, "the safe command")


def test_a_controller_moves_the_robot_once_the_guard_hears_it(graph):
    arm = Arm(graph, "forward", guarded=True, stale_after_s=NEVER_S)
    graph.until(lambda: arm.controller.trigger_activate() == SUCCESS, "activation")
    arm.live(lambda: len(arm.sent) > 3, "commands")
    assert not np.any(arm.sent)
    graph.add(
        CommandGuard,
        action_names=list(arm.controller.config.action_names),
        safe_action=[0.0, 0.0],
        control_dt_s=CONTROL_DT_S,
    )
    arm.live(arm.moves, "a motion")
    arm.controller.trigger_deactivate()
    arm.drive()


def test_robots_that_go_on_moving_have_a_guard_and_those_that_hold_have_none():
    guarded = {}
    for file in sorted((ROOT / "config" / "robots").glob("*.yaml")):
        robot = read_robot(file)
        specs = {spec.name: spec for spec in bring_up(robot, RunOptions())}
        guarded[robot.name] = "command_guard" in specs
        if guarded[robot.name]:
            spec = specs["command_guard"]
            assert spec.respawn and spec.parameters["after_s"] <= robot.stale_after_s
    assert guarded.pop("arm_reach_positions") is False
    assert all(guarded.values())
    assert not [s for s in bring_up(robot, RunOptions(control=False)) if s.name == "command_guard"]


def test_a_robot_that_takes_positions_needs_none(graph):
    with pytest.raises(ConfigError, match="positions hold by themselves"):
        graph.add(CommandGuard, action_names=JOINTS, safe_action=[0.0, 0.0], interface="position")
