"""Joints between samples, commands as a robot holds them, and frames a model step apart."""

import math
from dataclasses import replace

import numpy as np
import pytest

from wm_planner.data.alignment import choose_frames, interpolate, tolerances
from wm_planner.data.held_commands import hold_commands, raw_actions
from wm_planner.data.messages import Command
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.errors import ConfigError

MS = 1_000_000
ARM = Embodiment(
    name="arm",
    control_dt_s=0.1,
    frame_skip=5,
    action=ActionSpace(names=("a",), low=(-1,), high=(1,)),
    proprio=("a/position",),
    cameras=(Camera("front", 16),),
    angles=("a/position",),
)


def kind(name):
    return replace(ARM, action=replace(ARM.action, kind=name))


def at(stamps_ms, values, moments_ms, gap_ms=200, end_ms=50, wraps=False):
    stamps, moments = (np.array(x, np.int64) * MS for x in (stamps_ms, moments_ms))
    table = np.array(values, float).reshape(len(stamps), 1)
    return interpolate(stamps, table, moments, gap_ms * MS, end_ms * MS, wraps)[:, 0]


def test_values_lie_on_straight_lines_between_samples():
    result = at([0, 100, 200], [0.1, 0.3, 0.2], [0, 25, 100, 150, 200])
    np.testing.assert_allclose(result, [0.1, 0.15, 0.3, 0.25, 0.2])
    assert result[0] == 0.1 and result[2] == 0.3, "a sample itself, bit for bit"


def test_nothing_is_known_in_a_gap_and_far_beyond_the_ends():
    result = at([0, 100, 400], [1, 2, 3], [-51, -50, 100, 101, 399, 400, 450, 451])
    np.testing.assert_array_equal(result, [np.nan, 1, 2, np.nan, np.nan, 3, 3, np.nan])
    assert np.isnan(at([], [], [0])).all()


def test_an_angle_goes_the_short_way():
    result = at([0, 100], [3.1, -3.1], [0, 50, 100], wraps=True)
    np.testing.assert_allclose(np.abs(result), [3.1, math.pi, 3.1])
    straight = at([0, 100], [3.1, -3.1], [50])
    np.testing.assert_allclose(straight, 0, atol=1e-12)


def held(pairs, hold_ms=None, quantity="velocity", raw=False):
    """Commands (stamp in ms, value)."""
    samples = [(stamp * MS, Command(quantity, np.array([[value]]))) for stamp, value in pairs]
    return hold_commands(samples, ARM.dt_ns, None if hold_ms is None else hold_ms * MS, raw)


def actions(commands, body=ARM, start_ms=0, end_ms=500):
    return raw_actions(commands, body, start_ms * MS, end_ms * MS)[:, 0]


def test_a_command_counts_for_its_control_tick_whatever_the_jitter():
    rng = np.random.default_rng(0)
    jitter = rng.integers(-25, 25, 7)
    commands = held([(100 * (i - 1) + j, i - 1) for i, j in enumerate(jitter)])
    np.testing.assert_array_equal(actions(commands), np.arange(5))
    np.testing.assert_array_equal(actions(commands, start_ms=15, end_ms=510), np.arange(5))


def test_commands_are_held_until_the_next():
    rare = held([(0, 1), (200, 2), (400, 3)])
    np.testing.assert_array_equal(actions(rare), [1, 1, 2, 2, 3])
    pause = held([(0, 1), (400, 2)])
    np.testing.assert_array_equal(actions(pause), [1, 1, 1, 1, 2])


def test_a_robot_that_gives_up_waiting():
    result = actions(held([(0, 1), (400, 2)], hold_ms=200))
    np.testing.assert_array_equal(result, [1, 1, np.nan, np.nan, 2])


def test_nobody_knows_how_long_the_last_command_held():
    result = actions(held([(0, 1), (100, 2), (200, 3)]))
    np.testing.assert_array_equal(result, [1, 2, 3, np.nan, np.nan])
    rare = actions(held([(0, 1), (200, 2)]))
    np.testing.assert_array_equal(rare, [1, 1, 2, 2, np.nan])
    first = actions(held([(150, 1), (250, 2), (350, 3), (450, 4)]))
    np.testing.assert_array_equal(first, [np.nan, 1, 2, 3, 4])


@pytest.mark.parametrize("raw", [False, True])
def test_fast_velocities_are_averaged_and_fast_positions_are_not(raw):
    pairs = [(10 * i, i % 10) for i in range(60)]
    np.testing.assert_allclose(actions(held(pairs, raw=raw)), 4.5)
    positions = actions(held(pairs, quantity="position"), kind("position"))
    np.testing.assert_array_equal(positions, 5)


def test_deltas_and_velocities_of_commanded_positions():
    pairs = [(100 * i, 0.01 * i * i) for i in range(-1, 6)]
    commands = held(pairs, quantity="position")
    moved = 0.01 * np.diff(np.arange(-1, 5) ** 2)
    np.testing.assert_allclose(actions(commands, kind("position_delta")), moved)
    np.testing.assert_allclose(actions(commands, kind("velocity")), moved / 0.1)


