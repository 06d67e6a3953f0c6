"""The grid of results: one line per cell, paired, resumed, and clear about what it cannot run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from sim_bridge.rendering import check_rendering
from wm_planner.cli import main as cli
from wm_planner.config import from_dict, from_yaml
from wm_planner.errors import ConfigError, RenderError
from wm_planner.evaluation.cell import _targets, cells, run_grid
from wm_planner.evaluation.episode import EnvMaker
from wm_planner.evaluation.grid import Grid
from wm_planner.evaluation.table import grid_table
from wm_planner.evaluation.target import Targets
from wm_planner.models import checkpoint
from wm_planner.models.catalog import resolve_checkpoint

from .dot_world import DotEnv, dot_bundle

CONFIG = Path(__file__).parents[2] / "config" / "tables" / "results.yaml"
TWIN = str(resolve_checkpoint("wall-base"))


@pytest.fixture
def world(monkeypatch) -> None:
    """The exact model."""
    monkeypatch.setattr(EnvMaker, "__call__", lambda self, render: DotEnv(render))
    monkeypatch.setattr(checkpoint, "load_bundle", lambda *given: dot_bundle())


def test_settings_and_shifts_reach_their_cells() -> None:
    data = {
        "checkpoints": {"wall": ["base"]},
        "planners": {"cem": {"num_iterations": 7}, "two": {"solver": "gbp", "num_restarts": 2}},
        "loops": {"mpc": {}},
        "reference": {"planner": "cem"},
        "shifts": {"none": {}, "late": {"delayed_frames": 1, "gain": 2.0}},
    }
    found = {(c.planner, c.shift): c.job for c in cells(from_dict(Grid, data, "grid"), "cpu")}
    assert found["cem", "none"].planner.num_iterations == 7
    two = found["two", "late"]
    assert (two.planner.solver, two.planner.num_restarts) == ("gbp", 2)
    assert two.loop.delayed_frames == 1 and two.shifts.gain == 2.0
    assert two.planner.num_iterations == 60  # as the checkpoint recommends


def test_layouts_are_for_the_tasks_that_have_them() -> None:
    data = {
        "checkpoints": {"wall": ["base"], "point_maze": ["base"]},
        "planners": {"cem": {}},
        "loops": {"mpc": {}},
        "reference": {"planner": "cem"},
        "shifts": {"none": {}, "maze": {"maze": "open"}, "obstacle": {"obstacle": 1, "gain": 2}},
    }
    found = {(c.job.task, c.shift) for c in cells(from_dict(Grid, data, "grid"), "cpu")}
    everywhere = {(task, shift) for task in data["checkpoints"] for shift in ("none", "obstacle")}
    assert found == {*everywhere, ("point_maze", "maze")}


def test_targets_are_drawn_once_for_each_layout(tmp_path) -> None:
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    data = {
        "checkpoints": {"point_maze": ["base"]},
        "planners": {"cem": {}},
        "loops": {"mpc": {}},
        "reference": {"planner": "cem"},
        "shifts": {"none": {}, "noise": {"gain": 2.0}, "ne": {"maze": "medium_northeast"}},
        "episodes": 8,
    }
    grid = from_dict(Grid, data, "grid")
    drawn = {c.shift: _targets(grid, c, tmp_path) for c in cells(grid, "cpu")}
    assert drawn["none"].sha256() == drawn["noise"].sha256()
    at = drawn["ne"].starts[:, :2]
    assert ((at[:, 0] > 1.3) | (at[:, 1] < 2.3)).all(), "north-west is a wall there"
    names = ["targets-point_maze-ne.npz", "targets-point_maze.npz"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(checkpoints={"wal": ["base"]}),
            "grid.yaml: unknown task 'wal'. Did you mean 'wall'?",
        ),
        (dict(checkpoints={"wall": "base"}), "checkpoints: wall: expected a list of names"),
        (dict(checkpoints={"wall": ["bas"]}), "unknown checkpoint 'bas'"),
        (dict(checkpoints={}), "checkpoints: at least one task is needed"),
        (
            dict(checkpoints={"wall": ["pusht-base"]}),
            "was trained for 'pusht', not for 'wall'",
        ),
        (dict(shifts={"x": {"maze": "open"}}), "shifts: none of x fits the layout of wall"),
        (dict(planners={"gpb": {}}), "planners: gpb: unknown solver. Did you mean 'gbp'?"),
        (dict(planners={"cem": {"num_sample": 3}}), "planners: cem: unknown key 'num_sample'"),
        (dict(loops={"x": {"mode": "mpcs"}}), "grid.yaml: loops: x: mode 'mpcs' is unknown"),
        (
            dict(loops={"x": {"latncy": 1}}),
            "loops: x: unknown key 'latncy'. Did you mean 'latency'?",
        ),
        (dict(checkpoints={"wall": ["wall-base", TWIN]}), "have the same last name"),
        (dict(reference={}), "name a planner, a checkpoint or a loop to compare with"),
        (dict(reference={"planner": "mppi"}), "planner 'mppi' is none of the planners"),
        (dict(reference={"checkpoint": "bas"}), "checkpoint 'bas' is none of wall's checkpoints"),
        (
            dict(shifts={"x": {"gian": 1}}),
            "grid.yaml: shifts: x: unknown key 'gian'. Did you mean 'gain'?",
        ),
        (dict(shifts={"x": {"maze": "u", "door_y": 9}}), "shifts: x: no task has this layout"),
        (dict(episodes=0), "episodes must be at least 1, got 0"),
        (dict(seed=-1), "grid.yaml: seed must be from 0 to 9223372036854775807, got -1"),
        (dict(quick={"episodes": 0}), "grid.yaml: quick: episodes must be at least 1, got 0"),
        (dict(quick={"timing_episodes": 0}), "quick: timing_episodes must be at least 1, got 0"),
        (dict(checkpoints={1: ["base"]}), "'1', a key, is not text; quote it"),
        (dict(planners={"x": {"solver": 1}}), "planners: x: unknown solver. Choices: cem"),
        (dict(planners={"..": {"solver": "cem"}}), "planners: '..': a name is text without '/'"),
        (
            dict(loops={"x": {"delayed_frames": -2}}),
            "loops: x: delayed_frames: expected a number from 0",
        ),
        (dict(loops={"x": {"latency": 1e300}}), "loops: x: latency must be from 0 to 3600 s"),
        (dict(episode=1), "unknown key 'episode'. Did you mean 'episodes'?"),
    ],
)
def test_bad_grids_are_named(tmp_path, capsys, change, message: str) -> None:
    file = tmp_path / "grid.yaml"
    good = {
        "checkpoints": {"wall": ["base"]},
        "planners": {"cem": {}},
        "reference": {"planner": "cem"},
    }
    file.write_text(yaml.safe_dump({**good, **change}))
    arguments = ["results", "--config", str(file), "--output", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_device_is_named_before_anything_is_written(world, tmp_path, capsys) -> None:
    arguments = ["results", "--config", str(CONFIG), "--output", str(tmp_path / "out")]
    assert cli.main([*arguments, "--device", "foo"]) == 2
    assert "device 'foo' is unknown" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_task_leaves_the_rows_of_the_others(world, tmp_path, capsys, caplog) -> None:
    """The exact model is of Wall; a twin of it stands for the second task."""
    grid, output = tmp_path / "grid.yaml", tmp_path / "out"
    results = output / "results.json"
    data = {
        "checkpoints": {"wall": ["base"]},
        "planners": {"gbp": {"num_iterations": 1, "warm_iterations": 1}},
        "loops": {"mpc": {}},
        "reference": {"planner": "gbp"},
        "episodes": 1,
        "timing_episodes": 1,
    }

    def go(*more: str) -> list[dict]:
        grid.write_text(yaml.safe_dump(data))
        arguments = ["results", "--config", str(grid), "--output", str(output), "--processes", "1"]
        assert cli.main([*arguments, *more]) == 0
        return json.loads(results.read_text())["rows"]

    (wall,) = go()
    data["checkpoints"] = {"pusht": ["base"], "wall": ["base"]}
    content = json.loads(results.read_text())
    content["grid"]["checkpoints"] = data["checkpoints"]
    content["rows"] = [{**wall, "task": "pusht"}, wall]
    results.write_text(json.dumps(content | {"commit": "before"}))
    rows = go("--task", "wall")
    assert rows == [{**wall, "task": "pusht", "commit": "before"}, wall]
    assert go("--task", "wall") == rows
    assert json.loads(results.read_text())["grid"] == content["grid"]
    assert capsys.readouterr().out.endswith((output / "results.md").read_text())
    assert not caplog.records or "left out" not in caplog.text
    data["timing_episodes"] = 2  # they were timed otherwise
    assert [row["task"] for row in go("--task", "wall")] == ["wall"]
    assert "rows of pusht are left out" in caplog.text
    results.write_text("[]")
    assert [row["task"] for row in go("--task", "wall")] == ["wall"]


def test_quick_results_of_one_task(tmp_path, capsys) -> None:
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    output = tmp_path / "results"
    arguments = ["results", "--config", str(CONFIG), "--quick", "--task", "wall"]
    arguments += ["--processes", "1", "--output", str(output)]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    content = json.loads((output / "results.json").read_text())
    rows = content["rows"]
    assert [(row["mode"], row["planner"]) for row in rows] == [
        ("open-loop", "gbp"),
        ("open-loop", "cem"),
        ("mpc", "gbp"),
        ("mpc", "cem"),
    ]
    targets = Targets.load(output / "targets-wall.npz", "wall")
    assert {row["targets"] for row in rows} == {targets.sha256()}
    ratio = rows[2]["plan_seconds_p50"] / rows[3]["plan_seconds_p50"]
    assert rows[2]["against_reference"]["time_ratio"] == pytest.approx(ratio)
    assert rows[3]["against_reference"] is None
    assert (output / "results.md").read_text() == shown and shown.count("\n") == 6
    # Everything is taken from disk: even the times are the same.
    assert cli.main(arguments) == 0
    assert json.loads((output / "results.json").read_text())["rows"] == rows
    # Another grid in the same place is refused.
    with pytest.raises(ConfigError, match="planner.num_iterations 2, this one has 60"):
        run_grid(replace(from_yaml(Grid, CONFIG), episodes=1), output, 1)


def test_a_measured_latency_is_timed_where_it_is_evaluated(world, tmp_path) -> None:
    """The other cell's batch is no robot's: its times are those of its timing run."""
    data = {
        "checkpoints": {"wall": ["base"]},
        "planners": {"gbp": {"num_iterations": 1, "warm_iterations": 1}},
        "loops": {"mpc": {}, "live": {"latency": "measured"}},
        "reference": {"loop": "mpc"},
        "episodes": 3,
        "timing_episodes": 1,
    }
    started: list[str] = []
    rows = run_grid(from_dict(Grid, data, "grid"), tmp_path, 1, starts=started.append)
    mpc, live = "wall-base-mpc-gbp-none", "wall-base-live-gbp-none"
    assert started == [mpc, live, f"{mpc}, timing"]
    for row, place in zip(rows, (f"timing/{mpc}", f"cells/{live}"), strict=True):
        lines = (tmp_path / place / "batches.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        seconds = [second for batch in found for second in batch["plan_seconds"]]
        assert row.plan_seconds_p50 == np.percentile(seconds, 50)
        assert row.plan_seconds_per_episode == pytest.approx(sum(seconds) / len(found))


def test_checkpoints_are_compared_with_one_of_them(tmp_path) -> None:
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    other = tmp_path / "other"
    shutil.copytree(resolve_checkpoint("wall-base"), other)
    data = {
        "checkpoints": {"wall": ["base", str(other)]},
        "planners": {"gbp": {"num_iterations": 1, "warm_iterations": 1}},
        "loops": {"mpc": {}, "late": {"latency": 0.1}},
        "reference": {"checkpoint": "base", "loop": "mpc"},
        "episodes": 2,
        "timing_episodes": 1,
    }
    grid = from_dict(Grid, data, "grid")
    rows = run_grid(grid, tmp_path / "out", 1)
    assert [row.loop for row in rows] == ["mpc", "late"] * 2
    assert rows[0].against_reference is None
    for row in rows[1:]:
        ratio = row.plan_seconds_p50 / rows[0].plan_seconds_p50
        assert row.against_reference.time_ratio == pytest.approx(ratio)
    assert rows[2].outcomes == rows[0].outcomes  # the same weights
    assert rows[2].distance_median == rows[0].distance_median
    lines = grid_table(rows, str(grid.reference)).splitlines()
    assert "s/episode | time / base mpc's (per plan, per episode)" in lines[0]
    assert [line.endswith("| 1, 1 |  |  |") for line in lines[2:]] == [True, False, False, False]
