"""Rope and granular: a distance with known answers, and what a sweep does."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from sim_bridge.envs import granular, rope
from sim_bridge.envs.sweep import REACH, chamfer
from wm_planner.errors import TaskError
from wm_planner.tasks import get_task

from .simulated_tasks import RESTING, SWEPT, renderer  # noqa: F401

STRAIGHT = np.array(RESTING["rope"])  # along x, at y = -0.1


def make(name, **options):
    options.setdefault("render", "image_size" in options)
    return gymnasium.make(get_task(name).env_id, **options).unwrapped


@pytest.fixture(scope="module")
def envs():
    return {name: make(name) for name in SWEPT}


def swept(env, state, *actions):
    """The state after the sweeps (from_x, from_y, to_x, to_y)."""
    env.set_state(np.array(state))
    for action in actions:
        env.advance(np.array(action))
    return env.get_state()


def overlap(env, state):
    """How deep the things of a state lie in each other or in the rim, m."""
    env.set_state(state)
    return max(0.0, -float(env.data.contact.dist.min(initial=0.0)))


@pytest.mark.parametrize(
    ("points", "others", "expected"),
    [
        ([[0, 0]], [[3, 4]], 10.0),  # there and back
        ([[0, 0], [1, 0]], [[1, 0], [0, 0]], 0.0),  # no order
        ([[0, 0], [2, 0]], [[0, 0]], 1.0),  # the mean of 0 and 2, and 0
        ([[0, 0], [1, 0], [2, 0]], [[0, 1], [1, 1], [2, 1]], 2.0),
        ([[0, 0], [4, 0]], [[1, 0], [1, 3]], 2.0 + (1.0 + 10**0.5) / 2),
    ],
)
def test_chamfer_distance_of_known_sets(points, others, expected):
    assert chamfer(points, others) == pytest.approx(expected)
    assert chamfer(others, points) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "stride", "reached"),
    [("rope", 2, rope.REACHED_M), ("granular", 3, granular.REACHED_M)],
)
def test_success_is_of_places_in_any_order(envs, name, stride, reached):
    env, task, count = envs[name], get_task(name), len(RESTING[name]) // stride
    goal = np.zeros((count, stride))
    goal[:, 0] = 0.01 * np.arange(count)
    near = goal[::-1].copy()  # the other end of the rope first, another grain first
    near[:, 1] += 0.49 * reached  # half of the distance goes each way
    near[:, 2:] += 1.0  # angles do not count
    assert task.is_success(env.state_of(near), env.state_of(goal))
    near[:, 1] += 0.02 * reached
    assert not task.is_success(env.state_of(near), env.state_of(goal))


# What a sweep does --------------------------------------------------------------------------


def test_a_sweep_across_the_rope_moves_it_and_one_beside_it_does_not(envs):
    env = envs["rope"]
    beside = env.places_of(swept(env, STRAIGHT, [-0.1, 0.0, 0.1, 0.0]))
    np.testing.assert_allclose(beside, env.places_of(STRAIGHT), atol=1e-9)
    across = env.places_of(swept(env, STRAIGHT, [0.0, -0.15, 0.0, 0.05]))
    middle = across[14:16].mean(axis=0)
    assert middle[1] == pytest.approx(0.05 + 0.009 + rope.RADIUS, abs=0.006), "before the rod"
    assert across[0, 1] < middle[1] - 0.08 and across[-1, 1] < middle[1] - 0.08, "the ends trail"
    np.testing.assert_allclose(across[:, 0], -across[::-1, 0], atol=2e-3)  # symmetric
    links = np.linalg.norm(np.diff(across, axis=0), axis=1)
    np.testing.assert_allclose(links, rope.SPACING, atol=1e-4)


def test_a_rope_that_is_swept_together_keeps_its_length_and_its_least_bend(envs):
    env, rng = envs["rope"], np.random.default_rng(0)
    for _ in range(5):
        env.set_state(env.sample_state(rng))
        policy = env.explore(rng)
        for _ in range(6):
            env.advance(policy(env.get_state()))
            places = env.places_of(env.get_state())
            links = np.linalg.norm(np.diff(places, axis=0), axis=1)
            np.testing.assert_allclose(links, rope.SPACING, atol=5e-4)
            chords = np.linalg.norm(places[2:] - places[:-2], axis=1)
            assert chords.min() > rope.CHORD - 1e-3
            assert overlap(env, env.state_of(places)) < 2e-3


def test_the_board_carries_the_grains_before_it_and_no_others(envs):
    env = envs["granular"]
    before = env.places_of(np.array(RESTING["granular"]))
    after = env.places_of(swept(env, RESTING["granular"], [0.0, -0.05, 0.0, 0.14]))
    half = granular.BOARD_HALF + 0.006 + granular.RADIUS + granular.HALF_LENGTH
    moved = np.linalg.norm(after - before, axis=1)
    assert moved[np.abs(before[:, 0]) < granular.BOARD_HALF].min() > 0.01
    assert moved[np.abs(before[:, 0]) > half + 0.05].max() == 0.0
    carried = after[np.abs(before[:, 0]) < 0.03]
    assert carried[:, 1].min() > 0.13, "all of them lie beyond where the board was"


def test_grains_stay_in_the_tray_and_out_of_each_other(envs):
    env = envs["granular"]
    state = swept(
        env,
        RESTING["granular"],
        *([x, -0.17, x, 0.17] for x in (-0.15, -0.05, 0.05, 0.15)),  # all against the rim
        [-0.17, 0.17, 0.17, 0.17],
        [0.17, 0.17, 0.0, 0.0],
    )
    assert env.is_possible(state)
    assert overlap(env, state) < 3e-3


@pytest.mark.parametrize("name", SWEPT)
def test_a_sweep_of_no_length_does_nothing_wherever_it_is(envs, name):
    on_it = envs[name].places_of(np.array(RESTING[name]))[3]
    before = swept(envs[name], RESTING[name])
    state = swept(envs[name], before, [*on_it, *on_it])
    np.testing.assert_array_equal(state, before)


def test_the_state_says_how_the_things_lie_as_a_whole(envs):
    state = swept(envs["rope"], STRAIGHT)
    spread = 0.01 * np.sqrt((30**2 - 1) / 12)  # of 30 places in a row
    expected = [0.0, -0.1, spread, 0.0, spread / np.sqrt(2)]
    np.testing.assert_allclose(state[-5:], expected, atol=1e-12)


@pytest.mark.parametrize("name", SWEPT)
def test_everything_has_stopped_when_the_picture_is_taken(envs, name):
    """A further sweep that touches nothing would show what still moves."""
    env = envs[name]
    places = env.places_of(np.array(RESTING[name]))
    start = places[5] - [0.0, 0.02]
    state = swept(env, RESTING[name], [*start, *(start + [0.02, 0.08])])
    assert env.task.distance(state, np.array(RESTING[name])) > 1e-3
    env._mujoco.mj_step(env.model, env.data, 250)
    np.testing.assert_allclose(env.get_state(), state, atol=1e-3)
    assert not env.contacts() or all("tool" not in pair for pair in env.contacts())


def test_the_tool_is_out_of_the_picture(envs):
    env = make("rope", image_size=64)
    clean = env.render_state(STRAIGHT)
    env.set_state(STRAIGHT)
    env.advance(np.array([-0.1, 0.0, 0.1, 0.0]))
    np.testing.assert_array_equal(env.render(), clean)
    assert env.proprio_of(env.get_state()) == [0.0]
    env.close()


# Exploration and goals ----------------------------------------------------------------------


@pytest.mark.parametrize("name", SWEPT)
def test_exploration_reaches_the_things_and_keeps_them_in_the_tray(envs, name):
    env, rng, moved = envs[name], np.random.default_rng(0), []
    for _ in range(4):
        env.set_state(env.sample_state(rng))
        policy = env.explore(rng)
        for _ in range(4):
            before = env.get_state()
            action = policy(before)
            assert env.action_space.contains(action)
            env.advance(action)
            moved.append(env.task.distance(before, env.get_state()))
            assert env.is_possible(env.get_state())
    assert np.mean(np.array(moved) > 0.005) > 0.75


def test_rope_goals_are_the_rope_turned_and_shifted(envs):
    env, rng, turns = envs["rope"], np.random.default_rng(1), []
    for _ in range(40):
        start, goal = env.sample_target(rng)
        one, two = env.places_of(start), env.places_of(goal)
        assert env.task.distance(start, goal) >= 2 * rope.REACHED_M
        for places in (one, two):
            assert np.abs(places).max() < REACH and overlap(env, env.state_of(places)) < 1e-9
        middles = one.mean(axis=0), two.mean(axis=0)
        assert np.linalg.norm(middles[1] - middles[0]) <= rope.MOST_SHIFT + 1e-9
        ends = one[-1] - one[0], two[-1] - two[0]
        assert np.linalg.norm(ends[0]) == pytest.approx(np.linalg.norm(ends[1]))
        angles = [np.arctan2(end[1], end[0]) for end in ends]
        turns.append(abs((angles[1] - angles[0] + np.pi) % (2 * np.pi) - np.pi))
    assert max(turns) <= np.pi / 2 + 1e-9
    assert min(turns) < 0.4 and max(turns) > 1.2


def test_granular_goals_are_near_and_far_and_without_overlap(envs):
    env, ways = envs["granular"], []
    for seed in range(4):
        start, goal = env.sample_target(np.random.default_rng(seed))
        ways.append(env.task.distance(start, goal))
        for state in (start, goal):
            assert env.is_possible(state)
            assert overlap(env, state) < 1.5e-3
    assert min(ways) >= 2 * granular.REACHED_M
    assert max(ways) > 0.1


def test_a_layout_is_refused():
    with pytest.raises(TaskError, match="task 'rope' has no layout to change"):
        make("rope", layout={"obstacle": 1})
