"""The recipe for any robot: pixels, picture sizes, the number of updates, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.config import from_dict, from_yaml  # noqa: E402
from wm_planner.data.store import write_store  # noqa: E402
from wm_planner.errors import ConfigError, DatasetError  # noqa: E402
from wm_planner.models.checkpoint import load_bundle, save_bundle  # noqa: E402
from wm_planner.models.decoder import build_decoder  # noqa: E402
from wm_planner.models.encoder import build_encoder  # noqa: E402
from wm_planner.models.pixels import LIMIT, PixelStandard  # noqa: E402
from wm_planner.training.duration import LEAST, with_updates  # noqa: E402
from wm_planner.training.encoder import (  # noqa: E402
    EncoderLearner,
    EncoderTraining,
    decoder_settings,
    encoder_settings,
    train_encoder,
)
from wm_planner.training.machine import Machine  # noqa: E402
from wm_planner.training.model import ModelTraining  # noqa: E402
from wm_planner.training.recipe import ANY, Recipe, check_task  # noqa: E402
from wm_planner.training.untrained import build_fresh, build_untrained, parts_of  # noqa: E402

from .training_world import TINY, dot_trajectory, mute_store  # noqa: E402


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return mute_store(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def recipe():
    return from_yaml(Recipe, ANY)


def test_a_recipe_of_no_task_takes_any_robot(recipe, store):
    check_task(replace(recipe, task=None), store)
    with pytest.raises(ConfigError, match="'mystery', the recipe is for 'wall'"):
        check_task(replace(recipe, task="wall"), store)


def test_recipe_is_installed_with_the_package():
    setup = (ANY.parents[2] / "setup.py").read_text()
    assert f'"{ANY.parent.name}/*{ANY.suffix}"' in setup


def test_updates_follow_from_minutes_and_data(recipe, store):
    def numbers(minutes):
        sized = with_updates(replace(recipe, minutes=minutes), store)
        return sized.encoder.num_updates, sized.model.num_updates

    tiny, little, much, more = (numbers(m) for m in (1e-4, 0.05, 1e3, 2e3))
    assert tiny == (LEAST, LEAST)
    assert all(a < b < c for a, b, c in zip(tiny, little, much, strict=True))
    assert much == more, "beyond some times through the data nothing is gained"
    assert numbers(0.05) == little, "no clock decides"
    fixed = replace(recipe, minutes=None)
    assert with_updates(fixed, store) is fixed
    with pytest.raises(ConfigError, match="minutes must be positive"):
        from_dict(Recipe, {"minutes": 0}, "recipe.yaml")


def test_pixels_are_standardised_by_what_each_of_them_does():
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(400, 3, 4, 8)
    images[:, :, 1, 2] = 0.5 + 0.1 * torch.randn(400, 3, generator=generator)
    images[:, :, 1, 6] = torch.randn(400, 3, generator=generator).clamp(-1, 1)
    pixels = PixelStandard(4, cameras=2)
    pixels.measure(images)
    seen = pixels(images)
    assert float(seen[:, :, 1, 2].std()) == pytest.approx(1.0, abs=0.1), "in its own camera"
    assert float(seen[:, :, 1, 6].std()) == pytest.approx(1.0, abs=0.05)
    assert float(seen[:, :, 0, 0].abs().max()) == 0.0
    assert torch.allclose(pixels.undo(seen), images, atol=2e-3)
    assert float(pixels(torch.ones_like(images)).max()) == LIMIT, "what is new is not blown up"
    pixels.measure(torch.full((5, 3, 4, 8), 0.25))  # a picture that never changes
    assert torch.isfinite(pixels(images)).all()


@pytest.mark.parametrize("size", [24, 32, 64, 96, 128])
def test_keypoints_of_pictures_of_any_size(size):
    config = EncoderTraining(
        kind="keypoint", num_patches=2, dim=8, channels=8, standardise=True, first_sharpness=5.0,
        foreground_weight=0.0,
    )  # fmt: skip
    encoder = build_encoder(encoder_settings(config), size, 2, 8)
    decoder = build_decoder(decoder_settings(config), size, 2, 8)
    images = torch.rand(3, 3, size, size) * 2 - 1
    tokens = encoder(images)
    assert tokens.shape == (3, 2, 8) and decoder(tokens).shape == images.shape
    assert float(encoder.keypoints(images).detach().abs().max()) <= 1.0


def test_a_keypoint_is_where_the_picture_is_in_one_of_an_odd_size():
    """A dot that moves by 12 of 64 pixels moves its keypoint by 4 of the 24 cells of 3 pixels."""
    encoder = build_encoder({"kind": "keypoint", "channels": 4, "sharpness": 1e4}, 64, 1, 2)
    with torch.no_grad():
        for module in encoder.features:
            if isinstance(module, torch.nn.Conv2d):
                module.weight.zero_()
                module.bias.zero_()
                middle = module.kernel_size[0] // 2
                module.weight[:, 0, middle, middle] = 1.0
    images = torch.zeros(2, 3, 64, 64)
    images[0, 0, 31:34, 21:24] = images[1, 0, 31:34, 33:36] = 1.0
    (left, y), (right, same) = encoder.keypoints(images)[:, 0].tolist()
    cell = 2 / 23  # the axis runs from the first cell's middle to the last one's
    assert y == same and right - left == pytest.approx(4 * cell, abs=1e-4)


def test_heat_maps_soften_while_they_are_trained(store, recipe):
    """From the first sharpness to 1, at which they are used, in the first 400 updates."""
    config = replace(recipe.encoder, first_sharpness=9.0, num_updates=10)

    def sharpness(num_updates, *steps):
        changed = replace(config, num_updates=num_updates)
        learner = EncoderLearner(store.images, changed, Machine(), np.asarray(store.proprio))
        for step in steps:
            learner.loss(step, *learner.batch(step))
            yield learner.encoder.sharpness

    assert list(sharpness(10, 0, 3, 6, 9)) == pytest.approx([9.0, 3.0, 1.0, 1.0])
    assert list(sharpness(20000, 0, 200, 400, 9000)) == pytest.approx([9.0, 3.0, 1.0, 1.0])
    assert "sharpness" not in str(encoder_settings(config))


def test_settings_of_other_recipes_build_what_they_built():
    usual = EncoderTraining(kind="keypoint", num_patches=1, dim=8, channels=8)
    assert encoder_settings(usual) == {"kind": "keypoint", "channels": 8}
    assert decoder_settings(usual) == "keypoint"
    names = build_encoder(encoder_settings(usual), 48, 1, 8).state_dict()
    assert not any(name.startswith("pixels") for name in names)
    with pytest.raises(ValueError, match="set foreground_weight to 0"):
        EncoderTraining(kind="keypoint", standardise=True)
    with pytest.raises(ValueError, match="first_sharpness is for 'keypoint', not for 'small'"):
        EncoderTraining(first_sharpness=2.0)


def test_statistics_and_readout_are_of_the_rows_that_are_trained_on(store, recipe):
    config = replace(recipe.encoder, num_updates=1)
    rows = np.array([1, 3, 5])
    learner = EncoderLearner(store.images, config, Machine(), store.proprio, rows)
    known = learner._proprio[rows]
    assert np.allclose(known.mean(axis=(0, 1)), 0, atol=1e-5)
    assert np.allclose(known.std(axis=(0, 1)), 1, atol=1e-4)
    images, proprio = learner.batch(0)
    assert len(images) == len(proprio) == 2 * config.batch_pairs
    used = {tuple(p) for p in known.reshape(-1, known.shape[-1])}
    assert all(tuple(p) in used for p in proprio.numpy())


def test_what_is_small_and_dark_is_found_and_travels_with_the_checkpoint(store, recipe, tmp_path):
    """The proprioception of held-out frames can be read from the latent, and pictures drawn."""
    config = replace(recipe.encoder, num_updates=120, channels=16, dim=16)
    train_encoder(store, config, tmp_path / "run", rows=np.arange(10))
    file = tmp_path / "run" / "encoder.safetensors"
    bundle = build_untrained(store, config, file, ModelTraining(predictor=TINY))
    loaded = load_bundle(save_bundle(bundle, tmp_path / "checkpoint"))
    x = loaded.preprocess.images(np.array(store.images).reshape(-1, 32, 32, 3))
    with torch.no_grad():
        tokens = loaded.model.encode_images(x[None])[0]
        drawn = loaded.model.decode(tokens[None])[0]
        assert torch.equal(tokens, bundle.model.encode_images(x[None])[0])
    features = torch.cat([tokens.flatten(1), torch.ones(len(tokens), 1)], dim=1).double()
    places = torch.from_numpy(np.array(store.proprio).reshape(-1, 2)).double()
    fit, held = slice(None, 70), slice(70, None)
    weights = torch.linalg.lstsq(features[fit], places[fit]).solution
    error = (features[held] @ weights - places[held]).square().mean(dim=0)
    assert (error < 0.3 * places[held].var(dim=0)).all(), error
    still = (x - x.mean(dim=0)).square().mean()
    assert (drawn - x).square().mean() < 0.8 * still


def test_action_that_never_changes_is_named_and_such_proprioception_is_kept(recipe, tmp_path):
    def made(name, **columns):
        rng = np.random.default_rng(0)
        rows = []
        for _ in range(4):
            row = dot_trajectory(rng, 6)
            for key, column in columns.items():
                row[key][..., column :: row["proprio"].shape[-1]] = 0.1
            rows.append(row)
        meta = {"task": "wall", "frame_skip": 5}
        return write_store(tmp_path / name, len(rows), rows, meta)

    config = ModelTraining(predictor=TINY)
    encoder = EncoderTraining(dim=8, channels=8, depth=1)
    still = made("still", proprio=1)
    bundle = build_fresh(still, *parts_of(still, encoder), config)
    assert bundle.preprocess.proprio_std[1] == 1.0 and bundle.preprocess.proprio_std[0] > 1.0
    idle = made("idle", actions=1)
    with pytest.raises(DatasetError, match=f"{idle.embodiment.action.names[1]} never changes"):
        build_fresh(idle, *parts_of(idle, encoder), config)
