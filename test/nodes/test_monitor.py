"""The monitor sees real messages."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from wm_planner.cli.filmed import Ring
from wm_planner.cli.listener import Listener
from wm_planner.cli.monitor import MonitorNode
from wm_planner.ros import diagnostics
from wm_planner.ros.conversions import command_message, image_message, plan_message
from wm_planner.ros.qos import COMMAND, EVENTS, LATCHED, RELIABLE
from wm_planner.types import Plan

from .conftest import Graph
from .domains import claim_domain

SECOND = 10**9
AXES = ("x", "y")


def image(value: int, width: int = 8) -> np.ndarray:
    return np.full((8, width, 3), value, np.uint8)


class Publishers:
    """All that the monitor listens to."""

    def __init__(self, node) -> None:
        self.node = node
        self.episode = node.create_publisher(DiagnosticStatus, "episode", EVENTS)
        self.goal = node.create_publisher(Image, "goal/image", LATCHED)
        self.status = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.image = node.create_publisher(Image, "observation/image", RELIABLE)
        self.imagined = node.create_publisher(Image, "plan/imagined", COMMAND)
        self.plan = node.create_publisher(JointTrajectory, "plan", COMMAND)
        self.command = node.create_publisher(JointTrajectory, "command_sent", COMMAND)

    def matched(self) -> bool:
        every = [self.episode, self.goal, self.status, self.image, self.imagined, self.plan]
        return all(p.get_subscription_count() == 1 for p in [*every, self.command])

    def event(self, kind: str, episode: int, stamp_ns: int, **values: object) -> None:
        values = {"episode": episode, "task": "wall", "seed": 0, "stamp_ns": stamp_ns, **values}
        self.episode.publish(diagnostics.status("episode", diagnostics.OK, kind, values))

    def progress(self, step: int, distance: float, stamp_ns: int) -> None:
        values = {"episode": 0, "step": step, "distance": distance, "stamp_ns": stamp_ns}
        status = diagnostics.status("bridge_node: step", diagnostics.OK, "running", values)
        self.status.publish(diagnostics.array(stamp_ns, status))

    def planned(self, seconds: float, stamp_ns: int) -> None:
        values = {"cost": 0.25, "initial_cost": 1.0, "plan_seconds": seconds}
        values |= {"num_evaluations": 10, "stamp_ns": stamp_ns}
        status = diagnostics.status("planner_node: plan", diagnostics.OK, "planned", values)
        self.status.publish(diagnostics.array(stamp_ns, status))


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def monitor(graph: Graph, lines: list[str]) -> MonitorNode:
    return graph.serve(MonitorNode(lines.append, context=graph.context))


@pytest.fixture
def publishers(graph: Graph) -> Publishers:
    return Publishers(graph.peer("peer"))


def test_a_whole_episode(
    graph: Graph, monitor: MonitorNode, publishers: Publishers, lines: list[str]
) -> None:
    graph.until(publishers.matched, "discovery")
    record = monitor.record
    publishers.event("start", 0, SECOND, ring="0.5 0.25 0.1")
    graph.until(lambda: record.episodes, "start")
    publishers.goal.publish(image_message(image(9), SECOND))
    graph.until(lambda: record.episodes[0].film.goal is not None, "goal")
    publishers.progress(3, 1.5, SECOND)
    before_s = time.monotonic()
    publishers.image.publish(image_message(image(1), SECOND))
    graph.until(lambda: record.episodes[0].film.pictures, "image")
    publishers.planned(0.125, SECOND)
    graph.until(lambda: lines, "line")
    tiles = np.hstack([image(40), image(80), image(120)])
    publishers.imagined.publish(image_message(tiles, SECOND))
    publishers.plan.publish(plan_message(Plan(SECOND, 10**8, np.zeros((5, 2))), AXES, "velocity"))
    graph.until(lambda: record.episodes[0].plan_times_s, "plan")
    command = command_message(np.zeros(2), AXES, "velocity", SECOND, 10**8)
    publishers.command.publish(command)
    graph.until(lambda: record.latency_seconds, "latency")
    passed_s = time.monotonic() - before_s
    publishers.command.publish(command)
    publishers.goal.publish(image_message(np.zeros((0, 0, 3), np.uint8), 2 * SECOND))
    publishers.event("end", 0, 2 * SECOND, success=True, num_steps=4, distance=0.5)
    graph.until(lambda: record.finished, "end")

    for part in ("episode 0", "step   3", "distance    1.500", "cost    0.2500", "125 ms"):
        assert part in lines[0]
    assert lines[1:] == ["episode 0: goal reached, 4 steps, distance 0.500"]
    (episode,) = record.finished
    assert episode.success and episode.num_steps == 4 and episode.distance == 0.5
    assert (episode.film.goal == 9).all()  # the empty image that clears a goal does not replace it
    assert (episode.film.pictures[0][1] == 1).all()
    graph.until(lambda: episode.film.imagined, "imagination")
    assert (episode.film.imagined[0][1] == 120).all()  # the last tile
    assert record.plan_seconds == [0.125]
    film = episode.film
    now = film.moment_of(2 * SECOND)  # the plan is there by then
    assert film.ring == Ring(0.5, 0.25, 0.1) and film.reached
    assert film.distance(now) == 1.5 and film.replan_s(now) == 0.125
    assert len(record.latency_seconds) == 1 and 0 < record.latency_seconds[0] <= passed_s


def test_a_late_monitor_still_hears_of_episodes(
    graph: Graph, publishers: Publishers, lines: list[str]
) -> None:
    publishers.event("start", 0, SECOND)
    publishers.event("end", 0, 2 * SECOND, success=False, num_steps=30, distance=2.0)
    publishers.event("start", 1, 3 * SECOND)
    record = graph.serve(MonitorNode(lines.append, context=graph.context)).record
    graph.until(lambda: len(record.episodes) == 2, "events")
    assert [e.success for e in record.episodes] == [False, None]
    assert lines == ["episode 0: goal not reached, 30 steps, distance 2.000"]


def test_a_planner_that_fails_is_reported(
    graph: Graph, monitor: MonitorNode, publishers: Publishers, lines: list[str]
) -> None:
    graph.until(publishers.matched, "discovery")
    error = diagnostics.status("planner_node: plan", diagnostics.ERROR, "costs are NaN", {})
    publishers.status.publish(diagnostics.array(SECOND, error))
    graph.until(lambda: lines, "line")
    assert lines == ["no plan: costs are NaN"] and monitor.record.plan_seconds == []


def test_waiting_has_an_end() -> None:
    with Listener(claim_domain(), partial(MonitorNode, print)) as monitor:
        begin_s = time.monotonic()
        assert not monitor.spin_until(lambda: False, 0.2)
        assert 0.2 <= time.monotonic() - begin_s < 2.0
