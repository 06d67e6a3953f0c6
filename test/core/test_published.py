"""The published physics: re-made tasks beside the originals, and the rules of the published dot."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.physics import PAIRS, agreement
from sim_bridge.envs.published import step_of_point
from wm_planner.evaluation.episode import EnvMaker
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts

from .simulated_tasks import PACKAGES, needs_package

# Of 200 runs of seed 0, the ends that pass for the original's, at least; the figures are in
# docs/experiments/recipes.md.
LEAST = {"pusht_published": 180, "point_maze_published": 190}
BY_TASK = {task: rest for task, *rest in PAIRS}


@pytest.mark.parametrize(
    "task",
    [pytest.param(t, marks=needs_package(BY_TASK[t][0])) for t in LEAST],
)
def test_published_task_ends_where_the_original_does(task):
    original, *maps = BY_TASK[task]
    assert original in PACKAGES
    found = agreement(task, original, *maps, runs=200, seed=0)
    assert found.agree.sum() >= LEAST[task]


@needs_package("gym_pusht")
def test_the_pusher_goes_as_pymunks_does_where_nothing_is_in_the_way():
    ends = []
    for task in ("pusht_published", "gym_pusht"):
        env = EnvMaker(task, 64, Shifts())(False)
        env.set_state(np.array([480.0, 420.0, 150.0, 150.0, 0.5, 30.0, 0.0]))
        for action in ([0.9, -0.2], [0.9, 0.3], [-0.1, 1.0], [0.0, 1.0]):  # beyond the wall, too
            env.advance(np.array(action))
        ends.append(env.get_state())
        env.close()
    np.testing.assert_allclose(ends[0][[0, 1, 5, 6]], ends[1][[0, 1, 5, 6]], atol=1e-6)


def test_goals_of_published_pusht_are_what_exploration_reaches():
    env = EnvMaker("pusht_published", 64, Shifts())(False)
    pairs = [env.sample_target(np.random.default_rng([0, i])) for i in range(12)]
    still = [np.allclose(start[2:5], goal[2:5]) for start, goal in pairs]
    assert 1 <= sum(still) < 12, "also those that leave the block alone"
    env.close()


@pytest.mark.parametrize(
    ("now", "move", "then"),
    [
        ([10, 20], [1.5, -0.5], [11.5, 19.5]),  # nothing in the way
        ([28.5, 45], [1, 0], [28.5, 45.5]),  # the wall: back by a half, and a half along it
        ([35.5, 45], [-1, 0], [35.5, 45.5]),  # from its other side
        ([28.5, 31], [1, 0.5], [29.5, 31.5]),  # through the door
        ([31, 33.5], [0.5, 1], [31.75, 33.5]),  # the upper edge of the door
        ([31, 26.5], [0.5, -1], [31.75, 26.5]),  # the lower one
        ([5, 20], [-2, 0], [4.5, 20.5]),  # the border
        ([59.5, 59.9], [2, 0], [59.5, 59.7]),  # in a corner: off both by 0.3 at least
        ([28.8, 45], [0.1, 0.3], [28.9, 45.3]),  # beside the wall
    ],
)
def test_the_published_dot_bounces(now, move, then):
    end = step_of_point(np.array(now, float), np.array(move, float), 32.0, 30.0)
    np.testing.assert_allclose(end, then, atol=1e-9)


def test_the_published_dot_leaves_no_room_and_meets_no_wall():
    rng = np.random.default_rng(0)
    place, rooms = np.array([15.0, 30.0]), set()
    for _ in range(3000):
        place = step_of_point(place, rng.uniform(-2, 2, 2) + (0, 0.2 * (30 - place[1])), 32.0, 30.0)
        assert (place > 4).all() and (place < 60).all()
        assert abs(place[0] - 32) > 3 or abs(place[1] - 30) <= 4
        rooms.add(bool(place[0] > 35))
    assert rooms == {True, False}


def test_published_wall_takes_two_pixels_per_unit_action():
    env = EnvMaker("wall_published", 64, Shifts(door_y=20.0))(False)
    env.set_state(np.array([20.0, 20.0]))
    env.advance(np.array([1.0, -0.5]))
    np.testing.assert_allclose(env.get_state(), [22.0, 19.0])
    env.set_state(np.array([28.5, 30.0]))
    env.advance(np.array([1.0, 0.0]))
    np.testing.assert_allclose(env.get_state(), [28.5, 30.5], atol=1e-9)
    env.close()


@pytest.mark.parametrize("name", ["wall", "point_maze", "pusht"])
def test_published_tasks_are_the_same_robots(name):
    own, published = get_task(name), get_task(f"{name}_published")
    assert published.embodiment.difference(own.embodiment) is None
    assert published.state_names == own.state_names and published.things == own.things
