"""Checkpoints in half the bytes: the same model to float16's rounding, and nothing else lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wm_planner.cli import main as cli
from wm_planner.config import from_yaml
from wm_planner.errors import WriteError
from wm_planner.models.bundle import Bundle, build_model
from wm_planner.models.catalog import CARD, read_card
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.models.predictor import PredictorConfig
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import ModelConfig
from wm_planner.tasks import get_task
from wm_planner.training.recipe import Recipe

RECIPES = Path(__file__).parents[2] / "config" / "recipes"


def trained() -> Bundle:
    """A random model of Wall, with everything that a checkpoint may have."""
    torch.manual_seed(0)
    predictor = PredictorConfig(depth=1, heads=2, dim_head=8, mlp_dim=32, dropout=0.0, width=16)
    config = ModelConfig(32, 1, 16, 8, 10, 2, predictor=predictor, decoder="small")
    preprocess = Preprocess(32, 5, (0.0, 0.0), (0.5, 0.5), (32.0, 32.0), (12.0, 12.0))
    planner, info = {"num_iterations": 3}, {"minutes": 2.0}
    return Bundle(build_model(config), preprocess, get_task("wall").embodiment, planner, info)


def export(source: Path, *more: str) -> int:
    return cli.main(["export", str(source), "--output", str(source) + "-half", *more])


def size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def test_half_the_bytes_and_the_same_model(tmp_path) -> None:
    source = save_bundle(trained(), tmp_path / "trained")
    assert export(source) == 0
    half = tmp_path / "trained-half"
    assert size(half) < 0.6 * size(source)  # the headers stay
    before, after = load_bundle(source), load_bundle(half)
    assert (after.planner, after.info["minutes"]) == (before.planner, 2.0)
    assert "float16" in after.info["stored"] and "stored" not in before.info
    assert after.info["export"]["sha256"] == read_card(source / CARD)["sha256"]
    for key, value in after.model.state_dict().items():
        old = before.model.state_dict()[key]
        assert value.dtype == old.dtype  # loaded as ever
        torch.testing.assert_close(value, old, rtol=1e-3, atol=1e-7)


def test_the_planner_of_a_recipe(tmp_path) -> None:
    source = save_bundle(trained(), tmp_path / "trained")
    assert export(source, "--recipe", str(RECIPES / "wall.yaml")) == 0
    planner = load_bundle(tmp_path / "trained-half").planner
    assert planner == from_yaml(Recipe, RECIPES / "wall.yaml").planner


@pytest.mark.parametrize(
    ("value", "more", "message"),
    [
        (1e5, (), "'action_encoder.patch_embed.weight' has values that float16 cannot hold"),
        (float("nan"), (), "has values that float16 cannot hold"),
        (0.0, ("--recipe", str(RECIPES / "pusht.yaml")), "is for 'wall'"),
    ],
)
def test_what_cannot_be_exported_is_named(tmp_path, capsys, value, more, message) -> None:
    bundle = trained()
    with torch.no_grad():
        next(iter(bundle.model.action_encoder.parameters())).fill_(value)
    assert export(save_bundle(bundle, tmp_path / "trained"), *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "trained-half").exists()


def test_nothing_is_overwritten(tmp_path, capsys) -> None:
    source = save_bundle(trained(), tmp_path / "trained")
    assert (export(source), export(source)) == (0, 2)
    assert "exists already" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file/half: cannot be written: Not a directory"):
        save_bundle(trained(), tmp_path / "file" / "half")
