"""Every file in config is read and runs: a recipe for two updates, a table in its quick form.

What a file says is its own affair. Beside that, what one file promises of others is tested.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the 'model' extra")

from sim_bridge.rendering import check_rendering
from wm_planner.config import from_dict, from_yaml, read_yaml
from wm_planner.data.store import TrajectoryStore, write_store
from wm_planner.errors import RenderError
from wm_planner.evaluation.ablation import (
    Ablation,
    merged,
    training_stages,
)
from wm_planner.evaluation.cell import cells, run_grid
from wm_planner.evaluation.frontier import Frontier
from wm_planner.evaluation.frontier_run import FrontierRun
from wm_planner.evaluation.grid import Grid
from wm_planner.models.bundle import Bundle
from wm_planner.models.catalog import (
    CARD,
    SHIPPED,
    read_card,
    shipped_checkpoints,
)
from wm_planner.planning import SOLVERS, Planner, Session
from wm_planner.planning.config import planner_config
from wm_planner.tasks import get_task, resized
from wm_planner.training.encoder import train_encoder
from wm_planner.training.model import train_model
from wm_planner.training.recipe import ANY, Recipe
from wm_planner.training.untrained import build_untrained
from wm_planner.types import Goal, Observation

CONFIG = Path(__file__).parents[2] / "config"
RECIPES = CONFIG / "recipes"
TABLES = sorted((CONFIG / "tables").glob("*.yaml"))
ABLATIONS = [file for file in TABLES if "recipe" in read_yaml(file)]
FRONTIERS = [file for file in TABLES if "search" in read_yaml(file)]
GRIDS = [file for file in TABLES if file not in (*ABLATIONS, *FRONTIERS)]
STEPS = 6  # model steps of a trajectory of noise
QUICK = ["num_iterations=1", "warm_iterations=1", "num_candidates=3", "num_restarts=2"]


def named(file: Path) -> str:
    return file.stem


def noise(directory: Path, recipe: Recipe) -> TrajectoryStore:
    """Four trajectories of the recipe's robot and picture size, in which nothing means anything."""
    size = 64 if recipe.collect is None else recipe.collect.image_size
    if recipe.encoder.comes_trained:
        size = 28  # 2 x 2 patches: the encoder takes every multiple of 14
    body = resized(get_task(recipe.task or "wall").embodiment, size)
    rng = np.random.default_rng(0)
    rows = [
        {
            "images": rng.integers(0, 256, (STEPS + 1, size, size, 3), dtype=np.uint8),
            "proprio": rng.normal(size=(STEPS + 1, len(body.proprio))).astype(np.float32),
            "actions": rng.normal(size=(STEPS, body.frame_skip * body.action.size)).astype("f4"),
            "states": np.zeros((STEPS + 1, 0)),
        }
        for _ in range(4)
    ]
    return write_store(directory, len(rows), rows, {"embodiment": body.to_json(), "seed": 0})


def trained(recipe: Recipe, store: TrajectoryStore, directory: Path) -> Bundle:
    """A model after two updates of each part."""
    model = replace(recipe.model, num_updates=2, batch_size=2)
    if recipe.encoder.comes_trained:  # it comes trained; here drawn, for want of the file
        return train_model(
            store,
            build_untrained(store, replace(recipe.encoder, weights=None), None, model),
            model,
            directory / "model",
        )
    encoder = replace(recipe.encoder, num_updates=2, batch_pairs=2)
    train_encoder(store, encoder, directory / "encoder")
    file = directory / "encoder" / "encoder.safetensors"
    bundle = build_untrained(store, encoder, file, model)
    return train_model(store, bundle, model, directory / "model")


@pytest.mark.parametrize("file", [*sorted(RECIPES.glob("*.yaml")), ANY], ids=named)
def test_recipes_make_models_that_plan(file: Path, tmp_path: Path) -> None:
    recipe = from_yaml(Recipe, file)
    store = noise(tmp_path / "data", recipe)
    bundle = trained(recipe, store, tmp_path)
    config = planner_config(recipe.planner, QUICK)
    session = Session(Planner(bundle, config))
    images, proprio = store.images[0], store.proprio[0]
    session.set_goal(Goal(images[-1], proprio[-1]))
    frames = session.planner.num_frames
    body = bundle.embodiment
    past = store.actions[0, : frames - 1] if frames > 1 else None
    stamp_ns = 0
    for _ in range(2):  # without a warm start, and with one
        seen = Observation(images[:frames], proprio[:frames], stamp_ns, past)
        plan = session.plan(seen)
        assert plan.actions.shape == (config.horizon * body.frame_skip, body.action.size)
        assert np.isfinite(plan.actions).all() and np.isfinite(plan.cost)
        stamp_ns += round(body.model_dt_s * 1e9)


