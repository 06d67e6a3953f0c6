"""The upper model: how it is trained, and how it travels with a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from wm_planner.cli import main as cli
from wm_planner.errors import CheckpointError, DatasetError
from wm_planner.models.catalog import CARD, UPPER, checksum, read_card
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.models.upper import UpperConfig, UpperModel, kl_divergence
from wm_planner.models.world_model import Latent, ModelConfig, WorldModel
from wm_planner.training.latents import LatentTrajectories
from wm_planner.training.loop import fit
from wm_planner.training.machine import Machine
from wm_planner.training.upper import UpperLearner, UpperTraining, macro_errors, train_upper

from .training_world import TINY, dot_store, interrupted, metrics, tiny_bundle, tiny_checkpoint

SIZES = UpperConfig(TINY, steps=2, macro_dim=4, hidden=32)
CONFIG = UpperTraining(num_updates=200, batch_size=32, rollout_steps=2, model=SIZES)
RECIPE = """
upper:
  num_updates: 2
  batch_size: 4
  rollout_steps: 2
  model:
    steps: 2
    macro_dim: 4
    hidden: 32
    predictor: {depth: 1, heads: 2, dim_head: 16, mlp_dim: 64, width: 32, residual: true}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a run of the command, with the data and the checkpoint that it was given."""
    directory = tmp_path_factory.mktemp("upper")
    dot_store(directory / "data", count=8)
    tiny_checkpoint(directory / "base")
    (directory / "recipe.yaml").write_text(RECIPE)
    arguments = ["--data", str(directory / "data"), "--checkpoint", str(directory / "base")]
    arguments += ["--recipe", str(directory / "recipe.yaml"), "--no-cache", "--device", "cpu"]
    output = ["--output", str(directory / "run")]
    assert cli.main(["train", "upper", *arguments, *output, "--threads", "1"]) == 0
    return directory


def walks(count=128, steps=8):
    """A token of two numbers, which the first two of four entries of an action add to."""
    generator = torch.Generator().manual_seed(0)
    actions = torch.randn(count, steps, 4, generator=generator)
    start = torch.randn(count, 1, 2, generator=generator)
    path = torch.cat([start, 0.3 * actions[..., :2]], dim=1).cumsum(dim=1)
    return LatentTrajectories(path[:, :, None], path, actions)


def test_it_beats_copying_with_macro_actions_as_the_prior(tmp_path):
    torch.manual_seed(0)
    base = WorldModel(ModelConfig(32, 1, 1, 2, 4, 2, predictor=TINY), torch.nn.Identity())
    upper, data = UpperModel(SIZES, base.requires_grad_(False)), walks()
    learner = UpperLearner(
        upper, data, replace(CONFIG, learning_rate=3e-3, kl_weight=0.01), Machine()
    )
    fit(learner, {}, tmp_path / "run", Machine(bar=False))
    errors = macro_errors(upper, learner.held_out, 4)
    assert errors["windows"] == 256
    assert len(errors["model"]) == len(errors["copy"]) == 4
    assert all(m < 0.3 * c for m, c in zip(errors["model"], errors["copy"], strict=True))
    # What is planned over is about N(0, I) where the data are.
    macro = upper.macro_actions(data.actions).detach()
    assert macro.shape == (128, 4, 4)
    assert float(macro.mean(dim=(0, 1)).abs().max()) < 0.3
    assert 0.5 < float(macro.std(dim=(0, 1)).max()) < 1.3
    assert torch.equal(upper.macro_actions(data.actions[:, :7]), macro[:, :3])
    assert not any(p.requires_grad for p in base.parameters())


def test_the_command_prints_errors_of_each_macro_step(trained, capsys):
    arguments = ["--data", str(trained / "data"), "--checkpoint", str(trained / "base")]
    arguments += ["--recipe", str(trained / "recipe.yaml"), "--no-cache", "--device", "cpu"]
    output = ["--output", str(trained / "again"), "--threads", "1"]
    assert cli.main(["train", "upper", *arguments, *output]) == 0
    printed = capsys.readouterr().out
    assert "| macro-step of 2 | seconds | model | copying | ratio |" in printed
    assert "| 4 | 4.00 |" in printed
    assert "next: plan with it by --set levels={}" in printed
    first, again = (load_bundle(trained / name).upper for name in ("run", "again"))
    for name, value in first.own_state().items():
        assert torch.equal(value, again.own_state()[name]), name


def test_all_else_of_the_checkpoint_stays(trained, tmp_path):
    base, bundle = load_bundle(trained / "base"), load_bundle(trained / "run")
    assert base.upper is None
    for name, value in base.model.state_dict().items():
        assert torch.equal(value, bundle.model.state_dict()[name]), name
    assert (bundle.planner, bundle.info) == (base.planner, base.info)
    assert bundle.upper.model.proprio_encoder is bundle.model.proprio_encoder
    assert not any(p.requires_grad for p in bundle.upper.parameters())
    cards = [read_card(trained / place / CARD) for place in ("base", "run/checkpoint")]
    assert cards[0]["sha256"] == cards[1]["sha256"]
    assert checksum(cards[0]) == cards[0]["sha256"] != checksum(cards[1])


def test_it_travels_with_the_checkpoint(trained, tmp_path):
    bundle = load_bundle(trained / "run")
    again = load_bundle(save_bundle(bundle, tmp_path / "again"))
    assert cli.main(["export", str(trained / "run"), "--output", str(tmp_path / "half")]) == 0
    half = load_bundle(tmp_path / "half")
    now = Latent(torch.randn(3, 1, 16, 8), torch.randn(3, 1, 10))
    macro = torch.randn(3, 2, 4)
    first, second, third = (b.upper.model.rollout(now, macro).visual for b in (bundle, again, half))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.allclose(first, third, atol=0.02)
    sizes = [(tmp_path / place / UPPER).stat().st_size for place in ("again", "half")]
    assert sizes[1] < 0.6 * sizes[0]


def test_a_damaged_file_or_card_is_named(trained, tmp_path):
    directory = save_bundle(load_bundle(trained / "run"), tmp_path / "c")
    card = json.loads((directory / CARD).read_text())
    wrong = {**card["upper"], "model": {**card["upper"]["model"], "macro_dim": 5}}
    (directory / CARD).write_text(json.dumps({**card, "upper": wrong}))
    with pytest.raises(CheckpointError, match=UPPER):
        load_bundle(directory)
    wrong["model"]["macro_dim"] = 0
    (directory / CARD).write_text(json.dumps({**card, "upper": wrong}))
    with pytest.raises(CheckpointError, match="upper: macro_dim"):
        load_bundle(directory)
    (directory / CARD).write_text(json.dumps(card))
    (directory / UPPER).write_bytes((directory / UPPER).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"{UPPER}: its checksum"):
        load_bundle(directory)


def test_a_resumed_run_is_the_one_that_was_not_interrupted(trained, tmp_path, monkeypatch):
    store = dot_store(tmp_path / "data", count=4)
    config = replace(CONFIG, num_updates=6, batch_size=4)

    def train(output, **machine):
        settings = Machine(save_minutes=0.0, bar=False, **machine)
        return train_upper(store, tiny_bundle(), config, tmp_path / output, {}, settings).upper

    whole = train("whole")
    with interrupted(monkeypatch, 4):
        train("cut")
    again = train("cut", resume=True)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")
    for name, value in whole.own_state().items():
        assert torch.equal(value, again.own_state()[name]), name


def test_short_trajectories_are_refused(tmp_path):
    short = dot_store(tmp_path / "data", count=8, steps=3)
    with pytest.raises(DatasetError, match=r"3 model steps, rollout_steps 2 needs at least 4"):
        train_upper(short, tiny_bundle(), CONFIG, tmp_path / "run", {})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["upper", "--minutes", "3", "--checkpoint", "wall-base"], "--minutes is not for"),
        (["upper"], "needs it: a directory or a shipped name"),
        (["model", "--checkpoint", "wall-base"], "--checkpoint is for 'train upper'"),
    ],
)
def test_options_of_other_parts_are_refused(arguments, said, tmp_path, capsys):
    given = ["--data", str(tmp_path), "--output", str(tmp_path / "run")]
    assert cli.main(["train", *arguments, *given]) == 2
    assert said in capsys.readouterr().err


def test_windows_with_a_stride_hold_every_action():
    visual = torch.arange(9.0)[None, :, None, None]
    actions = torch.arange(8.0)[None, :, None]
    data = LatentTrajectories(visual, visual[..., 0], actions)
    generator = torch.Generator().manual_seed(0)
    seen, proprio, taken = data.windows(20, 2, generator, stride=3)
    first = seen[:, 0, 0, 0]
    assert set(first.tolist()) == {0.0, 1.0, 2.0}
    assert torch.equal(seen[:, :, 0, 0], first[:, None] + torch.tensor([0.0, 3.0, 6.0]))
    assert torch.equal(proprio, seen[:, :, 0])
    assert torch.equal(taken, first[:, None, None] + torch.tensor([[0.0, 1, 2], [3, 4, 5]]))


def test_divergence_from_the_prior():
    """Nothing for N(0, I); half a nat for a mean that is off by one; none of it is lost."""
    none = torch.zeros(2, 3, 4)
    assert float(kl_divergence(none, none)) == 0
    off = none.clone()
    off[..., 1] = 1
    assert float(kl_divergence(off, none)) == pytest.approx(0.5)
    assert float(kl_divergence(none, off)) == pytest.approx(0.5 * (torch.e - 2))
