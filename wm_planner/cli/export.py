"""`wm-planner export`: a trained checkpoint in half the bytes, as those that are shipped."""

from __future__ import annotations

import argparse

from wm_planner.cli.options import add_option
from wm_planner.cli.parser import path
from wm_planner.errors import CheckpointError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("export", help="write a checkpoint in half the bytes")
    parser.add_argument("checkpoint", help="shipped name or directory")
    add_option(parser, "--output", help="checkpoint directory to write")
    parser.add_argument(
        "--recipe", type=path, help="YAML, see config/recipes: take the planner's settings from it"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Round the weights to float16 and save.

    Raises:
        WmPlannerError: the checkpoint, the recipe or the output cannot be used.
    """
    from wm_planner.config import from_yaml
    from wm_planner.models.catalog import CARD, read_card, resolve_checkpoint
    from wm_planner.models.checkpoint import in_float16, load_bundle, save_bundle
    from wm_planner.models.core_set import load_core_set
    from wm_planner.provenance import provenance
    from wm_planner.training.recipe import Recipe

    bundle = load_bundle(args.checkpoint)
    if args.recipe is not None:
        recipe = from_yaml(Recipe, args.recipe)
        if recipe.task != bundle.embodiment.name:
            raise CheckpointError(
                f"{args.checkpoint} is for '{bundle.embodiment.name}', {args.recipe} for "
                f"'{recipe.task}'"
            )
        bundle.planner = recipe.planner
    in_float16(bundle.model, args.checkpoint)
    if bundle.upper is not None:
        in_float16(bundle.upper, f"{args.checkpoint}: upper")
    directory = resolve_checkpoint(args.checkpoint)
    card = read_card(directory / CARD)
    core = load_core_set(directory, card)
    bundle.info["stored"] = "weights rounded to float16 after training"
    bundle.info["export"] = {**provenance(), "sha256": card["sha256"]}
    print(f"written: {save_bundle(bundle, args.output, core)}")
    return 0
