"""A channel projector on a frozen encoder: what it learns, and that it is an encoder again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.errors import CheckpointError, ConfigError, DatasetError  # noqa: E402
from wm_planner.models.checkpoint import load_bundle  # noqa: E402
from wm_planner.models.encoder import build_encoder  # noqa: E402
from wm_planner.models.projected_encoder import ChannelProjector, ProjectedEncoder  # noqa: E402
from wm_planner.models.world_model import ModelConfig, WorldModel  # noqa: E402
from wm_planner.planning import Planner, Session  # noqa: E402
from wm_planner.planning.config import planner_config  # noqa: E402
from wm_planner.training.encoder import EncoderTraining, train_encoder  # noqa: E402
from wm_planner.training.latents import LatentTrajectories  # noqa: E402
from wm_planner.training.loop import fit  # noqa: E402
from wm_planner.training.losses import curvature, std_hinge  # noqa: E402
from wm_planner.training.machine import Machine  # noqa: E402
from wm_planner.training.model import ModelTraining  # noqa: E402
from wm_planner.training.projector import (  # noqa: E402
    ProjectorLearner,
    ProjectorTraining,
    _changes,
    build_projected,
    is_projected,
    train_projector,
)
from wm_planner.types import Goal, Observation  # noqa: E402

from .training_world import SIZE, TINY, dot_store, interrupted, metrics  # noqa: E402

SMALL = {"kind": "small", "channels": 32, "depth": 1, "dim": 8}
ENCODER = EncoderTraining(channels=32, depth=1, dim=8, num_updates=4, batch_pairs=8)
PROJECTOR = ProjectorTraining(
    dim=3, hidden_dim=16, num_updates=6, batch_size=8, predictor=TINY, held_out=0.2
)
MODEL = ModelTraining(predictor=TINY, num_updates=2, batch_size=4, rollout_steps=2)
RECIPE = """
task: wall
collect: {num_trajectories: 16, steps: 4, image_size: 32}
encoder: {channels: 32, depth: 1, dim: 8, num_updates: 4, batch_pairs: 8, max_gap: 1}
projector:
  {dim: 3, hidden_dim: 16, num_updates: 4, batch_size: 8, predictor: &tiny
    {depth: 1, heads: 2, dim_head: 16, mlp_dim: 64, width: 32, residual: true}}
