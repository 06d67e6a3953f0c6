"""Encoders of other packages: chosen by a recipe, named in a card, refused where missing."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.config import from_dict  # noqa: E402
from wm_planner.errors import CheckpointError, ConfigError  # noqa: E402
from wm_planner.models.catalog import CARD  # noqa: E402
from wm_planner.models.checkpoint import load_bundle, save_bundle  # noqa: E402
from wm_planner.models.encoder import ENCODERS, Encoder, build_encoder  # noqa: E402
from wm_planner.models.predictor import PredictorConfig  # noqa: E402
from wm_planner.training.encoder import EncoderTraining, train_encoder  # noqa: E402
from wm_planner.training.model import ModelTraining, train_model  # noqa: E402
from wm_planner.training.projector import (  # noqa: E402
    ProjectorTraining,
    build_projected,
    train_projector,
)
from wm_planner.training.untrained import build_untrained  # noqa: E402

from .training_world import dot_store  # noqa: E402

TINY = PredictorConfig(depth=1, heads=2, dim_head=8, mlp_dim=16, dropout=0.0, residual=True)
MODEL = ModelTraining(predictor=TINY, num_updates=2, batch_size=4, rollout_steps=2)


class Grey(Encoder):
    """(B, 3, S, S) -> (B, side * side, 2): cells' brightness, times a weight that comes with it."""

    def __init__(self, image_size: int, side: int = 4, weights: float | None = None) -> None:
        super().__init__()
        self.image_size, self.num_patches, self.dim, self.side = image_size, side**2, 2, side
        self.register_buffer("scale", torch.tensor(0.0 if weights is None else weights))

    def forward(self, images):
        cells = torch.nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), self.side)
        return self.scale * cells.flatten(1)[..., None].expand(-1, -1, 2)


@pytest.fixture
def grey(monkeypatch):
    """A recipe's encoder section; `Grey` is installed until the test ends."""
    monkeypatch.setitem(ENCODERS._loaded, "grey", Grey)
    return {"kind": "grey", "settings": {"side": 2, "weights": 3.0}}


def test_one_that_comes_trained(grey, tmp_path, monkeypatch):
    store = dot_store(tmp_path / "data", count=8, steps=4)
    encoder = from_dict(EncoderTraining, grey, "recipe: encoder")
    with pytest.raises(ConfigError, match="encoder.kind grey is used as it is"):
        train_encoder(store, encoder, tmp_path / "encoder")
    bundle = build_untrained(store, encoder, None, MODEL)
    bundle = train_model(store, bundle, MODEL, tmp_path / "model")
    directory = save_bundle(bundle, tmp_path / "checkpoint")
    model = json.loads((directory / CARD).read_text())["model"]
    assert model["encoder"] == {"kind": "grey", "side": 2} and model["decoder"] == "none"
    assert (model["num_patches"], model["visual_dim"]) == (4, 2)
    images = torch.rand(3, 3, 32, 32)
    tokens = load_bundle(directory).model.encoder(images)
    assert torch.equal(tokens, Grey(32, 2, 3.0)(images)) and tokens.abs().sum() > 0

    monkeypatch.delitem(ENCODERS._loaded, "grey")
    with pytest.raises(CheckpointError, match="unknown encoder 'grey'.* Choices: .*keypoint") as e:
        load_bundle(directory)
    assert str(directory / CARD) in str(e.value)


def test_one_that_comes_trained_is_projected(grey, tmp_path):
    store = dot_store(tmp_path / "data", count=8, steps=4)
    encoder = EncoderTraining(**grey)
    config = ProjectorTraining(num_updates=1, batch_size=4, dim=1, hidden_dim=4, predictor=TINY)
    made = train_projector(store, encoder, None, config, tmp_path / "projected")
    file = tmp_path / "projected" / "encoder.safetensors"
    model = build_projected(store, encoder, config, file, MODEL).model
    assert model.config.encoder["base"] == {"kind": "grey", "side": 2}
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(model.encoder(images), made(images))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "gray"}, "recipe: encoder: unknown encoder 'gray'.*Choices: dinov2, keypoint"),
        ({"kind": "multi"}, "recipe: encoder: kind 'multi' is built around another encoder"),
        ({"standardise": True}, "standardise is for another kind of encoder, not for 'grey'"),
    ],
)
def test_what_a_recipe_cannot_name(grey, changes, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(EncoderTraining, grey | changes, "recipe: encoder")


def test_a_setting_that_an_encoder_does_not_take(grey):
    settings = {"kind": "grey", "sides": 3}
    with pytest.raises(ConfigError, match="encoder 'grey' cannot be built of .*sides"):
        build_encoder(settings, 32, 4, 2)
    with pytest.raises(ConfigError, match="encoder 'multi' cannot be built of .*'cameras'"):
        build_encoder({"kind": "multi", "base": grey}, 32, 4, 2)


def test_what_is_no_encoder(monkeypatch):
    (point,) = ENCODERS._points["small"]
    other = type(point)(point.name, "wm_planner.models.vqvae:VQVAE", point.group)
    monkeypatch.setitem(ENCODERS._points, "other", [other])
    with pytest.raises(ConfigError, match="must be a class derived from .*Encoder, got .*VQVAE"):
        build_encoder({"kind": "other"}, 32, 4, 2)
