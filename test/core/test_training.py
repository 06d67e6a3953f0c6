"""The trainer on a world whose dynamics are known: a dot that moves by its action."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wm_planner.cli import main as cli
from wm_planner.errors import CheckpointError, ConfigError, DatasetError
from wm_planner.models.bundle import build_model
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.models.world_model import Latent, ModelConfig
from wm_planner.training.encoder import EncoderTraining, _places, train_encoder
from wm_planner.training.feature_cache import weights_sha256
from wm_planner.training.latents import LatentTrajectories
from wm_planner.training.losses import (
    covariance_penalty,
    curvature,
    evaluate,
    rollout_loss,
    std_hinge,
)
from wm_planner.training.model import ModelTraining, train_model
from wm_planner.training.untrained import build_untrained

from .training_world import TINY, dot_store, metrics


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An encoder and a model trained for a few seconds."""
    directory = tmp_path_factory.mktemp("runs")
    store = dot_store(directory / "data")
    encoder = EncoderTraining(channels=32, depth=1, dim=8, num_updates=80, batch_pairs=16)
    train_encoder(store, encoder, directory / "encoder")
    config = ModelTraining(predictor=TINY, num_updates=300, batch_size=16, rollout_steps=3)
    file = directory / "encoder" / "encoder.safetensors"
    bundle = train_model(
        store, build_untrained(store, encoder, file, config), config, directory / "model"
    )
    return store, encoder, config, file, bundle, directory


def test_training_beats_the_copy_baseline(trained):
    bundle = trained[4]
    scores = bundle.info["held_out"]
    assert scores["val_last"] < 0.8 * scores["val_copy"]


def test_encoder_tokens_are_standardised(trained):
    store, bundle = trained[0], trained[4]
    tokens = bundle.model.encode_images(bundle.preprocess.images(store.images[0])[None])
    assert 0.3 < float(tokens.std()) < 3.0


def test_an_exported_checkpoint_encodes_as_the_trained_one_did(trained, tmp_path):
    bundle = trained[4]
    source = save_bundle(bundle, tmp_path / "trained")
    assert cli.main(["export", str(source), "--output", str(tmp_path / "half")]) == 0
    exported = load_bundle(tmp_path / "half").model
    assert weights_sha256(exported.encoder) == weights_sha256(bundle.model.encoder)
    assert weights_sha256(exported.predictor) != weights_sha256(bundle.model.predictor)


def test_the_seed_says_what_weights_training_begins_with(trained):
    store, encoder, config, file = trained[:4]

    def predictor(seed):
        made = build_untrained(store, encoder, file, replace(config, seed=seed))
        return made.model.proprio_encoder.state_dict() | made.model.predictor.state_dict()

    first, again, other = predictor(1), predictor(1), predictor(2)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_short_trajectories_are_refused(trained, tmp_path):
    _, encoder, config, file, _, _ = trained
    short = dot_store(tmp_path / "data", count=8, steps=2)
    with pytest.raises(DatasetError, match="rollout_steps 3"):
        train_model(short, build_untrained(short, encoder, file, config), config, tmp_path / "r")


def test_missing_encoder_names_the_command(trained, tmp_path):
    store, encoder, config = trained[:3]
    with pytest.raises(CheckpointError, match="train encoder"):
        build_untrained(store, encoder, tmp_path / "none.safetensors", config)


def test_encoder_file_of_other_sizes_is_refused(trained):
    store, _, config, file = trained[:4]
    with pytest.raises(CheckpointError, match="does not fit the recipe"):
        build_untrained(store, EncoderTraining(channels=64, dim=8), file, config)


def test_dinov2_is_used_as_it_is(tmp_path):
    """A toy of 16 entries: 32 pixels give four patches; its weights come out as they went in."""
    dinov2 = pytest.importorskip("wm_planner.models.dinov2")
    source = dinov2.DinoV2Encoder(32, variant=(16, 1, 2))
    file = tmp_path / "dinov2.pth"
    torch.save(source.backbone.state_dict(), file)
    encoder = EncoderTraining(kind="dinov2", variant=(16, 1, 2), weights=str(file))
    store = dot_store(tmp_path / "data", count=8, steps=3)
    config = ModelTraining(predictor=TINY, num_updates=2, batch_size=4, rollout_steps=2)
    bundle = train_model(
        store, build_untrained(store, encoder, None, config), config, tmp_path / "run"
    )
    assert (bundle.model.config.num_patches, bundle.model.config.visual_dim) == (4, 16)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(bundle.model.encoder(images), source(images))
    loaded = load_bundle(save_bundle(bundle, tmp_path / "checkpoint"))
    assert torch.equal(loaded.model.encoder(images), source(images))
    with pytest.raises(ConfigError, match="dinov2 is used as it is"):
        train_encoder(store, encoder, tmp_path / "encoder")


