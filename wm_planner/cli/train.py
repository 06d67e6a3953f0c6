"""`wm-planner train`: from trajectories to a checkpoint, in one go or part by part."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wm_planner.cli.parser import number, path, whole
from wm_planner.cli.training_options import (
    add_training_options,
    is_finished,
    kept_for_resume,
    training_machine,
)
from wm_planner.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.models.bundle import Bundle
    from wm_planner.training.machine import Machine
    from wm_planner.training.recipe import Recipe

logger = logging.getLogger(__name__)
ENCODER = "encoder.safetensors"
PARTS = ("encoder", "projector", "model", "upper")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "train", help="train a world model of a robot: encoder, model and held-out report"
    )
    parser.add_argument(
        "part",
        nargs="?",
        choices=("all", *PARTS),
        default="all",
        help="all (default) makes OUTPUT/checkpoint of the data alone; or one part: the encoder, "
        "its projector, the model, or an upper model of long steps for --checkpoint",
    )
    parser.add_argument(
        "--recipe", type=path, help="YAML, see config/recipes (default: the one for any robot)"
    )
    parser.add_argument(
        "--data", type=path, required=True, help="directory of 'dataset build' or 'collect'"
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--minutes",
        type=number,
        metavar="M",
        help="what encoder and model may take, on one core of the machine that the recipe was "
        "found on; the number of updates follows from it and from the data (recipe for any robot: "
        "12)",
    )
    amount.add_argument(
        "--updates",
        type=whole,
        nargs=2,
        metavar=("ENCODER", "MODEL"),
        help="instead: the numbers of updates",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure the encoder's distances against the true ones, which needs the states of a "
        "simulated task, and solve its targets by them in the simulator; takes minutes",
    )
    parser.add_argument(
        "--encoder",
        help="run directory of 'train encoder' or, for 'model', of 'train projector'; or a "
        "checkpoint that has the encoder",
    )
    parser.add_argument(
        "--checkpoint", help="for 'upper': directory or shipped name, which gets the upper model"
    )
    add_training_options(parser, save_minutes=1.0)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; the checkpoint of 'all', 'model' and 'upper' is OUTPUT/checkpoint.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    if (args.checkpoint is not None) != (args.part == "upper"):
        raise ConfigError(
            "--checkpoint is for 'train upper', which needs it: a directory or a shipped name"
        )
    if args.part == "upper":
        from wm_planner.cli.train_upper import run_upper

        return run_upper(args)
    if args.part == "all":
        from wm_planner.cli.train_all import run_all

        return run_all(args)
    return _run_part(args)


def _run_part(args: argparse.Namespace) -> int:
    from wm_planner.cli.measure import check_measurable, measure
    from wm_planner.cli.probe import PROBE, probe_training
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.models.checkpoint import save_bundle
    from wm_planner.training.encoder import encode_images, train_encoder
    from wm_planner.training.projector import train_projector

    makes_encoder = args.part in ("encoder", "projector")
    result = args.output / (ENCODER if makes_encoder else "checkpoint")
    if args.measure and not makes_encoder:
        raise ConfigError(f"--measure is for an encoder, not for 'train {args.part}'")
    finished = is_finished(args, result)
    if finished and not args.measure:
        return 0
    store = TrajectoryStore.open(args.data)
    recipe = recipe_of(args, store)
    if args.measure:
        check_measurable(store)
    with training_machine(args) as machine:
        if makes_encoder:
            if finished:
                encoder = _untrained(recipe, store, result).model.encoder.to(machine.device)
            elif args.part == "encoder":
                encoder = train_encoder(store, recipe.encoder, args.output, machine)
            else:
                file = _encoder_file(args, recipe)
                encoder = train_projector(
                    store, recipe.encoder, file, recipe.projector, args.output, machine
                )
            if machine.writes and not (args.output / PROBE).is_file():
                encode = partial(encode_images, encoder, machine=machine)
                probe_training(args.output, encode, store.directory, None)
            if args.measure:
                measure(args.output, encoder, store, machine)
        else:
            bundle = _train_model(args, recipe, store, machine)
            if machine.writes:
                with kept_for_resume(args.output):
                    save_bundle(bundle, result)
        if machine.writes:
            logger.info("written: %s", result)
    return 0


def recipe_of(args: argparse.Namespace, store: TrajectoryStore) -> Recipe:
    """The recipe of the command line, with its numbers of updates.

    Raises:
        ConfigError: it, or an option that changes it, cannot be used.
    """
    from wm_planner.config import from_yaml
    from wm_planner.training.duration import with_updates
    from wm_planner.training.recipe import ANY, Recipe, check_task

    recipe = from_yaml(Recipe, args.recipe or ANY)
    check_task(recipe, store)
    try:
        if args.minutes is not None:
            recipe = replace(recipe, minutes=args.minutes)
        if args.updates is not None:
            encoder, model = args.updates
            return replace(
                recipe,
                minutes=None,
                encoder=replace(recipe.encoder, num_updates=encoder),
                model=replace(recipe.model, num_updates=model),
            )
    except ValueError as error:
        option = "--minutes" if args.updates is None else "--updates"
        raise ConfigError(f"{option}: {error}") from error
    return with_updates(recipe, store)


def _encoder_file(args: argparse.Namespace, recipe: Recipe) -> Path | None:
    if (args.encoder is None) != recipe.encoder.comes_trained:
        raise ConfigError(
            f"train {args.part} needs --encoder, the run directory of 'train encoder' or a "
            "checkpoint; only a recipe whose encoder comes trained (dinov2, pretrained) does "
            "without, and takes none but that of 'train projector'"
        )
    return None if args.encoder is None else _weights_of(args.encoder)


def _weights_of(where: str) -> Path:
    """The file that has the encoder's weights, of a run directory or of a checkpoint."""
    from wm_planner.models.catalog import WEIGHTS, resolve_checkpoint

    directory = Path(where)
    if directory.is_dir():
        files = [directory / name for name in (ENCODER, WEIGHTS, f"checkpoint/{WEIGHTS}")]
        return next((file for file in files if file.is_file()), files[0])
    try:
        return resolve_checkpoint(where) / WEIGHTS
    except CheckpointError as error:
        raise CheckpointError(f"{error}; run 'wm-planner train encoder' first") from error


def _train_model(
    args: argparse.Namespace, recipe: Recipe, store: TrajectoryStore, machine: Machine
) -> Bundle:
    from wm_planner.training.model import train_model
    from wm_planner.training.projector import is_projected

    given = None if args.encoder is None else _weights_of(args.encoder)
    projected = given is not None and is_projected(given)
    file = given if projected else _encoder_file(args, recipe)
    bundle = _untrained(recipe, store, file)
    bundle = train_model(store, bundle, recipe.model, args.output, machine=machine)
    bundle.planner = recipe.planner
    return bundle


def _untrained(recipe: Recipe, store: TrajectoryStore, file: Path | None) -> Bundle:
    """With the encoder or the projected encoder of that file; None if it comes trained."""
    from wm_planner.training.projector import build_projected, is_projected
    from wm_planner.training.untrained import build_untrained

    if file is not None and is_projected(file):
        return build_projected(store, recipe.encoder, recipe.projector, file, recipe.model)
    return build_untrained(store, recipe.encoder, file, recipe.model)
