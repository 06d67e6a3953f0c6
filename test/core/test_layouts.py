"""Scenes laid out differently than in training: obstacles, other mazes, another door."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import numpy as np
import pytest

from sim_bridge.envs.mazes import MAZES
from wm_planner.cli.targets import find_targets
from wm_planner.errors import ConfigError, TaskError
from wm_planner.evaluation.episode import EnvMaker
from wm_planner.evaluation.target import sample_targets
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts

from .simulated_tasks import RESTING, SCENES, renderer  # noqa: F401

OTHERS = [name for name in MAZES if name != "u"]
UNIT = {"wall": 1.0, "point_maze": 1.0, "pusht": 100.0}  # of the state, per unit of the scene
REACH = {"wall": 4.0 + 1.7, "point_maze": 0.15 + 0.1, "pusht": 25.0 + 15.0}  # radii, both


def make(task: str, render: bool = False, **shifts):
    return EnvMaker(task, 64, Shifts(**shifts))(render)


def place(env) -> np.ndarray:
    """Where the obstacle stands, in units of the state."""
    return env.model.geom("obstacle").pos[:2] * UNIT[env.task.name]


# Obstacles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", SCENES)
def test_obstacle_stands_where_its_number_says_and_lets_pass(task: str) -> None:
    places = [place(make(task, obstacle=number)) for number in (1, 2, 3, 1)]
    np.testing.assert_array_equal(places[0], places[3])
    assert len({tuple(at) for at in places}) == 3
    env = make(task, obstacle=1)
    movers = {"wall": 1.7, "point_maze": 0.1, "pusht": 0.15}
    assert env.obstacle_gap > 2 * movers[task], "what moves fits between obstacle and wall"
    for number in range(1, 6):
        model = make(task, obstacle=number).model
        for wall in range(model.ngeom):
            if model.geom(wall).bodyid == 0 and model.geom(wall).type == 6:
                beyond = np.abs(model.geom("obstacle").pos - model.geom(wall).pos)
                beyond = np.maximum(beyond - model.geom(wall).size, 0.0)[:2]
                gap = np.linalg.norm(beyond) - model.geom("obstacle").size[0]
                assert gap >= env.obstacle_gap - 1e-9


@pytest.mark.parametrize("task", SCENES)
def test_obstacle_stops_what_moves(task: str) -> None:
    usual, blocked = make(task), make(task, obstacle=1)
    at, reach = place(blocked), REACH[task]
    for side in np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]):
        start = np.array(RESTING[task])
        start[:2] = at + 1.2 * reach * side
        if task == "pusht":
            start[2:4] = (at + 200) % 400 + 50  # the block is far away
        assert blocked.is_free(start)
        ways = []
        for env in (usual, blocked):
            env.set_state(start)
            ways.append([])
            for _ in range(10):
                env.advance(-0.4 * side)
                ways[-1].append(env.get_state()[:2] - at)
        assert ways[0][-1] @ side < 0, "through the place, where nothing stands"
        assert np.linalg.norm(ways[1], axis=1).min() > 0.9 * reach


@pytest.mark.parametrize("task", SCENES)
def test_obstacle_blocks_neither_start_nor_goal(task: str) -> None:
    usual, blocked = make(task), make(task, obstacle=1)
    at, reach = place(blocked), REACH[task]
    drawn = sample_targets(blocked, 0, 30)
    for state in (*drawn.starts, *drawn.goals):
        assert np.linalg.norm(state[:2] - at) > reach and blocked.is_free(state)
    touching = np.array(RESTING[task])
    touching[:2] = at + [0.9 * reach, 0.0]
    assert usual.is_free(touching) and not blocked.is_free(touching)
    if task != "pusht":  # its goals are where pushing led, in the world that they are drawn in
        same = (drawn.starts == sample_targets(usual, 0, 30).starts).all(axis=1)
        assert 15 < same.sum() < 30, "only targets that it would block are drawn again"


@pytest.mark.parametrize("task", SCENES)
def test_obstacle_is_seen_in_its_own_colour(task: str) -> None:
    usual, blocked = make(task, True), make(task, True, obstacle=1)
    clean, image = (env.render_state(np.array(RESTING[task])) for env in (usual, blocked))
    changed = (clean != image).any(axis=-1)
    pixel = 64 / usual.model.camera("top").fovy[0]
    area = np.pi * (blocked.obstacle_radius * pixel) ** 2
    assert changed.sum() == pytest.approx(area, rel=0.5)
    rows, columns = np.argwhere(changed).mean(axis=0)
    at = place(blocked) / UNIT[task] * pixel
    np.testing.assert_allclose([columns + 0.5, 64 - rows - 0.5], at, atol=1.0)
    inner = image[round(rows), round(columns)].astype(int)
    assert np.abs(clean.reshape(-1, 3).astype(int) - inner).sum(axis=1).min() > 60
    for env in (usual, blocked):
        env.close()


@pytest.mark.parametrize(
    ("task", "state", "possible"),
    [
        ("wall", [28.0, 10.0], True),  # touches the wall
        ("wall", [32.0, 30.0], True),  # in the door
        ("wall", [32.0, 10.0], False),
        ("wall", [-3.0, 30.0], False),
        ("wall", [1e6, 1e6], False),
        ("point_maze", [0.8, 0.8, 0.0, 0.0], True),
        ("point_maze", [0.35, 0.8, 0.0, 0.0], True),  # driven against the border
        ("point_maze", [1.8, 1.0, 0.0, 0.0], False),
        ("point_maze", [0.1, 0.8, 0.0, 0.0], False),
        ("pusht", [256, 256, 150, 150, 0, 0, 0], True),
        ("pusht", [256, 2, 150, 150, 0, 0, 0], False),
        ("pusht", [256, 256, 150, -30, 0, 0, 0], False),
        ("pusht", [256, 256, 1000, 1000, 0, 0, 0], False),
    ],
)
def test_nothing_is_outside_the_scene_or_in_a_wall(task: str, state, possible: bool) -> None:
    env = make(task)
    assert env.is_possible(np.array(state, np.float64)) is possible
    if task == "point_maze":
        assert MAZES["u"].has(np.array(state[:2])) is possible


@pytest.mark.parametrize("task", SCENES)
def test_where_a_world_goes_is_possible(task: str) -> None:
    """Pushed into walls at full speed, as stored trajectories are."""
    env, rng = make(task), np.random.default_rng(0)
    for _ in range(10):
        env.set_state(env.sample_state(rng))
        for action in np.repeat(rng.choice([-1.0, 1.0], (4, 2)), 8, axis=0):
            env.advance(action)
            assert env.is_possible(env.get_state())


# Mazes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_mazes_share_picture_and_border(name: str) -> None:
    usual, other = make("point_maze", True), make("point_maze", True, maze=name)
    state = next(iter(MAZES[name].cells(".").values()))
    first, second = (env.render_state(np.array([*state, 0.0, 0.0])) for env in (usual, other))
    assert not np.array_equal(first, second)
    frame = np.ones((64, 64), bool)
    frame[6:-6, 6:-6] = False
    np.testing.assert_array_equal(first[frame][:8], second[frame][:8])
    wall, floor = first[0, 0], first[-32, 12]
    pixel = 64 / 3.6
    for kind, colour in (("#", wall), (".", floor)):
        for x, y in MAZES[name].cells(kind).values():
            if not np.allclose((x, y), state):
                seen = second[round(64 - y * pixel), round(x * pixel)]
                np.testing.assert_array_equal(seen, colour)
    usual.close()
    other.close()


@pytest.mark.parametrize("name", MAZES)
def test_maze_walls_hold_and_states_lie_between_them(name: str) -> None:
    env, maze = make("point_maze", maze=name), MAZES[name]
    walls, rng = maze.cells("#").values(), np.random.default_rng(0)
    visited = set()
    for _ in range(60):
        state = env.sample_state(rng)
        assert env.is_free(state)
        env.set_state(state)
        for action in np.repeat(rng.uniform(-1, 1, (2, 2)), 10, axis=0):
            env.advance(action)
            here = env.get_state()[:2]
            assert ((here > 0.3) & (here < 3.3)).all()
            assert all(np.abs(here - wall).max() > 0.5 for wall in walls)
        free = maze.cells(".")
        visited.add(min(free, key=lambda cell: np.abs(free[cell] - state[:2]).max()))
    assert visited == set(maze.cells(".")), "every free cell is drawn from"


def test_waypoints_lead_around_the_corner() -> None:
    u, start, goal = MAZES["u"], np.array([0.8, 0.9]), np.array([2.7, 0.7])
    way = [start]
    while not np.array_equal(way[-1], goal):
        way.append(u.next_waypoint(way[-1], goal))
        assert len(way) < 10
    expected = [[0.8, 1.8], [0.8, 2.8], [1.8, 2.8], [2.8, 2.8], [2.8, 1.8], [2.8, 0.8], goal]
    np.testing.assert_allclose(way[1:], expected)


@pytest.mark.parametrize("name", MAZES)
def test_every_cell_of_a_maze_can_be_reached(name: str) -> None:
    maze = MAZES[name]
    first, *others = maze.cells(".").values()
    for goal in others:
        here = first
        for _ in range(9):
            here = maze.next_waypoint(here, goal)
        np.testing.assert_array_equal(here, goal)


@pytest.mark.parametrize("name", ["open", "medium_southwest"])
def test_expert_finds_its_way_in_another_maze(name: str) -> None:
    env, rng = make("point_maze", maze=name), np.random.default_rng(0)
    visited = set()
    for _ in range(6):
        env.set_state(env.sample_state(rng))
        policy = env.expert(rng)
        for _ in range(100):
            env.advance(policy(env.get_state()))
            visited.add(tuple(np.floor(env.get_state()[:2] - 0.3)))
    assert len(visited) == len(env.maze.cells("."))


# What is asked of it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "shifts"), [("wall", dict(door_y=45.0)), ("point_maze", dict(maze="open"))]
)
def test_targets_are_drawn_in_the_layout_but_without_disturbances(task, shifts) -> None:
    shown = Shifts(**shifts, process_noise=0.5, camera_x=0.1)
    assert shown.of_layout() == Shifts(**shifts)
    assert shown.disturbances() == {"process_noise": 0.5, "camera_x": 0.1}
    assert shown.fits(get_task(task)) and not shown.fits(get_task("pusht"))
    assert make(task, **shifts, process_noise=0.5).layout == shifts


def test_targets_of_another_layout_are_refused(tmp_path) -> None:
    usual = sample_targets(make("point_maze"), 0, 20)
    usual.save(tmp_path / "targets.npz")
    shifts = Shifts(maze="medium_northeast")  # its free cells are walls of the U, and the reverse
    job = SimpleNamespace(
        task="point_maze",
        image_size=32,
        shifts=shifts,
        make_env=lambda disturbed: EnvMaker("point_maze", 32, shifts),
    )
    args = argparse.Namespace(
        task="point_maze",
        targets=tmp_path / "targets.npz",
        episodes=20,
        seed=0,
        goals="random",
        ahead=None,
    )
    with pytest.raises(ConfigError, match=r"of 20 targets lie in walls or obstacle of .*maze"):
        find_targets(args, job)
    args.targets, args.data, args.goal_image, args.goal_state = None, None, None, None
    assert len(find_targets(args, job)) == 20


@pytest.mark.parametrize(
    ("task", "shifts", "message"),
    [
        ("pusht", dict(maze="open"), "task 'pusht': unknown layout key 'maze'. Choices: obstacle"),
        ("point_maze", dict(maze="opn"), "there is no maze 'opn'. Did you mean 'open'?"),
        ("wall", dict(door_y=3.0), "layout door_y must be from 12.0 to 53.0 pixels, got 3.0"),
    ],
)
def test_impossible_layouts_are_named(task, shifts, message) -> None:
    with pytest.raises(TaskError) as error:
        make(task, **shifts)
    assert message in str(error.value)
