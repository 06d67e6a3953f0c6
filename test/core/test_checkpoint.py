"""Checkpoints: the same model comes back, and anything wrong is named before it is used."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.errors import CheckpointError, ConfigError  # noqa: E402
from wm_planner.models import catalog  # noqa: E402
from wm_planner.models.bundle import Bundle, build_model  # noqa: E402
from wm_planner.models.checkpoint import load_bundle, save_bundle  # noqa: E402
from wm_planner.models.predictor import PredictorConfig  # noqa: E402
from wm_planner.models.preprocess import Preprocess  # noqa: E402
from wm_planner.models.world_model import ModelConfig  # noqa: E402
from wm_planner.tasks import get_task  # noqa: E402
from wm_planner.types import Observation  # noqa: E402


def make_bundle(seed: int = 0) -> Bundle:
    torch.manual_seed(seed)
    predictor = PredictorConfig(depth=1, heads=2, dim_head=8, mlp_dim=16)
    config = ModelConfig(
        image_size=64,
        num_hist=2,
        num_patches=4,
        visual_dim=16,
        action_dim=4,
        proprio_dim=2,
        predictor=predictor,
    )
    preprocess = Preprocess(64, 2, (0.0, 0.5), (1.0, 2.0), (1.0, 2.0), (3.0, 4.0))
    return Bundle(
        build_model(config), preprocess, get_task("wall").embodiment, {"horizon": 5}, {"seed": seed}
    )


@pytest.fixture(scope="module")
def bundle():
    return make_bundle()


@pytest.fixture
def saved(bundle, tmp_path):
    return save_bundle(bundle, tmp_path / "wall-base")


def change_card(directory, **changes):
    file = directory / catalog.CARD
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_round_trip(bundle, saved, tmp_path):
    loaded = load_bundle(saved)
    assert (loaded.embodiment.name, loaded.planner, loaded.info) == (
        "wall",
        {"horizon": 5},
        {"seed": 0},
    )
    assert loaded.preprocess == bundle.preprocess
    assert loaded.model.config == bundle.model.config
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    observation = Observation(images, np.array([[1.0, 2.0]], np.float32), 0)
    before, after = bundle.encode_observation(observation), loaded.encode_observation(observation)
    assert torch.equal(before.visual, after.visual) and before.visual.abs().sum() > 0
    assert torch.equal(before.proprio, after.proprio)
    assert [p.name for p in tmp_path.iterdir()] == ["wall-base"], "nothing is left beside it"


def test_loaded_model_is_for_use_not_training(saved):
    model = load_bundle(saved).model
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_existing_checkpoint_is_kept(saved):
    with pytest.raises(CheckpointError, match="exists already"):
        save_bundle(make_bundle(1), saved)
    assert load_bundle(saved).info == {"seed": 0}


def test_failed_save_leaves_nothing(tmp_path):
    broken = make_bundle()
    broken.info["when"] = object()
    with pytest.raises(TypeError):
        save_bundle(broken, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_names_resolve(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "SHIPPED", tmp_path)
    assert catalog.shipped_checkpoints() == ["wall-base"]
    for name, task in (("wall-base", None), ("base", "wall"), (str(saved), None)):
        assert catalog.resolve_checkpoint(name, task) == saved
    with pytest.raises(CheckpointError, match="Did you mean 'wall-base'"):
        catalog.resolve_checkpoint("wall-bas")
    with pytest.raises(
        CheckpointError,
        match=r"none is shipped for task 'gym_pusht'; train .* runs/gym_pusht/checkpoint",
    ):
        catalog.resolve_checkpoint("base", "gym_pusht")
    with pytest.raises(CheckpointError, match="not a checkpoint directory; give one that"):
        catalog.resolve_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("tpu", "'tpu' is unknown; choices: auto, cpu, cuda"),
        ("meta", "'meta' is not supported"),
        (f"cuda:{torch.cuda.device_count()}", "this machine has"),
    ],
)
def test_devices_that_are_not_there_are_named(saved, device, message):
    with pytest.raises(ConfigError, match=message):
        load_bundle(saved, device)


def test_other_task_is_refused(saved):
    with pytest.raises(CheckpointError, match="trained for 'wall', not for 'pusht'"):
        load_bundle(saved, task="pusht")


def truncate(directory):
    file = directory / catalog.WEIGHTS
    file.write_bytes(file.read_bytes()[:-1])


def flip_byte(directory):
    file = directory / catalog.WEIGHTS
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def other_size(directory):
    card = json.loads((directory / catalog.CARD).read_text())
    change_card(directory, model=card["model"] | {"action_dim": 6})


def unknown_model_key(directory):
    card = json.loads((directory / catalog.CARD).read_text())
    change_card(directory, model=card["model"] | {"visual_dmi": 16})


def missing_key(directory):
    card = json.loads((directory / catalog.CARD).read_text())
    del card["preprocess"]
    (directory / catalog.CARD).write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / catalog.WEIGHTS).unlink(), "model.safetensors: no such file"),
        (truncate, "truncated or changed"),
        (flip_byte, "truncated or changed"),
        (
            lambda d: (d / catalog.CARD).write_text("{"),
            "bundle.json: not valid JSON.*line 1 column 2",
        ),
        (lambda d: (d / catalog.CARD).write_text("[]"), "schema list"),
        (lambda d: change_card(d, schema=99), "schema 99"),
        (missing_key, "preprocess"),
        (other_size, "does not fit bundle.json: .*action"),
        (unknown_model_key, "unknown key 'visual_dmi'. Did you mean 'visual_dim'"),
    ],
)
def test_damage_is_named(saved, damage, message):
    damage(saved)
    with pytest.raises(CheckpointError, match=f"(?s){message}") as caught:
        load_bundle(saved)
    assert str(saved) in str(caught.value)