@pytest.mark.parametrize("name", shipped_checkpoints())
def test_shipped_checkpoints_plan_as_their_recipes_say(name: str) -> None:
    card = read_card(SHIPPED / name / CARD)
    own = RECIPES / f"{card['embodiment']['name']}.yaml"
    recipe = from_yaml(Recipe, own if own.is_file() else ANY)
    assert card["planner"] == recipe.planner


def test_recipes_that_are_compared_differ_in_one_thing_alone() -> None:
    names = ("wall_rough", "wall_smooth", "wall_pretrained", "point_maze", "point_maze_history")
    rough, smooth, pretrained, base, history = (
        from_yaml(Recipe, RECIPES / f"{name}.yaml") for name in names
    )
    assert rough.encoder != smooth.encoder
    assert replace(rough, encoder=smooth.encoder) == smooth
    assert pretrained.encoder.comes_trained
    planner = {**smooth.planner, "objective_alpha": pretrained.planner["objective_alpha"]}
    assert replace(pretrained, encoder=smooth.encoder) == replace(smooth, planner=planner)
    assert base.model.num_hist != history.model.num_hist
    model = replace(base.model, num_hist=history.model.num_hist)
    planner = {**base.planner, "rollout": "history"}
    assert replace(base, model=model, planner=planner) == history


@pytest.mark.parametrize("file", ABLATIONS, ids=named)
def test_ablations_are_understood(file: Path) -> None:
    """Their quick form takes minutes; `test_ablation` runs a small one."""
    ablation = from_yaml(Ablation, file)
    recipe = merged(read_yaml(file.parent / ablation.recipe), ablation.quick)
    for name in ablation.rows:
        for stage in training_stages(ablation.row(name), recipe, 0, Path("d"), Path("o")):
            from_dict(Recipe, stage.recipe, name)


@pytest.mark.parametrize("file", FRONTIERS, ids=named)
def test_frontiers_are_understood(file: Path, tmp_path: Path) -> None:
    """Every trial of every task can be made; `test_frontier` runs a small one."""
    frontier = from_yaml(Frontier, file)
    for kind in (frontier, frontier.quickly()):
        for task in frontier.checkpoints:
            FrontierRun(kind, task, tmp_path, lambda **_: nullcontext())


@pytest.mark.parametrize("file", GRIDS, ids=named)
def test_grids_run_quickly(file: Path, tmp_path: Path) -> None:
    """All of them by name, and those of one task with one episode each."""
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    grid = from_yaml(Grid, file)
    all_cells = cells(grid, "cpu")
    assert len({cell.name for cell in all_cells}) == len(all_cells)
    task, compared = "point_maze", grid.reference.checkpoint and len(grid.shifts) == 1
    some = {task: grid.checkpoints[task][: None if compared else 1]}
    quick = replace(grid.quickly(), episodes=1, checkpoints=some)
    rows = run_grid(quick, tmp_path, 1)
    assert [row.episodes for row in rows] == [1] * len(cells(quick, "cpu"))
    assert all(row.plan_seconds_p50 > 0 for row in rows)
    assert sum(row.against_reference is None for row in rows) >= 1


def all_of(*names: str) -> list:
    """The cells of those grids."""
    grids = [from_yaml(Grid, CONFIG / "tables" / f"{name}.yaml") for name in names]
    return [cell for grid in grids for cell in cells(grid, "cpu")]


def test_every_solver_is_in_a_table() -> None:
    assert {cell.job.planner.solver for cell in all_of("table1", "solvers")} == set(SOLVERS)


@pytest.mark.parametrize("table", ["checkpoints", "table1"])
def test_every_shipped_variant_is_compared(table: str) -> None:
    names = shipped_checkpoints()
    several = {name for name in names if f"{name.rpartition('-')[0]}-adversarial" in names}
    assert {f"{c.job.task}-{c.job.checkpoint}" for c in all_of(table)} == several
