"""The simulated tasks: physics with known answers, and clear words for what cannot be done."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wm_planner.errors import RenderError, TaskError
from wm_planner.tasks import get_task

from .simulated_tasks import EVERY, RESTING, SWEPT, renderer  # noqa: F401


def make(name, **options):
    """The environment itself; physics only unless an image size is given."""
    options.setdefault("render", "image_size" in options)
    return gymnasium.make(get_task(name).env_id, **options).unwrapped


@pytest.fixture(scope="module")
def envs():
    """One drawing environment per task, made when asked for, for tests that set the state first."""

    class Made(dict):
        def __missing__(self, name):
            self[name] = make(name, image_size=32)
            return self[name]

    made = Made()
    yield made
    for env in made.values():
        env.close()


def drive(env, start, actions):
    """States after each action, from `start`, as (T, S)."""
    env.set_state(np.array(start))
    states = []
    for action in actions:
        env.advance(np.asarray(action))
        states.append(env.get_state())
    return np.array(states)


def actions_of(env, rng, count):
    """(count, A) random raw actions within their bounds."""
    low, high = env.action_space.low, env.action_space.high
    return rng.uniform(low, high, (count, len(low)))


def settled(env, state, moved=False):
    """The full state that `state` is, for an arm with its tip; moved: a little away from it."""
    entry = 8 if env.task.name == "arm_push" else 0
    state = np.array(state)
    if moved:
        state[entry] += 8.0 if env.task.name in ("wall", "pusht", "gym_pusht") else 0.04
    env.set_state(state)
    return env.get_state()


# What all tasks promise ---------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_gymnasium_contract(name):
    env = make(name, image_size=32)
    with warnings.catch_warnings():
        # Observations without bounds are meant, and there is no wrapper; all else is an error.
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(infinity|unwrapped).*")
        check_env(env, skip_render_check=True)
    env.close()


@pytest.mark.parametrize("name", EVERY)
def test_same_seed_same_episode(name):
    def episode(seed):
        env = make(name, image_size=32)
        first, info = env.reset(seed=seed)
        rng = np.random.default_rng(0)
        rows = [env.step(action) for action in actions_of(env, rng, 10)]
        env.close()
        images = np.stack([first["image"], *(row[0]["image"] for row in rows)])
        states = np.stack([first["state"], *(row[0]["state"] for row in rows)])
        return images, states, info["goal_state"], info["goal_image"]

    one, two, other = episode(3), episode(3), episode(4)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[1], other[1])


@pytest.mark.parametrize("name", EVERY)
def test_set_state_is_exact_and_without_memory(envs, name):
    env = envs[name]
    rng = np.random.default_rng(1)
    actions = actions_of(env, rng, 5)
    for _ in range(5):
        state = env.sample_state(rng)
        alone = drive(env, state, actions)
        env.set_state(state)
        np.testing.assert_allclose(env.get_state(), state, atol=1e-9)
        drive(env, env.sample_state(rng), actions_of(env, rng, 7))  # something else between
        np.testing.assert_array_equal(drive(env, state, actions), alone)


@pytest.mark.parametrize("name", EVERY)
def test_render_state_leaves_the_present_alone(envs, name):
    env = envs[name]
    rng = np.random.default_rng(2)
    state, other = env.sample_state(rng), env.sample_state(rng)
    env.set_state(other)
    expected = env.render()
    start, actions = env.sample_state(rng), actions_of(env, rng, 6)
    plain = drive(env, start, actions)
    drive(env, start, actions[:3])
    np.testing.assert_array_equal(env.render_state(other), expected)
    assert not np.array_equal(env.render_state(state), expected)
    for action in actions[3:]:
        env.advance(action)
    np.testing.assert_allclose(env.get_state(), plain[-1], atol=1e-12)


@pytest.mark.parametrize(
    ("name", "elsewhere"),
    [
        ("wall", [50.0, 12.0]),
        ("point_maze", [2.8, 1.0, 0.0, 0.0]),
        ("pusht", [100.0, 420.0, 350.0, 350.0, 0.5, 0.0, 0.0]),
    ],
)
def test_the_ring_is_where_the_goal_is_seen(envs, name, elsewhere):
    """In its middle the goal's picture shows what is to be there, another picture does not."""
    env, goal = envs[name], np.array(RESTING[name])
    x, y, radius = env.seen_ring(goal)
    assert 0 < x < 1 and 0 < y < 1 and 0.01 < radius < 0.2
    row, column = int(y * env.image_size), int(x * env.image_size)
    here, away = (env.render_state(s)[row, column].astype(int) for s in (goal, elsewhere))
    assert np.abs(here - away).max() > 50


