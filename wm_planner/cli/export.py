"""`wm-planner export`: a trained checkpoint in half the bytes, as those that are shipped."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from wm_planner.errors import CheckpointError

if TYPE_CHECKING:
    from torch.nn import Module


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("export", help="write a checkpoint in half the bytes")
    parser.add_argument("checkpoint", help="shipped name or directory")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint directory to write")
    parser.add_argument(
        "--recipe", type=Path, help="YAML, see config/train: take the planner's settings from it"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Round the weights to float16 and save.

    Raises:
        WmPlannerError: the checkpoint, the recipe or the output cannot be used.
    """
    from wm_planner.config import from_yaml
    from wm_planner.models.checkpoint import load_bundle, save_bundle
    from wm_planner.training.recipe import Recipe

    bundle = load_bundle(args.checkpoint)
    if args.recipe is not None:
        recipe = from_yaml(Recipe, args.recipe)
        if recipe.task != bundle.task:
            raise CheckpointError(
                f"{args.checkpoint} is for task '{bundle.task}', {args.recipe} for '{recipe.task}'"
            )
        bundle.planner = recipe.planner
    _round(bundle.model, args.checkpoint)
    if bundle.init_network is not None:
        _round(bundle.init_network, args.checkpoint)
    bundle.info["stored"] = "weights rounded to float16 after training"
    print(f"written: {save_bundle(bundle, args.output)}")
    return 0


def _round(module: Module, name: str) -> None:
    import torch

    largest = torch.finfo(torch.float16).max
    for key, value in module.state_dict().items():
        if value.is_floating_point() and not bool((value.abs() <= largest).all()):
            raise CheckpointError(f"{name}: '{key}' has values that float16 cannot hold")
    module.half()
