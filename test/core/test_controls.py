"""Environments that others have made: their own physics behind this package's interface."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from wm_planner.cli.collect import collect_trajectory
from wm_planner.errors import TaskError
from wm_planner.evaluation.episode import EnvMaker
from wm_planner.evaluation.target import sample_targets
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts

from .simulated_tasks import PACKAGES, RESTING, needs_package, renderer  # noqa: F401

EVERY = [pytest.param(name, marks=needs_package(name)) for name in PACKAGES]
maze_only, pusht_only = needs_package("gym_point_maze"), needs_package("gym_pusht")


def make(task: str, render: bool = False, **shifts):
    return EnvMaker(task, 64, Shifts(**shifts))(render)


def drive(env, start, actions) -> np.ndarray:
    env.set_state(np.array(start, np.float64))
    states = [env.get_state()]
    for action in actions:
        env.advance(np.asarray(action))
        states.append(env.get_state())
    return np.array(states)


@pytest.mark.parametrize("task", EVERY)
def test_task_is_the_published_one(task: str) -> None:
    control, own = get_task(task), get_task(task.removeprefix("gym_"))
    differing = {name for name in vars(own) if getattr(own, name) != getattr(control, name)}
    assert differing <= {"embodiment", "env_id", "layout"}
    assert replace(control.embodiment, name=own.name) == own.embodiment


@pytest.mark.parametrize("task", EVERY)
def test_pictures_need_no_setting(task: str) -> None:
    """In a process of its own, where nothing has been imported or chosen before."""
    code = f"""
from wm_planner.evaluation.episode import EnvMaker
from wm_planner.tasks.shifts import Shifts
print(EnvMaker("{task}", 64, Shifts())(True).render().shape)
"""
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "(64, 64, 3)", done.stderr


# Their physics ------------------------------------------------------------------------------


@maze_only
def test_a_control_period_is_five_steps_of_gymnasium_robotics() -> None:
    env = make("gym_point_maze")
    start, force = np.array([-1.0, 1.0, 0.5, 0.0]), np.array([0.1, -0.05])
    after = drive(env, start, [force])[-1]
    plain = make("gym_point_maze").foreign
    assert type(plain).__module__ == "gymnasium_robotics.envs.maze.point_maze"
    plain.point_env.set_state(start[:2], start[2:])
    for _ in range(5):
        observation, *_ = plain.step(force)
    np.testing.assert_array_equal(after, observation["observation"])
    assert plain.point_env.dt * 5 == pytest.approx(env.task.embodiment.control_dt_s)


@maze_only
def test_the_maze_is_theirs() -> None:
    env = make("gym_point_maze")
    theirs = env.foreign.maze
    for kind, symbol in ((1, "#"), (0, ".")):
        centres = [
            theirs.cell_rowcol_to_xy(np.array([row, column]))
            for row in range(1, 4)
            for column in range(1, 4)
            if theirs.maze_map[row][column] == kind
        ]
        ours = list(env.maze.cells(symbol).values())
        np.testing.assert_allclose(sorted(map(tuple, ours)), sorted(map(tuple, centres)), atol=1e-9)


@maze_only
def test_ball_moves_as_the_package_s_own_does_where_nothing_is_in_the_way() -> None:
    own, control = make("point_maze"), make("gym_point_maze")
    forces = np.random.default_rng(0).uniform(-0.05, 0.05, (5, 2))
    ways = [
        drive(env, [*middle, 0.3, 0.2], forces) - [*middle, 0.0, 0.0]
        for env, middle in ((own, (0.8, 2.8)), (control, (-1.0, 1.0)))
    ]
    np.testing.assert_allclose(ways[0], ways[1], atol=1e-6)


@pusht_only
def test_a_raw_action_is_a_target_relative_to_the_pusher() -> None:
    """gym-pusht's law: acceleration 100 (target - x) - 20 v, ten steps of 0.01 s."""
    env = make("gym_pusht")
    states = drive(env, RESTING["gym_pusht"], [[0.3, -0.2]])
    at, speed = np.array([100.0, 420.0]), np.zeros(2)
    for _ in range(10):
        speed = speed + 0.01 * (100.0 * ([130.0, 400.0] - at) - 20.0 * speed)
        at = at + 0.01 * speed
    np.testing.assert_allclose(states[-1, [0, 1, 5, 6]], [*at, *speed], atol=1e-9)
    np.testing.assert_array_equal(states[-1, 2:5], states[0, 2:5])
    # The target ends at the bounds of its action space.
    corner = drive(env, [500.0, 20.0, 256, 256, 0, 0, 0], [[1.0, -1.0]] * 30)[-1]
    np.testing.assert_allclose(corner[:2], [512.0, 0.0], atol=0.5)


@pusht_only
def test_block_goes_about_as_far_as_the_package_s_own_does() -> None:
    own, control = make("pusht"), make("gym_pusht")
    moved, apart = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        start = control.sample_state(rng)
        policy = control.expert(rng)
        own.set_state(start)
        control.set_state(start)
        for _ in range(25):
            action = policy(control.get_state())
            own.advance(action)
            control.advance(action)
        blocks = [env.get_state()[2:4] for env in (own, control)]
        moved.append(np.linalg.norm(blocks[1] - start[2:4]))
        apart.append(np.linalg.norm(blocks[0] - blocks[1]))
    pushed = np.array(moved) > 5
    assert pushed.sum() >= 8
    assert np.median(np.array(apart)[pushed]) < 0.4 * np.median(np.array(moved)[pushed])


