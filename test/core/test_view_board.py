"""What the live page shows: episodes with their outcomes, latencies, and why no goal can be set."""

from __future__ import annotations

import json
import math

import numpy as np

from wm_planner.view.board import Board, Replan
from wm_planner.view.episodes import Episodes


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def outcomes(episodes: Episodes) -> list[str]:
    return [row["outcome"] for row in episodes.rows()]


def followed(clock: Clock, **tolerances: float) -> Episodes:
    return Episodes({"proprio": None, "picture": None, **tolerances}, for_s=1.0, now_s=clock)


def test_a_goal_is_reached_when_the_robot_has_stayed_there_long_enough():
    clock = Clock()
    episodes = followed(clock, proprio=0.1, picture=0.5)
    episodes.goal(10, knows_joints=False)
    episodes.goal(10, knows_joints=True)  # its joints came after its picture
    assert outcomes(episodes) == ["waiting for Start"]
    for second in range(3):  # near it already, but nobody has started
        episodes.measure("proprio", second * 10**9 + 10, 0.01)
        episodes.measure("picture", second * 10**9 + 10, 0.01)
    assert outcomes(episodes) == ["waiting for Start"]
    episodes.controller(active=True)
    clock.s += 4.0
    for second in range(5, 7):
        assert outcomes(episodes) == ["on its way"]
        episodes.measure("proprio", second * 10**9, 0.05)
        episodes.measure("picture", second * 10**9, 0.2)
    (row,) = episodes.rows()
    assert row["outcome"] == "reached"
    assert (row["seconds"], row["distance"], row["picture"]) == (4.0, 0.05, 0.2)


def test_a_measure_of_another_goal_does_not_count():
    episodes = followed(Clock(), picture=0.5)
    episodes.controller(active=True)
    episodes.goal(5 * 10**9, knows_joints=False)
    for second in range(5):
        episodes.measure("picture", second * 10**9, 0.0)
    assert outcomes(episodes) == ["on its way"]


def test_stopped_cleared_and_replaced_are_outcomes():
    episodes = followed(Clock(), picture=0.5)
    episodes.controller(active=True)
    episodes.goal(1, knows_joints=False)
    episodes.goal(1, knows_joints=False)  # sent again
    episodes.controller(active=False)
    assert outcomes(episodes) == ["waiting for Start", "stopped"]
    episodes.goal(2, knows_joints=False)
    episodes.cleared()
    expected = ["the goal was cleared", "another goal was set", "stopped"]
    assert outcomes(episodes) == expected


def test_where_a_simulator_judges_goals_do_not_count():
    episodes = followed(Clock(), picture=0.5)
    episodes.event("start", 0)
    episodes.goal(1, knows_joints=True)
    episodes.cleared()
    episodes.event("end", 0, success=True, steps=7, distance=2.5)
    episodes.event("start", 1)
    episodes.event("end", 1, success=False, steps=50, distance=9.0)
    assert outcomes(episodes) == ["not reached", "reached"]
    assert episodes.rows()[1]["steps"] == 7
    assert episodes.rule == "the simulator judges"


def test_the_way_from_camera_to_command_is_of_the_plan_that_the_command_follows():
    clock = Clock()
    board = Board(now_s=clock)
    for stamp_ns in (1000, 2000):
        board.show("camera", np.zeros((4, 4, 3), np.uint8), stamp_ns)
        clock.s += 0.5
    board.replanned(Replan(1000, 0.0, cost=1.0, picture=2.0, proprio=math.nan, plan_s=0.3))
    board.commanded(900)  # of the plan before
    board.planned(1000)
    board.commanded(990)
    assert board.snapshot()["replans"][0]["command_s"] is None
    clock.s += 0.25
    board.commanded(1010)
    board.commanded(1020)
    (replan,) = board.snapshot()["replans"]
    assert replan["command_s"] == 1.25
    assert replan["proprio"] is None  # NaN is no JSON
    json.dumps(board.snapshot(), allow_nan=False)


def test_the_controller_is_what_it_says_while_it_says_anything():
    clock = Clock()
    board = Board(now_s=clock)
    assert board.controller() == "absent"
    board.nodes = frozenset({"controller_node"})
    assert board.controller() == "unconfigured"
    for reason, active, expected in (
        ("ok", "true", "active"),
        ("stopped", "false", "stopped"),
        ("disabled", "false", "inactive"),
    ):
        board.tell("controller_node: command", 0, "", {"reason": reason, "active": active})
        assert board.controller() == expected
    clock.s += 60.0
    assert board.controller() == "unconfigured"


def test_no_goal_can_be_set_where_a_simulator_sets_them_or_nobody_plans():
    board = Board(robot="arm", nodes=frozenset({"bridge_node", "planner_node"}))
    assert "simulator sets the goals" in board.why_no_goal()
    board.nodes = frozenset()
    assert board.why_no_goal() == "the planner is not running"
    board.nodes = frozenset({"planner_node"})
    assert "still be loading" in board.why_no_goal()
    board.tell("planner_node: inputs", 0, "observed", {})
    assert board.why_no_goal() == ""


def test_the_shelf_keeps_the_newest_goals():
    board = Board()
    picture = np.zeros((4, 4, 3), np.uint8)
    numbers = [board.keep_goal(f"goal {i}", picture, None).number for i in range(14)]
    assert numbers == list(range(1, 15))
    assert [goal["number"] for goal in board.snapshot()["goals"]] == list(range(3, 15))
    assert board.goal(1) is None and board.goal(14).name == "goal 13"
