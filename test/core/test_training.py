"""The trainer on a world whose dynamics are known: a dot that moves by its action."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wm_planner.errors import CheckpointError, DatasetError
from wm_planner.models.bundle import build_model
from wm_planner.models.predictor import PredictorConfig
from wm_planner.models.world_model import Latent, ModelConfig
from wm_planner.training.encoder import (
    EncoderTraining,
    covariance_penalty,
    std_hinge,
    train_encoder,
)
from wm_planner.training.geometry import rank_correlation
from wm_planner.training.latents import LatentTrajectories
from wm_planner.training.trainer import (
    ModelTraining,
    build_untrained,
    evaluate,
    rollout_loss,
    train_model,
)

TINY = PredictorConfig(depth=1, heads=2, dim_head=16, mlp_dim=64, width=32, residual=True)


def dot_store(tmp_path, count=128, steps=8, size=32, seed=0):
    """Trajectories of a 4-pixel dot whose five raw actions add up to its displacement."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1.5, 1.5, (count, steps, 10)).astype(np.float32)
    position = np.zeros((count, steps + 1, 2))
    position[:, 0] = rng.uniform(8, size - 8, (count, 2))
    for t in range(steps):
        moved = position[:, t] + actions[:, t].reshape(count, 5, 2).sum(1)
        position[:, t + 1] = np.clip(moved, 3, size - 3)
    images = np.full((count, steps + 1, size, size, 3), 255, np.uint8)
    for i, t in np.ndindex(count, steps + 1):
        x, y = position[i, t].astype(int)
        images[i, t, y - 3 : y + 3, x - 3 : x + 3] = (255, 0, 0)
    proprio = position.astype(np.float32)
    return SimpleNamespace(
        images=images,
        proprio=proprio,
        actions=actions,
        states=position,
        directory=tmp_path,
        meta={"task": "wall"},
        stats=lambda: {
            "action_mean": (0.0, 0.0),
            "action_std": (0.87, 0.87),
            "proprio_mean": (16.0, 16.0),
            "proprio_std": (5.0, 5.0),
        },
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An encoder and a model trained for a few seconds."""
    directory = tmp_path_factory.mktemp("runs")
    store = dot_store(directory)
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


def test_same_seed_same_weights(trained, tmp_path):
    store, encoder, config, file, bundle, _ = trained
    again = build_untrained(store, encoder, file, config)
    again.model.proprio_encoder.load_state_dict(bundle.model.proprio_encoder.state_dict())
    torch.manual_seed(config.seed)
    first = build_untrained(store, encoder, file, config).model.state_dict()
    torch.manual_seed(config.seed)
    second = build_untrained(store, encoder, file, config).model.state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_short_trajectories_are_refused(trained, tmp_path):
    _, encoder, config, file, _, _ = trained
    short = dot_store(tmp_path, steps=2)
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


def test_rank_correlation_of_a_monotone_map_is_one():
    x = np.linspace(0, 1, 50)
    assert rank_correlation(x, np.exp(5 * x)) == pytest.approx(1.0)
    assert rank_correlation(x, -x) == pytest.approx(-1.0)
