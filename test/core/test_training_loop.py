"""What may happen to a run: a kill, a signal, a NaN, other settings, several processes."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from safetensors.torch import load_file  # noqa: E402

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.errors import CheckpointError, ConfigError, TrainingError  # noqa: E402
from wm_planner.provenance import provenance  # noqa: E402
from wm_planner.training.encoder import EncoderTraining, train_encoder  # noqa: E402
from wm_planner.training.learner import Schedule  # noqa: E402
from wm_planner.training.machine import Group, Machine, machine_of  # noqa: E402
from wm_planner.training.model import ModelLearner  # noqa: E402
from wm_planner.training.run_directory import RunLog, load_state  # noqa: E402

from .training_world import dot_store, interrupted, metrics, tiny_checkpoint, weights  # noqa: E402

ROOT = Path(__file__).parents[2]
# Saves the state after update 7 and dies on the way to update 10.
DIES = """
import os, signal, sys
from wm_planner.training import loop, model
save, draw = loop.save_state, model.ModelLearner.batch

def save_once(directory, state):
    if state["step"] == 7:
        save(directory, state)

def die(self, step):
    if step == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(self, step)

loop.save_state, model.ModelLearner.batch = save_once, die
from wm_planner.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store and a checkpoint with dropout, so that every generator matters."""
    directory = tmp_path_factory.mktemp("world")
    dot_store(directory / "data", count=24)
    tiny_checkpoint(directory / "base", dropout=0.1)
    tiny_checkpoint(directory / "dry", num_hist=2)
    return directory


def command(world: Path, output: Path, *more: str, checkpoint: str = "base") -> list[str]:
    """Teacher forcing, then rollouts, against an adversary: 16 updates in all."""
    words = ["finetune", "--method", "adversarial", "--checkpoint", world / checkpoint]
    words += ["--data", world / "data", "--output", output, "--num-updates", "16"]
    words += ["--threads", "1", "--device", "cpu", "--set", "rollout_fraction=0.5"]
    words += ["--set", "batch_size=8", "--set", "rollout_steps=3", *more]
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def uninterrupted(world):
    assert main(command(world, world / "whole")) == 0
    return world / "whole"


def assert_same_run(run: Path, other: Path) -> None:
    first, second = weights(run / "checkpoint"), weights(other / "checkpoint")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert metrics(run) == metrics(other)


def test_a_killed_run_resumes_as_if_nothing_had_happened(world, uninterrupted, tmp_path):
    run = tmp_path / "run"
    words = command(world, run, "--save-minutes", "0")
    done = subprocess.run([sys.executable, "-c", DIES, *words], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL and not (run / "checkpoint").exists()
    assert load_state(run, Group())["step"] == 7
    assert main([*words, "--resume"]) == 0
    assert_same_run(run, uninterrupted)
    config = json.loads((run / "config.json").read_text())
    assert len(config["resumed"]) == 1 and "commit" in config["resumed"][0]
    assert main([*words, "--resume"]) == 0, "a finished run is left alone"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_later(
    world, uninterrupted, tmp_path, monkeypatch, number
):
    draw = ModelLearner.batch

    def told_to_stop(self, step):
        if step == 5:
            os.kill(os.getpid(), number)
        return draw(self, step)

    run = tmp_path / "run"
    monkeypatch.setattr(ModelLearner, "batch", told_to_stop)
    if number == signal.SIGTERM:
        with pytest.raises(SystemExit, match="143"):
            main(command(world, run))
    else:
        assert main(command(world, run)) == 130
    monkeypatch.undo()
    assert load_state(run, Group())["step"] == 6, "the update was finished"
    assert main(command(world, run, "--resume")) == 0
    assert_same_run(run, uninterrupted)


def test_resume_without_a_run_begins_one(world, uninterrupted, tmp_path):
    assert main(command(world, tmp_path / "run", "--resume")) == 0
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_nan_stops_the_run_and_its_batch_is_kept(world, tmp_path, monkeypatch):
    draw = ModelLearner.batch

    def damaged(self, step):
        visual, proprio, actions = draw(self, step)
        if step == 4:
            actions[3, 1, 2] = torch.nan
        return visual, proprio, actions

    monkeypatch.setattr(ModelLearner, "batch", damaged)
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match="update 4 gave loss nan.*--resume") as error:
        _finetune(world, run)
    file = Path(str(error.value).partition(":")[0])
    bad = load_file(file)["input2"].isnan().nonzero()
    assert bad.tolist() == [[3, 1, 2]]
    state = load_state(run, Group())
    assert state["step"] == 4
    assert all(value.isfinite().all() for value in state["weights"].values())
    monkeypatch.undo()
    assert main(command(world, run, "--resume")) == 0, "the next batch is another one"


def _finetune(world: Path, run: Path) -> None:
    """As the command, but errors come out."""
    from wm_planner.cli.main import build_parser

    args = build_parser(["finetune"]).parse_args(command(world, run))
    args.run(args)


def test_a_directory_in_use_is_refused_before_frames_are_encoded(world, tmp_path, monkeypatch):
    monkeypatch.setattr("wm_planner.training.finetune.encode_store", None)
    RunLog(tmp_path, {}).close()
    with pytest.raises(ConfigError, match="holds a run already"):
        _finetune(world, tmp_path)


@pytest.mark.parametrize("num_updates", [1, 2, 19, 20, 21, 40])
def test_runs_of_any_length_end_with_a_rate_of_nothing(num_updates):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer, schedule = Schedule(num_updates, 0.5, 0.0).build([{"params": [weight]}])
    rates = []
    for _ in range(num_updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(rates) < num_updates else None
    assert max(rates) <= 0.5 and (rates[-1] < 1e-3 or num_updates == 1)
    assert num_updates < 21 or rates[0] < max(rates)


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(tmp_path):
    RunLog(tmp_path, {"model": {"num_updates": 5}}).close()
    with pytest.raises(ConfigError, match="holds a run already.*--resume"):
        RunLog(tmp_path, {"model": {"num_updates": 5}})
    with pytest.raises(ConfigError, match="model.num_updates 5, now it is 6"):
        RunLog(tmp_path, {"model": {"num_updates": 6}}, resume=True)


@pytest.mark.parametrize("installed", [True, False])
def test_tensorboard_is_written_where_it_is_installed(tmp_path, monkeypatch, caplog, installed):
    if installed:
        pytest.importorskip("tensorboard")
    else:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO):
        log = RunLog(tmp_path, {}, tensorboard=True)
        log.rewind(0, 0.0)
        log.write(3, loss=0.5)
        log.close()
    assert any(tmp_path.glob("tensorboard/events*")) == installed
    assert ("extra 'train'" in caplog.text) != installed
    assert metrics(tmp_path) == [{"step": 3, "loss": 0.5}]


@pytest.mark.parametrize(
    ("content", "message"), [(b"PK\x03\x04", "cannot be read"), (None, "of 2 processes")]
)
def test_a_state_that_does_not_fit_is_refused(tmp_path, content, message):
    file = tmp_path / "state.pt"
    torch.save({"schema": 1, "random": [{}, {}]}, file)
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_state(tmp_path, Group())


def test_an_encoder_run_resumes_too(tmp_path, monkeypatch):
    store = dot_store(tmp_path / "data", count=70, steps=4)
    config = EncoderTraining(channels=32, depth=1, dim=8, num_updates=6, batch_pairs=8)
    train_encoder(store, config, tmp_path / "whole")
    machine = Machine(save_minutes=0, resume=True)
    with interrupted(monkeypatch, 4):
        train_encoder(store, config, tmp_path / "run", machine)
    train_encoder(store, config, tmp_path / "run", machine)
    files = [tmp_path / name / "encoder.safetensors" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_two_processes_train_like_one(world, tmp_path):
    """Half a batch each: history windows, an adaptive adversary, and the cache filled by both."""
    more = ["--set", "adversarial.adaptive=true", "--set", "adversarial.space=inputs"]
    one = command(world, tmp_path / "one", *more, checkpoint="dry")
    two = command(world, tmp_path / "two", *more, checkpoint="dry")
    two += ["--cache", str(tmp_path / "cache")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", "2", "-m", "wm_planner.cli.main"]
    done = subprocess.run(
        [*torchrun, *two], cwd=ROOT, timeout=100, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert main(one) == 0
    first, second = (weights(tmp_path / run / "checkpoint") for run in ("one", "two"))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-5)
    start = weights(world / "dry")
    moved = max(float((first[name] - start[name]).abs().max()) for name in first)
    assert moved > 3e-4
    for one_line, two_line in zip(
        metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True
    ):
        assert one_line == pytest.approx(two_line, abs=1e-5)
    config = json.loads((tmp_path / "two/config.json").read_text())
    assert config["machine"]["processes"] == 2


def test_a_batch_that_cannot_be_shared_is_refused():
    shares = [Group(rank, 3).share(6) for rank in range(3)]
    assert np.concatenate([np.arange(6)[share] for share in shares]).tolist() == list(range(6))
    with pytest.raises(ConfigError, match="batch of 7 cannot be shared by 2"):
        Group(0, 2).share(7)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ConfigError, match=device), machine_of(device):
        pass


@pytest.mark.parametrize("bad", [{"save_minutes": -1}, {"cache_dtype": "int8"}])
def test_bad_machine_settings_are_named(bad):
    with pytest.raises(ConfigError, match=str(next(iter(bad.values())))):
        Machine(**bad)


def test_bf16_trains(world, tmp_path):
    assert main(command(world, tmp_path / "run", "--bf16")) == 0
    losses = [line["loss"] for line in metrics(tmp_path / "run")]
    assert all(np.isfinite(losses))


def test_the_command_that_is_written_down_can_be_run_again(monkeypatch) -> None:
    arguments = ["finetune", "--set", "online.planner={num_restarts: 2}"]
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/wm-planner", *arguments])
    command = provenance()["command"]
    assert shlex.split(command) == ["wm-planner", *arguments]
