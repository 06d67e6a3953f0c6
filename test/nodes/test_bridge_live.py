"""The bridge in lock-step with a scripted planner and controller: no model needed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from sim_bridge.bridge_node import BridgeNode
from sim_bridge.episodes import Pacer
from wm_planner.errors import TaskError
from wm_planner.ros import diagnostics
from wm_planner.ros.conversions import command_message, proprio_array, to_ns
from wm_planner.ros.diagnostics import values_of
from wm_planner.ros.qos import COMMAND, EVENTS, LATCHED, RECORD, RELIABLE
from wm_planner.ros.ready import ReadyReport

from .conftest import Graph

JOINTS = ("slide_x", "slide_y")
NAMES = ("slide_x/position", "slide_y/position")


class Script:
    """Accepts goals and drives straight at them."""

    def __init__(self, graph, answer: bool = True) -> None:
        node = graph.peer("script")
        self.commands: list[tuple[int, list[float]]] = []
        self.images: list[int] = []
        self.events: list[DiagnosticStatus] = []
        self._goal: np.ndarray | None = None
        self._since_ns = 0
        self._answer = answer
        self._command = node.create_publisher(JointTrajectory, "command", COMMAND)
        self._accepted = node.create_publisher(Header, "goal/accepted", LATCHED)
        node.create_subscription(Image, "goal/image", self._on_goal, LATCHED)
        node.create_subscription(JointState, "goal/joint_states", self._on_goal_state, LATCHED)
        node.create_subscription(JointState, "joint_states", self._on_state, RELIABLE)
        node.create_subscription(
            Image, "camera/image_raw", lambda m: self.images.append(to_ns(m.header.stamp)), RELIABLE
        )
        node.create_subscription(DiagnosticStatus, "episode", self.events.append, EVENTS)

    def _on_goal(self, message: Image) -> None:
        if message.height == 0:
            self._goal = None
        self._accepted.publish(Header(stamp=message.header.stamp))

    def _on_goal_state(self, message: JointState) -> None:
        self._goal, self._since_ns = proprio_array(message, NAMES), to_ns(message.header.stamp)

    def _on_state(self, message: JointState) -> None:
        if self._goal is None or not self._answer:
            return
        stamp_ns = to_ns(message.header.stamp)
        if stamp_ns < self._since_ns:
            return  # the last state of the episode before
        action = np.clip((self._goal - proprio_array(message, NAMES)) / 2, -1, 1)
        if not self.commands or self.commands[-1][0] != stamp_ns:
            self.commands.append((stamp_ns, action.tolist()))
        self._command.publish(command_message(action, JOINTS, "velocity", stamp_ns, 10**8))


def run(graph, **parameters):
    """One bridge with its script, to the end."""
    script = Script(graph)
    bridge = graph.add(BridgeNode, task="wall", image_size=32, **parameters)
    code = bridge.run(graph.spin)
    graph.until(lambda: len(script.events) == 2 * bridge.config.episodes, "the events")
    return code, script, bridge


def test_lockstep_asks_once_per_tick_and_images_come_per_model_step(graph):
    code, script, _bridge = run(graph, episodes=2, seed=3)
    assert code == 0
    ends = [values_of(event) for event in script.events if event.message == "end"]
    steps = [int(end["num_steps"]) for end in ends]
    assert len(script.commands) == 5 * sum(steps)
    stamps = [stamp for stamp, _ in script.commands]
    assert stamps == sorted(set(stamps))
    assert len(set(script.images)) == sum(steps) + 2  # one per model step and the final one
    assert all(float(end["distance"]) >= 0 and end["success"] in ("true", "false") for end in ends)


def test_same_seed_same_commands_and_another_seed_others(context):
    commands = []
    for seed in (1, 1, 2):
        graph = Graph(context)
        try:
            commands.append(run(graph, episodes=1, seed=seed)[1].commands)
        finally:
            graph.close()
    assert commands[0] == commands[1] != commands[2]


def test_silent_controller_is_an_error_that_says_what_was_missing(graph):
    Script(graph, answer=False)
    bridge = graph.add(BridgeNode, task="wall", image_size=32, command_timeout_s=1.0)
    with pytest.raises(TaskError, match="a command for stamp 1000000000"):
        bridge.run(graph.spin)


def test_missing_node_is_named(graph):
    bridge = graph.add(BridgeNode, image_size=32, command_timeout_s=0.5, wait_for_nodes=["nobody"])
    with pytest.raises(TaskError, match="nodes \\['nobody'\\]"):
        bridge.run(graph.spin)


@pytest.mark.parametrize("finds", [True, False])
def test_run_waits_until_a_listener_hears_everybody(graph, finds):
    script = Script(graph)
    listener = graph.peer("listener")
    status = listener.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
    listener.create_subscription(JointState, "joint_states", lambda _: None, RELIABLE)
    asked = []
    topics = ["joint_states"] if finds else ["joint_states", "plan"]
    ready = ReadyReport(listener, status, topics, lambda: asked.append(1) or len(asked) == 3)
    bridge = graph.add(
        BridgeNode,
        task="wall",
        image_size=32,
        wait_for_listeners=["listener"],
        command_timeout_s=20.0 if finds else 1.0,
    )
    if not finds:
        with pytest.raises(TaskError, match="nodes \\['listener \\(listening\\)'\\]"):
            bridge.run(graph.spin)
        return
    assert bridge.run(graph.spin) == 0 and bridge.ready == {"listener"}
    assert script.commands and len(asked) >= 3, "who need not be there is waited for a little"
    ready.stop()


@pytest.mark.parametrize("closes", [True, False])
def test_run_waits_until_the_recorder_has_closed_its_bag(graph, closes):
    script = Script(graph)
    recorder = graph.peer("recorder")
    status = recorder.create_publisher(DiagnosticArray, "/diagnostics", RECORD)
    ended: list[int] = []

    def close_bags() -> None:
        for event in script.events[2 * len(ended) + 1 :: 2] if closes else ():
            values = {"end_stamp_ns": values_of(event)["stamp_ns"], "path": "bag"}
            told = diagnostics.status("recorder: bag", diagnostics.OK, "closed", values)
            status.publish(diagnostics.array(0, told))
            ended.append(len(script.events))

    recorder.create_timer(0.05, close_bags)
    bridge = graph.add(
        BridgeNode,
        task="wall",
        image_size=32,
        episodes=2,
        recorder="recorder",
        command_timeout_s=20.0 if closes else 1.0,
    )
    assert bridge.run(graph.spin) == 0  # a recorder that hangs costs a bag, not the run
    if closes:
        assert ended == [2, 4]  # each bag was closed before the next episode began


def test_command_without_points_is_passed_over(graph):
    bridge = graph.add(BridgeNode, task="wall", image_size=32)
    bridge._on_command(JointTrajectory())
    bridge._on_command(command_message(np.zeros(3), ("a", "b", "c"), "velocity", 0, 1))
    assert bridge.command is None


def test_real_time_run_ends_by_itself(graph):
    code, script, _ = run(graph, episodes=1, seed=1, lockstep=False)
    assert code == 0
    assert script.events[0].message == "start"


def test_pacer_does_not_burst_after_a_pause():
    now = [0.0]
    pacer = Pacer(0.1, lambda: now[0])
    assert pacer.remaining_s() <= 0
    pacer.tick()
    assert pacer.remaining_s() == pytest.approx(0.1)
    now[0] = 5.0
    pacer.tick()
    pacer.tick()
    assert pacer.remaining_s() == pytest.approx(0.1)