def test_commanded_positions_add_up_whatever_the_rates():
    rng = np.random.default_rng(1)
    times = np.arange(-200, 1200, 33) + rng.integers(-5, 5, 43)
    commands = held([(int(t), 0.4e-3 * t) for t in times], quantity="position")
    result = actions(commands, kind("position_delta"), 7, 1007)
    np.testing.assert_allclose(result.sum(), 0.4, atol=0.004)
    np.testing.assert_allclose(result, 0.08, atol=0.004)


def test_an_angle_commanded_across_its_wrap():
    pairs = [(100 * i, (3.0 + 0.05 * i + math.pi) % (2 * math.pi) - math.pi) for i in range(-1, 6)]
    commands = held(pairs, quantity="position")
    np.testing.assert_allclose(actions(commands, kind("position_delta")), 0.05)


def test_other_conversions():
    velocity = held([(100 * i, 2.0) for i in range(-1, 6)])
    np.testing.assert_allclose(actions(velocity, kind("position_delta")), 0.2)
    jog = held([(100 * i, 0.3) for i in range(-1, 6)], quantity="displacement")
    np.testing.assert_allclose(actions(jog, kind("position_delta")), 0.3)
    for quantity, wanted in (("velocity", "position"), ("effort", "velocity")):
        commands = held([(0, 1.0)], quantity=quantity)
        with pytest.raises(ConfigError, match=f"carry a {quantity}, which is no action of kind"):
            actions(commands, kind(wanted))
    mixed = [(0, Command("velocity", np.ones((1, 1)))), (9, Command("position", np.ones((1, 1))))]
    with pytest.raises(ConfigError, match="now position and now velocity"):
        hold_commands(mixed, ARM.dt_ns, None)


def test_points_of_a_trajectory_until_the_next_message():
    points = Command("velocity", np.array([[1.0], [2.0], [3.0]]), (0, 200 * MS, 400 * MS))
    later = Command("velocity", np.array([[9.0]]))
    commands = hold_commands([(0, points), (300 * MS, later)], ARM.dt_ns, None)
    np.testing.assert_array_equal(actions(commands), [1, 1, 2, 9, 9])
    alone = hold_commands([(0, points)], ARM.dt_ns, None)
    np.testing.assert_array_equal(actions(alone), [1, 1, 2, 2, 3])


def chosen(stamps_ms, tolerance_ms=60, is_step=lambda a, b: True):
    stamps = np.array(stamps_ms, np.int64) * MS
    pieces = choose_frames(stamps, 500 * MS, tolerance_ms * MS, is_step)
    return [stamps[piece].tolist() for piece in pieces], stamps


def milliseconds(pieces):
    return [[stamp // MS for stamp in piece] for piece in pieces]


def test_frames_do_not_drift_off_the_grid():
    """15 Hz: no whole number of pictures in half a second."""
    pieces, _ = chosen(np.round(np.arange(300) * 1000 / 15).astype(int))
    piece = pieces[0]
    assert len(piece) == 40
    off = np.array(piece) - piece[0] - np.arange(40) * 500 * MS
    assert np.abs(off).max() < 40 * MS


def test_the_phase_that_loses_least_is_taken():
    regular = np.arange(0, 3001, 100)
    without = [t for t in regular if t not in (1000, 2000)]
    pieces, _ = chosen(without, tolerance_ms=20)
    assert milliseconds(pieces) == [[100, 600, 1100, 1600, 2100, 2600]]
    whole, _ = chosen(regular, tolerance_ms=20)
    assert milliseconds(whole) == [[0, 500, 1000, 1500, 2000, 2500, 3000]]


def test_a_hole_costs_the_steps_that_it_touches():
    stamps = [t for t in range(0, 5001, 100) if not 2000 < t < 2900]
    pieces, _ = chosen(stamps, tolerance_ms=20)
    assert milliseconds(pieces) == [
        [0, 500, 1000, 1500, 2000],
        [2900, 3400, 3900, 4400, 4900],
    ]


def test_a_step_that_is_not_known_ends_a_piece():
    _, stamps = chosen(range(0, 3001, 500))
    pieces, _ = chosen(range(0, 3001, 500), is_step=lambda a, b: stamps[a] != 1000 * MS)
    assert milliseconds(pieces) == [[0, 500, 1000], [1500, 2000, 2500, 3000]]
    assert chosen(range(0, 3001, 500), is_step=lambda a, b: False)[0] == []
    assert chosen([0])[0] == chosen([])[0] == []


def test_tolerances_follow_from_the_clock_of_the_robot():
    limits = tolerances(ARM)
    assert (limits.image_ns, limits.joint_gap_ns) == (100 * MS, 200 * MS)
    for rate, expected in ((30, 25), (8, 93), (2, 100), (1000, 25)):
        stamps = np.arange(0, 10 * 10**9, 10**9 // rate)
        assert limits.step_of(stamps, ARM.dt_ns) // MS == expected
    given = tolerances(ARM, 0.04, 0.3, 0.5)
    assert given.step_of(np.arange(0), ARM.dt_ns) == given.image_ns == 40 * MS
    assert (given.joint_gap_ns, given.command_hold_ns) == (300 * MS, 500 * MS)
    every_tick = tolerances(replace(ARM, frame_skip=1))
    assert every_tick.image_ns == 50 * MS