model: {num_updates: 2, batch_size: 4, rollout_steps: 2, predictor: *tiny}
planner: {gbp: {num_iterations: 2}, horizon: 2}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Data, and an encoder of a few updates."""
    directory = tmp_path_factory.mktemp("world")
    store = dot_store(directory / "data", count=20, steps=4)
    train_encoder(store, ENCODER, directory / "encoder")
    return SimpleNamespace(
        store=store, directory=directory, file=directory / "encoder/encoder.safetensors"
    )


def test_few_channels_and_a_frozen_base():
    settings = {"kind": "projected", "base": SMALL, "hidden_dim": 16}
    encoder = build_encoder(settings, SIZE, 16, 3)
    images = torch.rand(2, 3, SIZE, SIZE)
    out = encoder(images)
    assert out.shape == (2, 16, 3) and (encoder.image_size, encoder.num_patches) == (SIZE, 16)
    out.square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in encoder.base.parameters())
    assert all(float(p.grad.abs().sum()) > 0 for p in encoder.projector.parameters())
    tokens = encoder.base(images)
    assert torch.equal(encoder.project(tokens[None]), encoder.project(tokens)[None])
    assert torch.equal(encoder.project(tokens), out)


@pytest.mark.parametrize(("kernel_size", "reach"), [(1, {0}), (3, {0, 1, 2, 5, 6, 7, 10, 11, 12})])
def test_the_kernel_says_which_patches_a_channel_sees(kernel_size, reach):
    """The corner of a grid of 5 x 5: two convolutions of 3 reach two patches on."""
    torch.manual_seed(0)
    projector = ChannelProjector(25, 4, 16, 2, kernel_size)
    tokens = torch.randn(1, 25, 4)
    other = tokens.clone()
    other[:, 0] += 1.0
    changed = (projector(tokens) - projector(other)).abs().sum(dim=-1)[0]
    assert set(torch.nonzero(changed > 1e-6).flatten().tolist()) == reach


def test_sizes_that_cannot_be():
    assert ChannelProjector(6, 4, 16, 2, 1)(torch.randn(3, 6, 4)).shape == (3, 6, 2)
    for sizes, message in (
        ((6, 4, 16, 2, 3), "no square grid: kernel_size must be 1"),
        ((4, 4, 16, 2, 2), "kernel_size odd, got 16, 2"),
        ((4, 4, 16, 5, 3), "dim 5: a projector narrows tokens of 4 entries"),
    ):
        with pytest.raises(ValueError, match=message):
            ChannelProjector(*sizes)


def test_what_never_changes_is_no_variance():
    still = torch.randn(1, 1, 4, 2).expand(8, 3, -1, -1)  # patches differ, frames do not
    assert float(std_hinge(still.flatten(0, 2))) < 0.9
    assert float(_changes(still).abs().max()) < 1e-6
    assert float(std_hinge(_changes(still))) == pytest.approx(0.99)


def test_what_stands_still_does_not_drown_what_moves():
    torch.manual_seed(0)
    projector = ChannelProjector(16, 8, 32, 4, 3)
    frames = torch.randn(8, 3, 16, 8)
    frames[:2, 1] = frames[:2, 0]

    def gradient(rows):
        z = projector(rows.flatten(0, 1)).unflatten(0, (len(rows), 3))
        return torch.autograd.grad(curvature(*z.flatten(2).unbind(dim=1)), projector.out.weight)[0]

    torch.testing.assert_close(gradient(frames), gradient(frames[2:]) * 6 / 8, rtol=0, atol=1e-3)


def straight_and_curved(count: int, steps: int) -> tuple[LatentTrajectories, list[torch.Tensor]]:
    """One token that holds a place and a clock hand, mixed by a rotation; and the two.

    The place moves evenly, by the action; the hand turns by 2 radians a step, whatever is done.
    """
    generator = torch.Generator().manual_seed(0)
    start, velocity, phase = (torch.rand(count, n, generator=generator) for n in (2, 2, 1))
    velocity = 2 * velocity - 1
    time = torch.arange(steps + 1.0)
    place = 4 * start[:, None] + velocity[:, None] * time[:, None]
    angle = 2 * math.pi * phase + 2.0 * time
    hand = torch.stack([angle.cos(), angle.sin()], dim=-1)
    mix, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator))
    tokens = torch.cat([place - place.mean(dim=(0, 1)), hand], dim=-1) @ mix
    actions = velocity[:, None].expand(-1, steps, -1)
    data = LatentTrajectories(tokens[:, :, None], torch.zeros(count, steps + 1, 1), actions)
    return data, [place.flatten(0, 1), hand.flatten(0, 1)]


def unexplained(target: torch.Tensor, z: torch.Tensor) -> float:
    """Share of the target's variance that is no linear function of z."""
    columns = torch.cat([z, torch.ones(len(z), 1)], dim=1)
    left = target - columns @ torch.linalg.lstsq(columns, target).solution
    return float(left.var() / target.var())


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_a_straight_quantity_is_kept_and_a_curved_one_dropped(tmp_path, weight):
    torch.manual_seed(0)
    data, (place, hand) = straight_and_curved(256, 6)
    base = nn.Identity()
    base.image_size, base.num_patches, base.dim = 8, 1, 4
    config = ProjectorTraining(
        dim=2, hidden_dim=128, kernel_size=1, num_updates=100, batch_size=64, predictor=TINY,
        learning_rate=1e-2, curvature_weight=weight,
    )  # fmt: skip
    encoder = ProjectedEncoder(base, config.dim, config.hidden_dim, config.kernel_size)
    model = WorldModel(ModelConfig(8, 1, 1, 2, 2, 1, predictor=TINY), encoder)
    learner = ProjectorLearner(model, data, config, Machine())
    before = learner.evaluate()
    fit(learner, {}, tmp_path, Machine())
    after = learner.evaluate()
    assert before["val_curvature"] > 1.0 and before["val_curvature_base"] > 1.0
    assert after["val_std"] > 0.8, "it has not collapsed"
    if weight == 0:
        assert after["val_curvature"] > 0.3, "prediction alone does not straighten"
        return
    assert after["val_curvature"] < 0.1
    z = encoder.project(data.visual).detach().flatten(0, 2)
    assert unexplained(place, z) < 0.35 and unexplained(hand, z) > 0.9


