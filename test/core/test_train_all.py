"""`wm-planner train` in one go: what it leaves, says, refuses, and how it is gone on with."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.cli.train_all import _next  # noqa: E402
from wm_planner.models.catalog import resolve_checkpoint  # noqa: E402
from wm_planner.models.checkpoint import load_bundle  # noqa: E402
from wm_planner.tasks import get_task  # noqa: E402

from .training_world import dot_store, mute_store, weights  # noqa: E402

ROOT = Path(__file__).parents[2]
RECIPE = """
encoder: {kind: keypoint, num_patches: 1, dim: 16, channels: 8, num_updates: 12, batch_pairs: 4,
  standardise: true, first_sharpness: 5.0, reconstruction_weight: 1.0, foreground_weight: 0.0,
  invariance_weight: 0.03, std_weight: 0.0, covariance_weight: 0.0, proprio_weight: 0.3}
model: {num_updates: 12, batch_size: 8, held_out: 0.2,
  predictor: {depth: 1, heads: 2, dim_head: 8, mlp_dim: 32, dropout: 0.1, width: 16,
    residual: true}}
planner: {init: zero, gbp: {num_iterations: 5}}
"""
# Saves the state of one part after update 7 and dies on the way to update 10, without a word.
DIES = """
import os, signal, sys
from wm_planner.training import encoder, loop, model
learner = {"encoder": encoder.EncoderLearner, "model": model.ModelLearner}[sys.argv[1]]
save, draw = loop.save_state, learner.batch

def save_once(directory, state):
    if state["step"] == 7:
        save(directory, state)

def die(self, step):
    if step == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(self, step)

