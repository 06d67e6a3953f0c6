"""`wm-planner eval` on the exact model: files, messages, and what is run again."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from wm_planner.cli import main as cli
from wm_planner.cli import targets
from wm_planner.errors import ConfigError
from wm_planner.evaluation.target import Targets
from wm_planner.models import checkpoint

from .dot_world import DotEnv, dot_bundle, picture

KEYS = (
    "task checkpoint planner mode seed episodes successes success_rate interval_low "
    "interval_high plan_seconds_p50 plan_seconds_p99 plan_seconds_per_episode"
).split()


@pytest.fixture
def world(monkeypatch):
    """The command line on the exact model; records how environments were asked for."""
    import gymnasium

    asked = []

    def make(name: str, **options):
        asked.append((name, options))
        return DotEnv(options["render"])

    bundle = dot_bundle(objective="last", num_iterations=20)
    monkeypatch.setattr(gymnasium, "make", make)
    monkeypatch.setattr(checkpoint, "load_bundle", lambda *given: bundle)
    return asked


def test_command_writes_every_key_and_file(world, tmp_path, capsys) -> None:
    file, output = tmp_path / "result.json", tmp_path / "run"
    arguments = ["eval", "--task", "wall", "--checkpoint", "base", "--episodes", "3", "--seed", "4"]
    assert cli.main([*arguments, "--json", str(file), "--output", str(output)]) == 0
    result = json.loads(file.read_text())
    assert [key for key in KEYS if key not in result] == []
    expected = ("wall", "base", "gbp", "mpc", 4, 3, 3, 1.0)
    assert tuple(result[key] for key in KEYS[:8]) == expected
    assert result["interval_low"] < 1.0 == result["interval_high"]
    assert result["plan_seconds_p50"] > 0
    assert sorted(path.name for path in output.iterdir()) == [
        "batches.jsonl",
        "config.json",
        "result.json",
        "result.md",
        "targets.npz",
    ]
    assert json.loads((output / "result.json").read_text()) == result
    config = json.loads((output / "config.json").read_text())["planner"]
    assert (config["seed"], config["num_iterations"], config["solver"]) == (4, 20, "gbp")
    assert result["outcomes"] == "111" and result["dropped"] == 0
    row = "| wall | base | gbp | mpc | 3/3 | 43.9 % to 100 % |"
    assert row in (output / "result.md").read_text()
    assert "success           3/3" in capsys.readouterr().out
    assert {name for name, _ in world} == {"wm_planner/Wall-v0"}
    assert world[0][1]["render"] and all(options["image_size"] == 4 for _, options in world)


def test_command_settings_reach_the_planner(world, tmp_path) -> None:
    output = tmp_path / "run"
    arguments = "eval --task wall --planner cem --mode open-loop --episodes 1 --horizon 6".split()
    settings = ["--set", "num_samples=12", "--set", "num_elites=4", "--set", "num_iterations=2"]
    assert cli.main([*arguments, *settings, "--output", str(output)]) == 0
    config = json.loads((output / "config.json").read_text())["planner"]
    assert (config["solver"], config["horizon"], config["num_samples"]) == ("cem", 6, 12)
    assert json.loads((output / "result.json").read_text())["mode"] == "open-loop"


def test_command_reads_targets_again(world, tmp_path) -> None:
    targets, runs = tmp_path / "targets.npz", [tmp_path / "one", tmp_path / "two"]
    for output, seed, episodes in zip(runs, ("1", "2"), ("3", "2"), strict=True):
        arguments = ["eval", "--task", "wall", "--episodes", episodes, "--seed", seed]
        assert cli.main([*arguments, "--targets", str(targets), "--output", str(output)]) == 0
    one, two = (Targets.load(output / "targets.npz", "wall") for output in runs)
    np.testing.assert_array_equal(one.starts[:2], two.starts)


def test_command_asks_for_goals_so_many_raw_actions_of_exploration_ahead(world, tmp_path) -> None:
    output = tmp_path / "run"
    arguments = "eval --task wall --goals explored --ahead 7 --max-steps 1 --episodes 3".split()
    assert cli.main([*arguments, "--output", str(output)]) == 0
    targets = Targets.load(output / "targets.npz", "wall")
    np.testing.assert_allclose(np.abs(targets.goals - targets.starts), 7 * 2 * 0.75)
    assert json.loads((output / "config.json").read_text())["loop"]["max_steps"] == 1
    batch = json.loads((output / "batches.jsonl").read_text())
    assert [episode["num_steps"] for episode in batch["episodes"]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--task wal", "unknown task 'wal'. Did you mean 'wall'?"),
        ("--task wall --planner gpb", "unknown planner 'gpb'. Did you mean 'gbp'?"),
        ("--task wall --episodes 0", "--episodes must be at least 1, got 0"),
        ("--task wall --batch-size 0", "--batch-size must be at least 1, got 0"),
        (
            "--task wall --seed -1",
            "argument --seed: expected a whole number from 0 to 9223372036854775807, got '-1'",
        ),
        (
            "--task wall --seed 99999999999999999999",
            "argument --seed: expected a whole number from 0 to 9223372036",
        ),
        ("--task wall --set seed=-1", "--set: seed must be from 0 to 9223372036854775807, got -1"),
        ("--task wall --json nowhere/a.json", "--json nowhere/a.json: no directory"),
        ("--task wall --json .", "--json .: cannot be written: Is a directory"),
        ("--task wall --json /proc/a.json", "--json /proc/a.json: cannot be written"),
        ("--task wall --threads 0", "--threads must be at least 1, got 0"),
        ("--task wall --threads 100000", "--threads must be at most 1024, got 100000"),
        ("--task wall --output .", "--output .: exists and holds no config.json"),
        ("--task wall --set horizn=3", "--set: unknown key 'horizn'. Did you mean 'horizon'?"),
        ("--task wall --horizon 0", "--horizon: horizon must be at least 1, got 0"),
        ("--task wall --horizon 2 --set replan_steps=3", "--horizon and --set: replan_steps 3 exc"),
        ("--task wall --processes 0", "--processes must be at least 1, got 0"),
        ("--task wall --shift gian=2", "--shift: unknown key 'gian'. Did you mean 'gain'?"),
        ("--task wall --latency soon", "--latency: latency must be seconds or 'measured'"),
        ("--task wall --latency 1e300", "latency must be from 0 to 3600 s, got 1e+300"),
        ("--task wall --latency measured --batch-size 2", "needs --batch-size 1, got 2"),
        ("--task wall --goals explored", "--ahead is needed by --goals explored"),
        ("--task wall --ahead 5", "--ahead is for --goals explored"),
        ("--task wall --ahead 0", "--ahead must be at least 1, got 0"),
        ("--task wall --max-steps 3 --mode open-loop", "--max-steps: max_steps must be at least 1"),
        ("--task wall --goals dataset", "--data is needed by --goals dataset"),
        ("--task wall --data d", "--data is for --goals dataset"),
        ("--task wall --goals image --goal-image g.png", "--goal-state is needed by --goals image"),
        (
            "--task wall --goals image --goal-image g.png --goal-state 1",
            "g.png: no such file",
        ),
    ],
)
def test_command_names_what_is_wrong(world, capsys, arguments: str, message: str) -> None:
    assert cli.main(["eval", *arguments.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_named(world, capsys) -> None:
    assert cli.main(["eval", "--task", "wall", "--episodes", "1", "--json", "/dev/full"]) == 2
    assert "error: /dev/full: cannot be written: No space left on device" in capsys.readouterr().err


def test_a_goal_state_must_be_numbers() -> None:
    assert targets._read_state("[1, 2.5]").tolist() == [1.0, 2.5]
    for text in ("[10, a]", "[1, [2]]", "{", "x"):
        with pytest.raises(ConfigError, match="--goal-state .*: expected a list of numbers"):
            targets._read_state(text)


def test_command_goes_on_where_it_was_left(world, tmp_path, capsys) -> None:
    output = tmp_path / "run"
    arguments = ["eval", "--task", "wall", "--batch-size", "1", "--output", str(output)]
    assert cli.main([*arguments, "--episodes", "2"]) == 0
    lines = (output / "batches.jsonl").read_text()
    assert cli.main([*arguments, "--episodes", "3"]) == 0
    longer = (output / "batches.jsonl").read_text()
    assert longer.startswith(lines) and longer.count("\n") == 3
    assert json.loads((output / "result.json").read_text())["episodes"] == 3
    assert cli.main([*arguments, "--episodes", "3", "--mode", "open-loop"]) == 2
    message = "holds an evaluation with loop.mode mpc, this one has open-loop"
    assert message in capsys.readouterr().err


def test_command_drops_targets_that_start_solved(world, tmp_path, capsys, caplog) -> None:
    starts, goals = np.zeros((3, 2)) + 10.0, np.array([[11.0, 10.0], [30.0, 30.0], [20.0, 30.0]])
    saved, file = tmp_path / "t.npz", tmp_path / "r.json"
    Targets("wall", starts, goals).save(saved)
    arguments = ["eval", "--task", "wall", "--targets", str(saved), "--json", str(file)]
    assert cli.main([*arguments, "--episodes", "3"]) == 0
    result = json.loads(file.read_text())
    assert (result["episodes"], result["dropped"]) == (2, 1)
    assert "1 of the targets start solved: dropped" in caplog.text
    assert "1 targets that start solved" in capsys.readouterr().out
    assert cli.main([*arguments, "--episodes", "1"]) == 2
    assert "every target starts solved" in capsys.readouterr().err


def test_command_takes_an_image_as_the_goal(world, tmp_path) -> None:
    image, file = tmp_path / "goal.png", tmp_path / "r.json"
    imageio.imwrite(image, picture([40, 40]))
    arguments = ["eval", "--task", "wall", "--goals", "image", "--goal-image", str(image)]
    arguments += ["--goal-state", "[40, 40]", "--episodes", "2", "--json", str(file)]
    assert cli.main(arguments) == 0
    assert json.loads(file.read_text())["outcomes"] == "11"


@pytest.mark.parametrize("bad", ["starts", "goals"])
def test_command_refuses_targets_where_nothing_can_be(world, tmp_path, capsys, bad: str) -> None:
    states = {"starts": np.full((3, 2), 10.0), "goals": np.full((3, 2), 30.0)}
    states[bad][1] = 1e6
    file = tmp_path / "t.npz"
    Targets("wall", **states).save(file)
    arguments = ["eval", "--task", "wall", "--targets", str(file), "--episodes"]
    assert cli.main([*arguments, "1"]) == 0
    assert cli.main([*arguments, "3"]) == 2
    message = f"--targets {file}: 1 of 3 targets lie in something solid, or outside the scene, "
    assert message + "the first at [1000000.0, 1000000.0]" in capsys.readouterr().err


def test_command_refuses_a_goal_state_where_nothing_can_be(world, tmp_path, capsys) -> None:
    image, targets = tmp_path / "goal.png", tmp_path / "t.npz"
    imageio.imwrite(image, picture([40, 40]))
    arguments = ["eval", "--task", "wall", "--goals", "image", "--goal-image", str(image)]
    arguments += ["--goal-state", "[1000, 1000]", "--episodes", "2", "--targets", str(targets)]
    assert cli.main(arguments) == 2
    assert "--goal-state [1000, 1000]: 2 of 2 targets lie in" in capsys.readouterr().err
    assert not targets.exists()


def test_command_says_that_goals_are_those_of_the_file(world, tmp_path, caplog) -> None:
    file = tmp_path / "t.npz"
    Targets("wall", np.full((1, 2), 10.0), np.full((1, 2), 30.0)).save(file)
    arguments = ["eval", "--task", "wall", "--episodes", "1", "--targets", str(file)]
    caplog.set_level("INFO")
    assert cli.main(arguments) == 0 and "--goals" not in caplog.text
    assert cli.main([*arguments, "--goals", "dataset", "--data", "nowhere"]) == 0
    message = f"--targets {file} exists: its targets are taken, --goals dataset is not looked at"
    assert message in caplog.text


def test_command_refuses_too_few_targets(world, tmp_path, capsys) -> None:
    Targets("wall", np.full((1, 2), 10.0), np.full((1, 2), 30.0)).save(tmp_path / "t.npz")
    arguments = ["eval", "--task", "wall", "--episodes", "2", "--targets", str(tmp_path / "t.npz")]
    assert cli.main(arguments) == 2
    assert "holds 1 targets, --episodes asks for 2" in capsys.readouterr().err