def test_the_file_holds_the_encoder_as_it_was_and_is_read_bit_for_bit(world, tmp_path):
    given = load_file(world.file)
    made = train_projector(world.store, ENCODER, world.file, PROJECTOR, tmp_path / "run")
    file = tmp_path / "run/encoder.safetensors"
    state = load_file(file)
    kept = {
        k.replace("encoder.", "encoder.base."): v for k, v in given.items() if "decoder" not in k
    }
    assert kept and all(torch.equal(state[k], v) for k, v in kept.items())
    assert is_projected(file) and not is_projected(world.file) and not is_projected(tmp_path / "x")
    bundle = build_projected(world.store, ENCODER, PROJECTOR, file, MODEL)
    assert (bundle.model.config.visual_dim, bundle.model.config.decoder) == (3, "none")
    with pytest.raises(CheckpointError, match="does not fit the recipe"):
        build_projected(world.store, ENCODER, replace(PROJECTOR, dim=2), file, MODEL)
    images = bundle.preprocess.images(np.array(world.store.images[:, 0]))
    tokens = made(images)
    assert torch.equal(bundle.model.encoder(images), tokens)
    assert float(tokens.mean().abs()) < 0.3 and 0.7 < float(tokens.std()) < 1.3
    last = metrics(tmp_path / "run")[-1]
    assert {"prediction", "curvature", "std", "covariance", "val_curvature", "val_std"} <= set(last)