@pytest.mark.parametrize("name", EVERY)
def test_reset_takes_the_given_problem(envs, name):
    env = envs[name]
    start, goal = (settled(env, RESTING[name], moved) for moved in (False, True))
    obs, info = env.reset(options={"state": start, "goal_state": goal})
    np.testing.assert_allclose(obs["state"], start, atol=1e-9)
    np.testing.assert_allclose(info["goal_state"], goal, atol=1e-9)
    np.testing.assert_array_equal(info["goal_image"], env.render_state(goal))
    np.testing.assert_allclose(info["goal_proprio"], env.proprio_of(goal))
    expected = env.task.distance(start, goal)
    assert info["distance"] == pytest.approx(expected) and expected > 0
    if not name.startswith("arm") and name not in SWEPT:
        assert expected == pytest.approx(goal[0] - start[0])
    _, reward, terminated, truncated, info = env.step(np.zeros_like(env.action_space.low))
    assert (reward, terminated, truncated) == (-info["distance"], info["is_success"], False)


@pytest.mark.parametrize("name", EVERY)
def test_success_ends_the_episode(envs, name):
    start = np.array(RESTING[name])
    _, info = envs[name].reset(options={"state": start, "goal_state": start})
    assert info["is_success"] and info["distance"] == 0
    assert envs[name].step(np.zeros_like(envs[name].action_space.low))[2] is True


@pytest.mark.parametrize("name", EVERY)
def test_problems_are_valid_and_vary(envs, name):
    env = envs[name]
    rng = np.random.default_rng(5)
    count = 5 if name == "granular" else 20  # sweeps of many grains take time
    problems = [env.sample_target(rng) for _ in range(count)]
    starts, goals = (np.array(side) for side in zip(*problems, strict=True))
    assert len(np.unique(starts[:, 0])) == len(np.unique(goals[:, 0])) == count
    for state in (*starts, *goals):
        env.set_state(state)
        np.testing.assert_allclose(env.get_state(), state, atol=1e-9)
    again = env.sample_target(np.random.default_rng(5))
    np.testing.assert_array_equal(again, problems[0])


@pytest.mark.parametrize("name", EVERY)
def test_actions_are_clipped_to_their_bounds(envs, name):
    space = envs[name].action_space
    bounds = np.where(np.arange(space.shape[0]) % 2 == 0, space.high, space.low)
    one = drive(envs[name], RESTING[name], [bounds] * 3)
    np.testing.assert_array_equal(drive(envs[name], RESTING[name], [9.0 * bounds] * 3), one)


@pytest.mark.parametrize("name", EVERY)
def test_expert_stays_within_the_action_bounds(envs, name):
    env = envs[name]
    rng = np.random.default_rng(0)
    env.set_state(env.sample_state(rng))
    policy = env.expert(rng)
    actions = []
    for _ in range(60):
        actions.append(policy(env.get_state()))
        env.advance(actions[-1])
    actions = np.array(actions)
    assert all(env.action_space.contains(action) for action in actions)
    assert actions.std(axis=0).min() > 0.05, "an exploration policy explores"


# Wall ---------------------------------------------------------------------------------------


