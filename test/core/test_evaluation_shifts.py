"""Worlds that differ from the trained one: each shift has a known effect, and no other."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from sim_bridge.envs.shifts import ShiftedEnv
from wm_planner.errors import ConfigError
from wm_planner.evaluation.episode import EnvMaker
from wm_planner.tasks.shifts import Shifts, parse_shifts

from .simulated_tasks import RESTING, SCENES, renderer  # noqa: F401


def make(task: str, render: bool = False, **shifts):
    return EnvMaker(task, 64, Shifts(**shifts))(render)


def moved(env, task: str, action, periods: int = 3) -> np.ndarray:
    env.set_state(np.array(RESTING[task]))
    for _ in range(periods):
        env.advance(np.array(action, np.float64))
    return env.get_state()[:2] - RESTING[task][:2]


def seen(**shifts) -> np.ndarray:
    env = make("wall", True, **shifts)
    image = env.render_state(np.array([20.0, 40.0])).astype(float)
    env.close()
    return image


def dot(image: np.ndarray) -> np.ndarray:
    """Centre of the red dot, (row, column)."""
    red = (image[..., 0] > 150) & (image[..., 1:] < 100).all(axis=-1)
    return np.argwhere(red).mean(axis=0)


def test_no_shift_needs_no_wrapper() -> None:
    assert not isinstance(make("wall", delayed_frames=2, gain=1.0), ShiftedEnv)
    assert not isinstance(make("wall", obstacle=1, door_y=45.0), ShiftedEnv)
    assert parse_shifts(["gain=1", "mass=2"]).changes() == {"mass": 2.0}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("frictoin=2", "--shift: unknown key 'frictoin'. Did you mean 'friction'?"),
        ("friction", "'friction' is not of the form key=value"),
        ("friction=much", "--shift: friction: expected a number, got 'much'"),
        ("delayed_frames=1.5", "delayed_frames: expected a whole number"),
        ("image_noise=-1", "image_noise must be at least 0, got -1"),
        ("mass=0", "mass must be positive, got 0"),
        ("gain=.nan", "gain: expected a finite number, got nan"),
        ("gain=[", "the value is not valid YAML"),
        ("camera_x=.inf", "--shift: camera_x: expected a finite number, got inf"),
        ("camera_y=.nan", "camera_y: expected a finite number, got nan"),
        ("gain=.inf", "gain: expected a finite number, got inf"),
        ("delayed_frames=-2", "delayed_frames: expected a number from 0 to 100000000, got -2"),
        ("obstacle=0", "obstacle must be at least 1, got 0"),
    ],
)
def test_bad_shifts_are_named(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_shifts([setting])
    assert message in str(error.value)


@pytest.mark.parametrize("name", [f.name for f in fields(Shifts) if f.name != "delayed_frames"])
def test_every_name_changes_the_world(name: str) -> None:
    task = "wall" if name in ("wall_x", "door_y") else "point_maze"
    value = {"maze": "open", "obstacle": 1}.get(name, 20.0)
    start = np.array(RESTING[task])

    def experience(**shifts) -> list[np.ndarray]:
        env = make(task, True, **shifts)
        seen = [env.render_state(start), env.proprio_of(start)]
        env.set_state(start)
        for _ in range(3):
            env.advance(np.array([0.1, 0.1]))
        env.close()
        return [*seen, env.get_state()]

    pairs = zip(experience(), experience(**{name: value}), strict=True)
    assert not all(np.array_equal(before, after) for before, after in pairs)


@pytest.mark.parametrize("task", SCENES)
def test_gain_scales_what_an_action_does(task: str) -> None:
    usual, strong = make(task), make(task, gain=1.5)
    for size in (0.3, 1.0, 3.0):  # past the bound it is the command that saturates
        expected = 1.5 * moved(usual, task, [size, 0.0], 1)
        np.testing.assert_allclose(moved(strong, task, [size, 0.0], 1), expected, rtol=0.02)


def test_mass_and_friction_slow_the_ball_as_they_should() -> None:
    """A force on a heavier ball: the displacement at first is as one to the mass."""
    usual = moved(make("point_maze"), "point_maze", [0.1, 0.0], 1)
    heavy = moved(make("point_maze", mass=2.0), "point_maze", [0.1, 0.0], 1)
    assert usual[0] / heavy[0] == pytest.approx(2.0, rel=0.05)
    # Terminal speed is force over damping.
    ends = []
    for friction in (10.0, 20.0):
        env = make("point_maze", friction=friction)
        env.set_state(np.array(RESTING["point_maze"]))
        for _ in range(40):
            env.advance(np.array([0.0, 0.02]))
        ends.append(env.get_state()[3])
    assert ends[0] / ends[1] == pytest.approx(2.0, rel=0.05)


def test_process_noise_has_its_size_and_belongs_to_the_start() -> None:
    env = make("wall", process_noise=0.2)
    one = [moved(env, "wall", [0.0, 0.0], n) for n in (1, 2)]
    np.testing.assert_array_equal(one[0], moved(env, "wall", [0.0, 0.0], 1))
    env.set_state(np.array([20.0, 30.0]))
    env.advance(np.zeros(2))
    assert not np.allclose(env.get_state() - [20.0, 30.0], one[0])
    steps = []
    for x in np.linspace(15, 25, 400):
        env.set_state(np.array([x, 30.0]))
        env.advance(np.zeros(2))
        steps.append(env.get_state() - [x, 30.0])
    assert np.std(steps) == pytest.approx(2 * 0.2, rel=0.1)  # two pixels per unit action


def test_observation_noise_has_its_size_and_spares_the_state() -> None:
    dark = dict(brightness=0.5)  # so that nothing is clipped on the floor
    clean, noisy = seen(**dark), seen(**dark, image_noise=10.0)
    floor = (clean > 60) & (clean < 195)
    assert np.std((noisy - clean)[floor]) == pytest.approx(10.0, rel=0.05)
    np.testing.assert_array_equal(noisy, seen(**dark, image_noise=10.0))
    env = make("pusht", proprio_noise=3.0)
    rng = np.random.default_rng(0)
    states = [np.array(RESTING["pusht"]) + rng.uniform(0, 1, 7) for _ in range(300)]
    errors = [env.proprio_of(s) - np.array(s)[[0, 1, 5, 6]] for s in states]
    assert np.std(errors) == pytest.approx(3.0, rel=0.1)
    env.set_state(states[0])
    np.testing.assert_allclose(env.get_state(), states[0])


def test_camera_moves_turns_and_zooms() -> None:
    middle, at = np.array([31.5, 31.5]), dot(seen())
    np.testing.assert_allclose(dot(seen(camera_x=0.1)) - at, [0.0, -6.4], atol=0.6)
    np.testing.assert_allclose(dot(seen(camera_y=0.1)) - at, [6.4, 0.0], atol=0.6)
    turned = dot(seen(camera_turn_deg=90.0)) - middle  # the camera's turn, against the picture's
    np.testing.assert_allclose(turned, (at - middle)[[1, 0]] * [1, -1], atol=0.8)
    zoomed = dot(seen(camera_zoom=1.2)) - middle
    np.testing.assert_allclose(zoomed, 1.2 * (at - middle), atol=0.8)


def test_colours_turn_and_darken() -> None:
    clean, green, dark = seen(), seen(hue_deg=120.0), seen(brightness=0.5)
    row, column = dot(clean).round().astype(int)
    np.testing.assert_allclose(green[row, column], clean[row, column][[2, 0, 1]], atol=2)
    np.testing.assert_allclose(dark, 0.5 * clean, atol=2)


def test_gymnasium_interface_is_disturbed_too() -> None:
    env = make("wall", True, process_noise=0.3, image_noise=20.0)
    options = {"state": [12.0, 40.0], "goal_state": [50.0, 20.0]}
    first, info = env.reset(options=options)
    np.testing.assert_array_equal(info["goal_image"], env.render_state(np.array([50.0, 20.0])))
    after, *_ = env.step(np.zeros(2))
    np.testing.assert_array_equal(after["image"], env.render_state(after["state"]))
    np.testing.assert_array_equal(after["state"] - [12.0, 40.0], moved(env, "wall", [0, 0], 1))
    again, _ = env.reset(options=options)
    np.testing.assert_array_equal(first["image"], again["image"])
    env.close()