loop.save_state, learner.batch = save_once, die
from wm_planner.cli.main import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store, a recipe, and a run that nothing disturbed."""
    directory = tmp_path_factory.mktemp("world")
    mute_store(directory / "data")
    (directory / "recipe.yaml").write_text(RECIPE)
    assert main(command(directory, directory / "run")) == 0
    return directory


def command(world: Path, output: Path, *more: str) -> list[str]:
    paths = ["--data", str(world / "data"), "--recipe", str(world / "recipe.yaml")]
    options = ["--output", str(output), "--device", "cpu", "--threads", "1", "--save-minutes", "0"]
    return ["train", *paths, *options, *more]


def test_a_run_leaves_checkpoint_report_and_figure(world):
    pytest.importorskip("matplotlib", reason="needs the 'viz' extra")
    run = world / "run"
    assert {"train.json", "encoder", "model", "checkpoint", "report.json", "report.png"} == {
        path.name for path in run.iterdir()
    }
    assert resolve_checkpoint(run) == run / "checkpoint", "the run's directory names it"
    bundle = load_bundle(run)
    assert bundle.embodiment.name == "mystery" and bundle.planner["init"] == "zero"
    assert len(bundle.info["held_out_trajectories"]) == 2
    arrived = bundle.info["arrived"]
    assert arrived["picture"] > 0 and arrived["from"] >= 2
    report = json.loads((run / "report.json").read_text())
    assert len(report["errors"]["model"]) == len(report["errors"]["copy"]) == 5
    assert report["arrived"] == arrived
    rows = json.loads((run / "encoder" / "config.json").read_text())["rows"]
    assert not set(rows) & set(bundle.info["held_out_trajectories"]), "held out from both parts"
    recipe = json.loads((run / "train.json").read_text())["recipe"]
    assert recipe["encoder"]["num_updates"] == 12


def test_it_says_what_comes_before_and_what_is_next_behind(world, tmp_path, capsys):
    assert main(command(world, tmp_path / "run", "--updates", "2", "3")) == 0
    text = capsys.readouterr().out
    assert "mystery: 12 trajectories of 6 model steps, 72 in all" in text
    assert "encoder 2 updates, model 3: about" in text and "few" in text
    assert "| 5 | " in text and "arrived: " in text
    assert "next: wm-planner eval --data" in text


def test_what_is_next_is_a_simulator_where_there_is_one():
    args = argparse.Namespace(output=Path("runs/x"), data=Path("d"))
    wall = get_task("wall").embodiment
    other = replace(wall, control_dt_s=2 * wall.control_dt_s)  # has no more than the name
    for robot, command in (
        (wall, "eval --task wall"),
        (replace(wall, name="mystery"), "eval --data d"),
        (other, "eval --data d"),
    ):
        assert f"next: wm-planner {command} --checkpoint runs/x" in _next(args, robot)


def test_a_second_call_says_finished(world, capsys):
    for more in ([], ["--resume"]):
        assert main(command(world, world / "run", *more)) == 0
        assert "has finished already" in capsys.readouterr().out


def test_other_settings_and_strange_directories_are_refused(world, tmp_path, capsys):
    assert main(command(world, world / "run", "--updates", "12", "13")) == 2
    assert "recipe.model.num_updates 12, now it is 13" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("mine")
    assert main(command(world, tmp_path)) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(command(world, tmp_path / "run", "--encoder", "x")) == 2
    assert "--encoder is for a part" in capsys.readouterr().err
    assert main(command(world, tmp_path / "run", "--minutes", "-1")) == 2
    assert "--minutes: minutes must be positive" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["encoder", "model"])
def test_a_killed_run_goes_on_to_the_same_weights(world, tmp_path, capsys, part):
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", DIES, part, *command(world, run)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (run / part / "state.pt").is_file() and not (run / "checkpoint").exists()
    assert main(command(world, run)) == 2
    assert "go on with it by --resume" in capsys.readouterr().err
    assert main(command(world, run, "--resume")) == 0
    ended, whole = (weights(r / "checkpoint") for r in (run, world / "run"))
    assert all(torch.equal(ended[name], whole[name]) for name in whole)


def test_a_run_that_was_killed_in_the_report_makes_that_alone(world, tmp_path):
    run = tmp_path / "run"
    assert main(command(world, run, "--updates", "2", "2")) == 0
    before = (run / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    (run / "report.json").unlink()
    assert main(command(world, run, "--updates", "2", "2", "--resume")) == 0
    assert (run / "report.json").is_file()
    assert (run / "checkpoint" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("count", "steps", "message"), [(1, 6, "1 trajectory is too few"), (4, 3, "rollout_steps 5")]
)
def test_too_few_data_are_refused_before_anything_is_written(
    world, tmp_path, capsys, count, steps, message
):
    store = mute_store(tmp_path / "data", count=count, steps=steps)
    assert main(["train", "--data", str(store.directory), "--output", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_parts_by_the_recipe_for_any_robot(tmp_path):
    """Each part alone, with the default recipe, on data that a task is known for."""
    data = str(dot_store(tmp_path / "data", count=8, steps=6).directory)
    machine = ["--device", "cpu", "--threads", "1", "--updates", "2", "2"]
    encoder, model = tmp_path / "encoder", tmp_path / "model"
    assert main(["train", "encoder", "--data", data, "--output", str(encoder), *machine]) == 0
    more = ["--encoder", str(encoder), "--no-cache"]
    assert main(["train", "model", "--data", data, "--output", str(model), *more, *machine]) == 0
    bundle = load_bundle(model)
    assert bundle.model.config.encoder["standardise"] is True
    again = tmp_path / "again"  # a checkpoint has an encoder, too
    more = ["--encoder", str(model), "--no-cache"]
    assert main(["train", "model", "--data", data, "--output", str(again), *more, *machine]) == 0
    weights = load_bundle(again).model.encoder.state_dict()
    for name, value in bundle.model.encoder.state_dict().items():
        assert torch.equal(weights[name], value)


def test_calibration_of_an_older_checkpoint_leaves_the_weights(world, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(world / "run/checkpoint", old)
    card = json.loads((old / "bundle.json").read_text())
    found, arrived = card["info"].pop("familiar"), card["info"].pop("arrived")
    (old / "bundle.json").write_text(json.dumps(card))
    weights = (old / "model.safetensors").read_bytes()
    assert main(["calibrate", str(old), "--data", str(world / "data")]) == 0
    assert "camera front: of held-out pictures" in capsys.readouterr().out
    info = json.loads((old / "bundle.json").read_text())["info"]
    assert info["arrived"] == pytest.approx(arrived)
    again = info["familiar"]
    assert again.pop("calibrated")["command"] and again == found
    assert (old / "model.safetensors").read_bytes() == weights
