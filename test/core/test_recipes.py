"""Every committed recipe is read, and the shipped checkpoints plan as their recipes say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.config import from_yaml
from wm_planner.models.catalog import CARD, SHIPPED, read_card, shipped_checkpoints
from wm_planner.planning.config import planner_config
from wm_planner.tasks import get_task
from wm_planner.training.recipe import ANY, Recipe

RECIPES = Path(__file__).parents[2] / "config/recipes"


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_recipes_are_understood(file):
    recipe = from_yaml(Recipe, file)
    assert get_task(recipe.task).embodiment.frame_skip == 5
    assert planner_config(recipe.planner).horizon == 5


@pytest.mark.parametrize("name", shipped_checkpoints())
def test_shipped_checkpoints_plan_as_their_recipes_say(name):
    card = read_card(SHIPPED / name / CARD)
    own = RECIPES / f"{card['embodiment']['name']}.yaml"
    recipe = from_yaml(Recipe, own if own.is_file() else ANY)
    assert card["planner"] == recipe.planner


def test_the_two_ablations_differ_in_the_latent_alone():
    rough, smooth = (
        from_yaml(Recipe, RECIPES / f"wall_{kind}.yaml") for kind in ("rough", "smooth")
    )
    assert rough.encoder != smooth.encoder
    assert replace(rough, encoder=smooth.encoder) == smooth