@pusht_only
def test_contacts_are_named() -> None:
    env = make("gym_pusht")
    env.set_state(np.array(RESTING["gym_pusht"]))
    assert env.contacts() == []
    env.set_state(np.array([256.0, 215.0, 256.0, 200.0, 0.0, 0.0, 0.0]))
    assert {frozenset(pair) for pair in env.contacts()} == {frozenset({"pusher", "block"})}
    env.set_state(np.array([256.0, 300.0, 40.0, 200.0, 0.0, 0.0, 0.0]))
    assert {frozenset(pair) for pair in env.contacts()} == {frozenset({"block", "world"})}


# Pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", EVERY)
def test_picture_shows_the_state_and_not_what_led_to_it(task: str) -> None:
    env, fresh = make(task, True), make(task, True)
    rng = np.random.default_rng(1)
    state = env.sample_state(rng)
    env.reset(seed=1)
    env.set_state(state)
    policy = env.expert(rng)
    for _ in range(20):
        env.advance(policy(env.get_state()))
    np.testing.assert_array_equal(env.render(), fresh.render_state(env.get_state()))
    assert env.render().shape == (64, 64, 3)
    for made in (env, fresh):
        made.close()


@maze_only
def test_the_whole_maze_is_seen_and_no_goal_mark() -> None:
    env = make("gym_point_maze", True)
    places = {}
    for x, y in env.maze.cells(".").values():
        image = env.render_state(np.array([x, y, 0.0, 0.0])).astype(int)
        assert not ((image[..., 0] > 150) & (image[..., 1:] < 100).all(axis=-1)).any()
        green = (image[..., 1] > image[..., 0] + 25) & (image[..., 1] > image[..., 2] + 25)
        rows, columns = np.nonzero(green)
        assert len(rows) > 20
        places[x, y] = np.array([columns.mean(), rows.mean()])
    # North is up and east is right, a cell as wide as it is high.
    east, south = places[1.0, 1.0] - places[-1.0, 1.0], places[1.0, -1.0] - places[1.0, 1.0]
    np.testing.assert_allclose([east[1], south[0]], 0.0, atol=1.0)
    np.testing.assert_allclose([east[0], south[1]], 34.0, atol=1.5)
    env.close()


@maze_only
def test_another_renderer_of_the_process_does_not_disturb() -> None:
    env, other = make("gym_point_maze", True), make("wall", True)
    state = np.array(RESTING["gym_point_maze"])
    alone = env.render_state(state)
    other.render_state(np.array(RESTING["wall"]))
    np.testing.assert_array_equal(env.render_state(state), alone)
    for made in (env, other):
        made.close()


# Data, targets, messages --------------------------------------------------------------------


@pytest.mark.parametrize("task", EVERY)
def test_trajectories_are_collected_and_repeat(task: str) -> None:
    one, two = (collect_trajectory(task, 1, steps=3, size=32, seed=0) for _ in range(2))
    states = len(get_task(task).state_names)
    assert one["images"].shape == (4, 32, 32, 3) and one["states"].shape == (4, states)
    assert one["actions"].shape == (3, 10)
    for key, values in one.items():
        np.testing.assert_array_equal(values, two[key])
    assert (one["images"][1:] != one["images"][:-1]).any()


@pytest.mark.parametrize("task", EVERY)
def test_expert_reaches_goals_sometimes(task: str) -> None:
    env, reached = make(task), 0
    targets = sample_targets(env, 0, 12)
    for i, (start, goal) in enumerate(zip(targets.starts, targets.goals, strict=True)):
        policy = env.expert(np.random.default_rng(i))
        env.set_state(start)
        for _ in range(120):
            env.advance(policy(env.get_state()))
            if env.task.is_success(env.get_state(), goal):
                reached += 1
                break
    assert 1 <= reached < 12, "it can be done, and not by chance alone"


@pytest.mark.parametrize("task", EVERY)
def test_noise_is_possible_other_shifts_are_refused(task: str) -> None:
    noisy, calm = make(task, process_noise=0.2), make(task)
    start = RESTING[task]
    assert not np.allclose(drive(noisy, start, [[0, 0]])[-1], drive(calm, start, [[0, 0]])[-1])
    with pytest.raises(TaskError, match=f"'{task}' is not simulated by this package.*not mass"):
        make(task, mass=2.0, process_noise=0.1)
    with pytest.raises(TaskError, match=f"task '{task}' has no layout to change"):
        make(task, obstacle=1)


@pytest.mark.parametrize("task", PACKAGES)
def test_a_missing_package_is_named_with_the_way_out(task: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[task], None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TaskError) as error:
            make(task)
    assert f"task '{task}' needs the package {PACKAGES[task]}" in str(error.value)
    assert "pip install 'wm_planner[controls]'" in str(error.value)