def test_rollout_loss_is_zero_for_a_perfect_model():
    """A residual model with zero output predicts a world that stands still: exactly right."""
    config = ModelConfig(32, 1, 16, 8, 10, 2, predictor=TINY)
    model = build_model(config)
    visual = torch.randn(3, 1, 16, 8).expand(-1, 4, -1, -1)
    proprio = torch.randn(3, 1, 2).expand(-1, 4, -1)
    terms = rollout_loss(model, visual, proprio, torch.randn(3, 3, 10))
    assert float(terms["loss"]) == pytest.approx(0.0, abs=1e-12)


def test_history_model_trains_on_windows():
    config = ModelConfig(32, 3, 16, 8, 10, 2, predictor=TINY)
    model = build_model(config)
    data = LatentTrajectories(
        torch.randn(4, 9, 16, 8, dtype=torch.float16), torch.randn(4, 9, 2), torch.randn(4, 8, 10)
    )
    visual, proprio, actions = data.windows(5, 6, torch.Generator().manual_seed(0))
    assert visual.shape == (5, 7, 16, 8) and actions.shape == (5, 6, 10)
    assert torch.isfinite(rollout_loss(model, visual, proprio, actions)["loss"])
    assert set(evaluate(model, data, 5)) == {"val_last", "val_copy"}
    latent = Latent(visual[:, :2], model.proprio_encoder(proprio[:, :2]))
    with pytest.raises(ValueError, match="need 1 past actions"):
        model.rollout(latent, actions, mode="history")


def test_variance_and_covariance_terms_on_known_samples():
    spread = torch.tensor([[2.0, -2.0], [-2.0, 2.0], [2.0, 2.0], [-2.0, -2.0]])
    assert float(std_hinge(spread)) == 0.0
    assert float(covariance_penalty(spread)) == pytest.approx(0.0)
    collapsed = torch.zeros(4, 2)
    assert float(std_hinge(collapsed)) == pytest.approx(0.99)
    tied = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    # covariance matrix [[2, 2], [2, 2]]: off-diagonal squares 8 over 2 entries
    assert float(covariance_penalty(tied)) == pytest.approx(4.0)


def test_curvature_is_one_minus_the_cosine_of_the_turn():
    path = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    second = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    third = torch.tensor([[3.0, 0.0], [1.0, 2.0], [0.5, 0.0]])  # straight on, a right angle, back
    each = [float(curvature(path[[i]], second[[i]], third[[i]])) for i in range(3)]
    assert each == pytest.approx([0.0, 1.0, 2.0])
    assert float(curvature(path, second, third)) == pytest.approx(1.0)


def test_curvature_weight_straightens_the_paths_through_three_equally_distant_frames(tmp_path):
    store = dot_store(tmp_path / "data", count=64, steps=4, straight=True)
    weights = {f"{name}_weight": 0.0 for name in ("reconstruction", "invariance", "std")}
    config = EncoderTraining(
        dim=8, channels=16, depth=1, num_updates=40, batch_pairs=16, max_gap=2,
        covariance_weight=0.0, curvature_weight=0.5, **weights,
    )  # fmt: skip
    train_encoder(store, config, tmp_path / "run")
    first, last = metrics(tmp_path / "run")
    assert first["curvature"] == pytest.approx(first["loss"]) and first["curvature"] > 0.3
    assert last["curvature"] < 0.8 * first["curvature"]
    rows, times = (x.reshape(3, 16) for x in _places((9, 5), config, np.random.default_rng(0)))
    gaps = np.diff(times, axis=0)
    assert (rows == rows[0]).all() and (gaps[0] == gaps[1]).all()
    assert np.unique(gaps).tolist() == [1, 2] and times.min() >= 0 and times.max() <= 4
    with pytest.raises(DatasetError, match="max_gap 4 and curvature_weight 1.0 need 9"):
        train_encoder(
            store, EncoderTraining(max_gap=4, curvature_weight=1.0), tmp_path / "too_short"
        )