def test_wall_free_motion_is_two_pixels_per_unit_action(envs):
    states = drive(envs["wall"], [15.0, 20.0], [[0.5, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(states, [[16, 22], [14, 22], [14, 22]], atol=1e-6)


@pytest.mark.parametrize("y", [10.0, 20.0, 25.0, 35.0, 45.0, 58.0])
@pytest.mark.parametrize("side", [-1, 1])
def test_wall_does_not_let_the_dot_tunnel(envs, y, side):
    start = [32.0 + 12 * side, y]
    x = drive(envs["wall"], start, [[-side, 0.0]] * 30)[:, 0]
    assert ((x - 32.0) * side > 3.0).all(), "the dot's centre stays outside the wall"
    assert (x[-1] - 32.0) * side < 6.0, "it does reach the wall"


def test_wall_lets_the_dot_through_the_door(envs):
    states = drive(envs["wall"], [20.0, 30.0], [[1.0, 0.0]] * 14)
    np.testing.assert_allclose(states[-1], [48.0, 30.0], atol=0.1)


@pytest.mark.parametrize("action", [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)])
def test_wall_border_holds(envs, action):
    states = drive(envs["wall"], [48.0 if action[0] >= 0 else 16.0, 32.0], [action] * 60)
    assert (states > 5.0).all() and (states < 60.0).all()


def test_wall_problems_are_in_opposite_rooms(envs):
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, goal = envs["wall"].sample_target(rng)
        assert (start[0] - 32.0) * (goal[0] - 32.0) < 0
        assert min(abs(start[0] - 32.0), abs(goal[0] - 32.0)) > 3.0


def test_wall_layout_moves_wall_and_door():
    env = make("wall", layout={"wall_x": 20.0, "door_y": 45.0})
    x = drive(env, [40.0, 30.0], [[-1.0, 0.0]] * 20)[:, 0]
    assert x.min() > 23.0, "no door at 30 any more"
    assert drive(env, [40.0, 45.0], [[-1.0, 0.0]] * 14)[-1, 0] < 17.0


# PointMaze ----------------------------------------------------------------------------------


def in_u(x, y, slack=0.0):
    """Whether ball centres lie in D4RL's U: two legs along y, joined at the top."""
    inside = (x > 0.4 - slack) & (x < 3.2 + slack) & (y > 0.4 - slack) & (y < 3.2 + slack)
    return inside & ((x < 1.2 + slack) | (x > 2.4 - slack) | (y > 2.4 - slack))


def test_point_maze_stays_in_the_u():
    env = make("point_maze")
    rng = np.random.default_rng(0)
    for _ in range(15):
        pushes = np.repeat(rng.uniform(-1, 1, (4, 2)), 10, axis=0)
        states = drive(env, env.sample_state(rng), pushes)
        assert in_u(states[:, 0], states[:, 1], slack=0.1).all()


def test_point_maze_states_are_uniform_over_the_u():
    env = make("point_maze")
    rng = np.random.default_rng(1)
    states = np.array([env.sample_state(rng) for _ in range(2000)])
    assert in_u(states[:, 0], states[:, 1]).all()
    # Areas of the left leg, the right leg and the bar over them, each within four deviations.
    bar = states[:, 1] >= 2.5
    area = np.array([0.6 * 2.0, 0.6 * 2.0, 2.6 * 0.6])
    shares = [
        (~bar & (states[:, 0] < 1.8)).mean(),
        (~bar & (states[:, 0] > 1.8)).mean(),
        bar.mean(),
    ]
    np.testing.assert_allclose(shares, area / area.sum(), atol=4 * 0.5 / np.sqrt(2000))
    assert np.abs(states[:, 2:]).max() <= 5.2262554
    assert np.abs(states[:, 2:]).max() > 5.1


def test_point_maze_is_driven_by_force(envs):
    states = drive(envs["point_maze"], RESTING["point_maze"], [[0.0, 0.01]] * 3)
    mass = 1000 * 4 / 3 * np.pi * 0.1**3
    assert states[0, 3] == pytest.approx(1.0 / mass * 0.05, rel=0.1), "1 N for 0.05 s"
    assert (np.diff(states[:, 3]) > 0).all()
    np.testing.assert_allclose(states[:, 0], 0.8, atol=1e-9)


# PushT --------------------------------------------------------------------------------------

BLOCK = slice(2, 5)


def test_pusht_block_rests_unless_pushed(envs):
    states = drive(envs["pusht"], RESTING["pusht"], [[0.3, 0.0], [-0.3, 0.1], [0.0, -0.2]] * 5)
    expected = np.tile(RESTING["pusht"][2:5], (15, 1))
    np.testing.assert_allclose(states[:, BLOCK], expected, atol=1e-6)
    assert np.ptp(states[:, 0]) > 5


def test_pusht_block_moves_the_way_it_is_pushed_and_stops(envs):
    env = envs["pusht"]
    start = [150.0, 245.0, 256.0, 200.0, 0.0, 0.0, 0.0]
    pushed = drive(env, start, [[0.4, 0.0]] * 15)
    assert pushed[-1, 2] > 256.0 + 20
    assert pushed[-1, 0] < pushed[-1, 2], "the pusher is behind the block, not through it"
    for _ in range(3):
        env.advance(np.zeros(2))
    rest = env.get_state()[BLOCK]
    for _ in range(10):
        env.advance(np.array([-0.3, 0.0]))
    np.testing.assert_allclose(env.get_state()[BLOCK], rest, atol=1.0)


def test_pusht_stays_inside_the_workspace():
    env = make("pusht")
    rng = np.random.default_rng(0)
    for _ in range(10):
        policy = env.expert(rng)
        env.set_state(env.sample_state(rng))
        for _ in range(60):
            env.advance(policy(env.get_state()) * 2.5)
            state = env.get_state()
            assert (state[:2] > 5).all() and (state[:2] < 507).all()
            centre = env.data.qpos[:2] * 100.0
            assert (centre > 5).all() and (centre < 507).all()


def test_pusht_problems_move_the_block():
    env = make("pusht")
    rng = np.random.default_rng(0)
    for _ in range(10):
        start, goal = env.sample_target(rng)
        turned = abs((goal[4] - start[4] + np.pi) % (2 * np.pi) - np.pi)
        moved = np.linalg.norm(goal[2:4] - start[2:4])
        assert moved >= 10.0 or turned >= np.deg2rad(10)
        assert not env.task.is_success(start, goal)
        np.testing.assert_array_equal(start[5:], 0.0)


# What cannot be done ------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("wrong", ["short", "nan", "matrix"])
def test_wrong_states_and_actions_are_refused(envs, name, wrong):
    env = envs[name]
    values = {
        "short": lambda n: np.zeros(n - 1),
        "nan": lambda n: np.full(n, np.nan),
        "matrix": lambda n: np.zeros((1, n)),
    }[wrong]
    size, width = len(env.task.state_names), env.action_space.shape[0]
    with pytest.raises(TaskError, match=f"state of task '{name}' needs {size} finite entries"):
        env.set_state(values(size))
    with pytest.raises(TaskError, match=f"action of task '{name}' needs {width} finite entries"):
        env.step(values(width))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wall", {"image_size": 4}, "image_size must be from 16 to 1024 pixels, got 4"),
        ("wall", {"layout": {"dor_y": 30.0}}, "unknown layout key 'dor_y'. Did you mean 'door_y'"),
        ("wall", {"layout": {"wall_x": 5.0}}, "wall_x must be from 10.0 to 55.0 pixels, got 5.0"),
        ("pusht", {"layout": {"wall_x": 30.0}}, "'pusht': unknown layout key 'wall_x'. Choices: o"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(TaskError, match=message):
        make(name, **{"render": False, **options})


def test_unknown_reset_option_is_refused(envs):
    with pytest.raises(TaskError, match="goal_stat.*choices: state, goal_state"):
        envs["wall"].reset(options={"goal_stat": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("value", "message"),
    [("glfw", "MUJOCO_GL=glfw cannot render"), ("elg", "Did you mean 'egl'")],
)
def test_wrong_gl_backend_is_named(monkeypatch, value, message):
    monkeypatch.setenv("MUJOCO_GL", value)
    with pytest.raises(RenderError, match=message):
        make("wall", image_size=32)


def test_without_rendering_images_are_black_and_no_backend_is_needed(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    observation, _ = make("wall").reset(seed=0)
    assert observation["image"].shape == (64, 64, 3) and not observation["image"].any()


def test_diverged_physics_is_an_error_that_names_the_state(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings there

    env = gymnasium.make("sim_bridge:wm_planner/PointMaze-v0", render=False).unwrapped
    env.set_state(np.array([0.8, 0.8, 0.0, 0.0]))
    env.data.qacc_warmstart[:] = np.nan
    env.data.qvel[:] = np.nan
    with pytest.raises(TaskError, match="diverged"):
        env.advance(np.zeros(2))


@pytest.mark.parametrize("first", ["False", "True"])
def test_rendering_works_whatever_environment_came_first(first) -> None:
    code = (
        "import gymnasium as g;"
        f"a = g.make('sim_bridge:wm_planner/Wall-v0', render={first}, image_size=32);"
        "b = g.make('sim_bridge:wm_planner/Wall-v0', image_size=32);"
        "print(b.reset(seed=0)[0]['image'].max())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert result.stdout.strip() == "255", result.stderr
