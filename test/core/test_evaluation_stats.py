"""Paired statistics by hand, results that are read, and targets that are worth asking for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wm_planner.cli import main as cli
from wm_planner.data.recorded import StoreDataset
from wm_planner.data.store import write_store
from wm_planner.errors import ConfigError, DatasetError, TaskError
from wm_planner.evaluation.cell import CellResult
from wm_planner.evaluation.result import Result, compare, read_result
from wm_planner.evaluation.stats import mcnemar_p, mean_interval, paired_difference, wilson_interval
from wm_planner.evaluation.table import grid_table, percent
from wm_planner.evaluation.target import Targets, dataset_targets, image_targets, sample_targets

from .dot_world import DotEnv, picture
from .made_result import result


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (3, 3, 1.0), (0, 1, 1.0), (0, 5, 2 / 32), (5, 0, 2 / 32), (9, 1, 2 * 11 / 1024)],
)
def test_mcnemar_by_hand(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar_p(only_a, only_b) == pytest.approx(p)


def test_paired_difference_by_hand() -> None:
    """(8 + 1) and (2 + 1) of 52: 6/52 +- 1.96 sqrt((12/52 - (6/52)^2) / 52)."""
    difference, low, high = paired_difference(8, 2, 50)
    assert difference == 0.12
    assert (low, high) == (pytest.approx(-0.01134, abs=1e-4), pytest.approx(0.24211, abs=1e-4))
    assert paired_difference(2, 8, 50) == pytest.approx((-difference, -high, -low))
    assert paired_difference(0, 30, 30)[1] == -1.0


@pytest.mark.parametrize("trials", [1, 2, 7, 50, 600])
def test_wilsons_interval_is_its_closed_form(trials: int) -> None:
    z = 1.959963984540054
    for successes in {0, 1, trials // 2, trials - 1, trials}:
        rate, scale = successes / trials, 1 + z**2 / trials
        centre = (rate + z**2 / (2 * trials)) / scale
        margin = z * np.sqrt(rate * (1 - rate) / trials + (z / (2 * trials)) ** 2) / scale
        low, high = wilson_interval(successes, trials)
        assert (low, high) == pytest.approx((centre - margin, centre + margin), abs=1e-12)
        assert 0 <= low <= rate <= high <= 1
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_mean_interval_by_hand() -> None:
    mean, low, high = mean_interval([1.0, 2.0, 6.0])  # standard deviation sqrt(7)
    assert mean == 3.0 and (3.0 - low, high - 3.0) == (pytest.approx(6.5724, abs=1e-4),) * 2
    assert mean_interval([2.0]) == (2.0, -np.inf, np.inf)


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_counts_are_refused(counts) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        paired_difference(*counts)


def test_impossible_successes_are_refused() -> None:
    for successes, trials in ((-1, 3), (4, 3), (1, 0)):
        with pytest.raises(ValueError):
            wilson_interval(successes, trials)
    with pytest.raises(ValueError):
        mcnemar_p(-1, 3)


def test_comparison_counts_what_only_one_solved() -> None:
    pair = compare(result("111100", seconds=0.1), result("100010", seconds=2.0))
    assert (pair.only_a, pair.only_b) == (3, 1)
    assert pair.difference == pytest.approx(2 / 6) and pair.time_ratio == pytest.approx(0.05)
    assert pair.p_value == pytest.approx(2 * 5 / 16)


def test_an_episode_counts_the_first_plan_too() -> None:
    """Results of before do not have its seconds: there is no ratio, and no error."""
    a, b = (result("11", plan_seconds_per_episode=seconds) for seconds in (0.6, 2.0))
    assert compare(a, b).episode_time_ratio == pytest.approx(0.3)
    assert compare(a, result("11")).episode_time_ratio is None
    for each, shown in ((a, "| 1 | 1 | 0.6 | 1, 0.3 |"), (result("11"), "| 1 | 1 |  | 1, - |")):
        pair = compare(each, b)
        row = CellResult(**vars(each), shift="none", loop="mpc", against_reference=pair)
        assert shown in grid_table([row], "cem")


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(199 / 200, "99.5 %"), (1.0, "100 %"), (0.0, "0 %"), (-0.0001, "0 %"), (-0.015, "-1.5 %")],
)
def test_rates_are_shown_to_one_decimal(rate: float, shown: str) -> None:
    assert percent(rate) == shown


@pytest.mark.parametrize("other", [result("11", "u"), result("111")])
def test_different_targets_are_not_compared(other) -> None:
    with pytest.raises(ConfigError, match="different targets"):
        compare(result("11"), other)


def test_compare_command(tmp_path, capsys) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, outcomes in zip(files, ("1111100", "0000001"), strict=True):
        file.write_text(json.dumps(result(outcomes).to_json()))
    assert cli.main(["eval", "--compare", *map(str, files)]) == 0
    shown = capsys.readouterr().out
    assert "per episode" not in shown
    assert "A alone 5, B alone 1" in shown and "p = 0.219" in shown
    for file, seconds in zip(files, (1.0, 4.0), strict=True):
        whole = json.loads(file.read_text()) | {"plan_seconds_per_episode": seconds}
        file.write_text(json.dumps(whole))
    assert cli.main(["eval", "--compare", *map(str, files)]) == 0
    assert "0.25 times the seconds of planning per episode" in capsys.readouterr().out
    files[1].write_text("{}")
    assert cli.main(["eval", "--compare", *map(str, files)]) == 2
    assert "b.json: no result of 'wm-planner eval': key 'task'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="none.json: no such file"):
        read_result(tmp_path / "none.json")


# Files of before do not have these.
LATER = ("plan_seconds_per_episode", "distance_mean", "distance_low", "distance_high")
LATER += ("distance_start",)
# What `eval` writes, letter for letter: files of today stay readable, and are written so.
FILE = """{
  "task": "wall",
  "checkpoint": "base",
  "planner": "gbp",
  "mode": "mpc",
  "seed": 0,
  "episodes": 2,
  "successes": 1,
  "success_rate": 0.5,
  "interval_low": 0.09453120573423074,
  "interval_high": 0.9054687942657693,
  "plan_seconds_p50": 0.03,
  "plan_seconds_p99": 0.11,
  "plan_seconds_per_episode": 0.2,
  "plan_evaluations": 27.5,
  "model_calls": 687.5,
  "memory_mib": 612.3,
  "distance_median": 4.25,
  "distance_mean": 4.25,
  "distance_low": -5.281,
  "distance_high": 13.78,
  "distance_start": 40.0,
  "horizon": 5,
  "batch_size": 2,
  "dropped": 0,
  "latency": null,
  "shifts": {
    "maze": "open",
    "obstacle": 2
  },
  "targets": "06793d",
  "outcomes": "10"
}"""


def test_a_file_is_read_and_written_again_as_it_was(tmp_path) -> None:
    file = tmp_path / "result.json"
    file.write_text(FILE)
    assert json.dumps(read_result(file).to_json(), indent=2) == FILE
    of_before = {key: value for key, value in json.loads(FILE).items() if key not in LATER}
    assert Result.from_json(of_before, "x").to_json() == of_before
    row = {**json.loads(FILE), "shift": "none", "loop": "late", "against_reference": None}
    for values in (row, {"commit": "abc", **row}):
        assert json.dumps(CellResult.from_json(values, "x").to_json()) == json.dumps(values)


@pytest.mark.parametrize("key", [key for key in json.loads(FILE) if key not in LATER])
def test_a_key_that_is_missing_is_named(tmp_path, key: str) -> None:
    values = json.loads(FILE)
    del values[key]
    (tmp_path / "a.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=f"a.json: no result of .*: key '{key}' is missing"):
        read_result(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(outcomes=5), "outcomes: expected a string, got 5"),
        (dict(outcomes=None), "outcomes: expected a string, got None"),
        (dict(outcomes=[1, 0]), r"outcomes: expected a string, got \[1, 0\]"),
        (dict(outcomes="xy"), "outcomes must be text of 0 and 1, got 'xy'"),
        (dict(outcomes=""), "outcomes must be of 2 episodes, got 0"),
        (dict(outcomes="", episodes=0), "episodes must be at least 1, got 0"),
        (dict(episodes=True), "episodes: expected a whole number, got True"),
        (dict(plan_seconds_p50=0), "plan_seconds_p50 must be positive, got 0.0"),
        (dict(plan_seconds_p50="x"), "plan_seconds_p50: expected a number, got 'x'"),
        (
            dict(plan_seconds_p50=float("nan")),
            ".*_p50: expected a finite number, got nan",
        ),
        (dict(success_rate="x"), "success_rate: expected a number, got 'x'"),
        (dict(success_rate=1.5), "success_rate must be from 0 to 1, got 1.5"),
        (dict(targets=[1]), r"targets: expected a string, got \[1\]"),
        (dict(shifts=1), "shifts: expected a mapping, got 1"),
        (dict(outcome="10"), "unknown key 'outcome'. Did you mean 'outcomes'?.*"),
    ],
)
def test_values_of_a_result_are_checked(tmp_path, change, message: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(result("10").to_json()))
    assert read_result(file) == result("10")
    file.write_text(json.dumps(result("10").to_json() | change))
    with pytest.raises(ConfigError, match=f"a.json: no result of .*: {message}; evaluate again"):
        read_result(file)


def test_solved_targets_are_drawn_again_and_counted() -> None:
    class Once(DotEnv):
        calls = 0

        def sample_target(self, rng):
            self.calls += 1
            start, goal = super().sample_target(rng)
            return start, start + 1.0 if self.calls == 2 else goal

    drawn = sample_targets(Once(), 0, 3)
    assert drawn.dropped == 1 and len(drawn) == 3
    usual = sample_targets(DotEnv(), 0, 3)
    np.testing.assert_array_equal(drawn.starts[[0, 2]], usual.starts[[0, 2]])
    assert not np.array_equal(drawn.starts[1], usual.starts[1])

    class Always(DotEnv):
        def sample_target(self, rng):
            return np.ones(2), np.ones(2)

    with pytest.raises(TaskError, match="all 100 draws of target 0 start solved"):
        sample_targets(Always(), 0, 1)


def test_solved_targets_of_a_file_are_dropped_and_counted(tmp_path) -> None:
    starts, goals = np.zeros((3, 2)), np.array([[9.0, 0], [1.0, 0], [0, 9.0]])
    kept = Targets("wall", starts, goals, dropped=4).without_solved()
    assert (len(kept), kept.dropped) == (2, 5)
    np.testing.assert_array_equal(kept.goals, goals[[0, 2]])
    kept.save(tmp_path / "t.npz")
    read = Targets.load(tmp_path / "t.npz", "wall")
    assert read.dropped == 5 and read.sha256() == kept.sha256() != kept.part(slice(1)).sha256()


@pytest.fixture
def data(tmp_path):
    """Two trajectories of the dot; the second one hardly moves."""
    steps = np.arange(6.0)
    tracks = [np.stack([10 + 3 * steps, 10 + 0 * steps], 1), np.stack([30 + 0.1 * steps] * 2, 1)]
    trajectories = [
        {
            "images": np.zeros((6, 4, 4, 3), np.uint8),
            "proprio": track.astype(np.float32),
            "actions": np.zeros((5, 10), np.float32),
            "states": track,
        }
        for track in tracks
    ]
    write_store(tmp_path / "data", 2, trajectories, {"task": "wall", "frame_skip": 5})
    return StoreDataset(tmp_path / "data")


def test_goals_from_data_are_futures_that_are_not_reached_yet(data) -> None:
    drawn = dataset_targets(data, "wall", 4, seed=0, count=8)
    np.testing.assert_allclose(drawn.goals - drawn.starts, np.tile([12.0, 0.0], (8, 1)))
    assert set(drawn.starts[:, 0]) == {10.0, 13.0} and drawn.dropped > 0
    again = dataset_targets(data, "wall", 4, seed=0, count=3)
    np.testing.assert_array_equal(again.starts, drawn.starts[:3])


@pytest.mark.parametrize(
    ("task", "horizon", "message"),
    [
        ("pusht", 4, "holds 'wall', not task 'pusht'"),
        ("wall", 6, "needs 7 frames, the longest trajectory has 6"),
        ("wall", 1, "start solved"),
    ],
)
def test_data_that_make_no_goals(data, task: str, horizon: int, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        dataset_targets(data, task, horizon, seed=0, count=1)


def test_states_of_data_must_be_finite(data, monkeypatch) -> None:
    monkeypatch.setattr(data, "states", lambda index: np.full((6, 2), np.nan))
    with pytest.raises(DatasetError, match=r"data: starts\[0\] is not finite: \[nan, nan\]"):
        dataset_targets(data, "wall", 4, seed=0, count=1)


def test_one_image_is_the_goal_of_all() -> None:
    drawn = image_targets(DotEnv(), picture([50, 50]), np.array([50.0, 50.0]), seed=0, count=3)
    np.testing.assert_array_equal(drawn.goals, np.full((3, 2), 50.0))
    np.testing.assert_array_equal(drawn.starts, sample_targets(DotEnv(), 0, 3).starts)
    assert drawn.goal_images.shape == (3, 4, 4, 3)