def test_a_projector_run_resumes(world, tmp_path, monkeypatch):
    def train(name, machine=None):
        train_projector(world.store, ENCODER, world.file, PROJECTOR, tmp_path / name, machine)

    train("whole")
    machine = Machine(save_minutes=0, resume=True)
    with interrupted(monkeypatch, 4):
        train("run", machine)
    train("run", machine)
    files = [tmp_path / name / "encoder.safetensors" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_dinov2_is_projected_and_needs_its_file_no_more(tmp_path):
    dinov2 = pytest.importorskip("wm_planner.models.dinov2")
    weights = tmp_path / "dinov2.pth"
    torch.save(dinov2.DinoV2Encoder(32, variant=(16, 1, 2)).backbone.state_dict(), weights)
    encoder = EncoderTraining(kind="dinov2", variant=(16, 1, 2), weights=str(weights))
    store = dot_store(tmp_path / "data", count=8, steps=3)
    made = train_projector(store, encoder, None, PROJECTOR, tmp_path / "run")
    weights.unlink()
    file = tmp_path / "run/encoder.safetensors"
    bundle = build_projected(store, encoder, PROJECTOR, file, MODEL)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(bundle.model.encoder(images), made(images))
    assert made(images).shape == (2, 4, 3)
    assert "weights" not in json.dumps(bundle.model.config.encoder)


def test_what_does_not_fit_is_refused(world, tmp_path):
    def train(store=world.store, file=world.file, machine=None, **settings):
        config = ProjectorTraining(predictor=TINY, **settings)
        train_projector(store, ENCODER, file, config, tmp_path / "run", machine)

    with pytest.raises(CheckpointError, match="none.safetensors: no such file; run .*encoder"):
        train(file=tmp_path / "none.safetensors")
    projected = tmp_path / "projected"
    train_projector(world.store, ENCODER, world.file, PROJECTOR, projected)
    with pytest.raises(CheckpointError, match="does not fit the recipe"):
        train(file=projected / "encoder.safetensors")
    with pytest.raises(ConfigError, match="projector: dim 9: a projector narrows tokens of 8"):
        train(dim=9)
    with pytest.raises(ConfigError, match="kernel_size odd, got 192, 2"):
        train(kernel_size=2)
    with pytest.raises(DatasetError, match="1 model steps, a projector needs at least 2"):
        train(store=dot_store(tmp_path / "short", count=8, steps=1))
    group = SimpleNamespace(size=2, rank=0)
    with pytest.raises(ConfigError, match="without torchrun"):
        train(machine=Machine(group=group))
    assert not (tmp_path / "run").exists()
    for wrong in ({"num_updates": 0}, {"batch_size": 1}, {"std_weight": -1.0}, {"held_out": 1.0}):
        with pytest.raises(ValueError, match="needed|must be"):
            ProjectorTraining(**wrong)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        is_projected(broken)


def test_from_the_command_line_to_a_plan(tmp_path, monkeypatch, capsys):
    def no_simulator(*_):
        raise ImportError("none here")

    monkeypatch.setattr("wm_planner.evaluation.episode.EnvMaker", no_simulator)
    data = dot_store(tmp_path / "data", count=16, steps=4).directory
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)

    def train(part, *more):
        paths = ["--recipe", str(recipe), "--data", str(data), "--output", str(tmp_path / part)]
        return main(["train", part, *paths, "--device", "cpu", "--threads", "1", *more])

    assert train("projector") == 2
    assert "train projector needs --encoder" in capsys.readouterr().err
    encoder, projector = (str(tmp_path / name) for name in ("encoder", "projector"))
    assert train("projector", "--encoder", encoder) == 2
    assert "run 'wm-planner train encoder' first" in capsys.readouterr().err
    assert train("encoder") == 0
    assert train("projector", "--encoder", encoder, "--measure") == 0
    assert set(json.loads((tmp_path / "projector/geometry.json").read_text())) == {
        "rank_correlation"
    }
    assert train("projector", "--encoder", encoder, "--resume") == 0, "it has finished already"
    assert train("model", "--encoder", projector) == 0
    checkpoint = tmp_path / "model/checkpoint"
    assert main(["info", str(checkpoint)]) == 0
    assert "projected" in capsys.readouterr().out
    bundle = load_bundle(checkpoint)
    settings = {"kind": "projected", "base": SMALL, "hidden_dim": 16, "kernel_size": 3}
    assert bundle.model.config.encoder == settings
    session = Session(Planner(bundle, planner_config(bundle.planner)))
    image = np.full((SIZE, SIZE, 3), 255, np.uint8)
    session.set_goal(Goal(image, None))
    plan = session.plan(Observation(image[None], np.full((1, 2), 16.0, np.float32), stamp_ns=0))
    assert plan.actions.shape == (10, 2) and np.isfinite(plan.actions).all()
    fine = ["finetune", "--method", "base", "--checkpoint", str(checkpoint), "--data", str(data)]
    fine += ["--output", str(tmp_path / "fine"), "--device", "cpu", "--set", "num_updates=2"]
    fine += ["--threads", "1"]
    fine += ["--set", "rollout_steps=2"]
    assert main(fine) == 0
    before, after = (load_bundle(x).model for x in (checkpoint, tmp_path / "fine/checkpoint"))
    assert_same(before.encoder, after.encoder)


def assert_same(first: nn.Module, second: nn.Module) -> None:
    one, two = first.state_dict(), second.state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
