"""`wm-planner finetune`: a checkpoint, trained further on what a planner makes of it."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

from wm_planner.cli.options import add_option, check_least
from wm_planner.cli.parser import path, whole
from wm_planner.cli.training_options import (
    add_training_options,
    is_finished,
    kept_for_resume,
    training_machine,
)
from wm_planner.config import parse_settings
from wm_planner.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.models.bundle import Bundle
    from wm_planner.training.finetune import Corrections, Finetuning

logger = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("finetune", help="train a checkpoint's world model further")
    parser.add_argument(
        "--method",
        choices=("base", "adversarial", "online"),
        required=True,
        help="adversarial: on perturbed inputs; online: on what happens when its plans are "
        "executed; base: as from scratch, for comparison",
    )
    parser.add_argument(
        "--checkpoint", required=True, help="directory, shipped name, or variant with --task"
    )
    parser.add_argument("--task", help="the checkpoint's task")
    parser.add_argument("--data", type=path, required=True, help="directory of 'collect'")
    parser.add_argument(
        "--corrections",
        type=path,
        help="directory of recorded trajectories that online learns from, instead of a simulator",
    )
    parser.add_argument("--recipe", type=path, help="YAML, see config/recipes; its key 'finetune'")
    parser.add_argument("--num-updates", type=whole, help="optimizer steps")
    another = "another setting, for example adversarial.visual_factor=0.1; may be repeated"
    add_option(parser, "--set", help=another)
    parser.add_argument(
        "--workers", type=whole, default=1, help="simulators side by side (default 1: in process)"
    )
    add_training_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Finetune; the new checkpoint is OUTPUT/checkpoint.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.models.catalog import CARD, read_card, resolve_checkpoint
    from wm_planner.models.checkpoint import load_bundle, save_bundle
    from wm_planner.models.core_set import load_core_set
    from wm_planner.training.finetune import finetune

    result = args.output / "checkpoint"
    if is_finished(args, result):
        return 0
    check_least(args, workers=1)
    if args.corrections is not None and args.method != "online":
        raise ConfigError(f"--corrections is for --method online, not for '{args.method}'")
    config = finetuning_of(args)
    bundle = load_bundle(args.checkpoint, task=args.task)
    directory = resolve_checkpoint(args.checkpoint, args.task)
    card = read_card(directory / CARD)
    core = load_core_set(directory, card)
    parent = {"checkpoint": str(args.checkpoint), "sha256": card["sha256"], "info": card["info"]}
    store = TrajectoryStore.open(args.data)
    with training_machine(args) as machine:
        corrections = _corrections(args, bundle)
        bundle = finetune(
            store, bundle, args.method, config, args.output, parent, machine, corrections
        )
        if machine.writes:
            _calibrate(bundle, store)
            with kept_for_resume(args.output):
                save_bundle(bundle, result, core)
            before, after = bundle.info["held_out_before"], bundle.info["held_out"]
            logger.info(
                "written: %s (held-out error of the last rollout step %.4g, before %.4g)",
                result,
                after["val_last"],
                before["val_last"],
            )
    return 0


def _calibrate(bundle: Bundle, store: TrajectoryStore) -> None:
    """The model's own error is another one than before; where none was known, none is found."""
    from wm_planner.evaluation.familiar import surprise
    from wm_planner.evaluation.recordings import encode_recordings, held_out

    known = bundle.info.get("familiar")
    if known is None:
        return
    try:
        recordings = encode_recordings(bundle, store, held_out(bundle, store)[0])
        bundle.info["familiar"] = {**known, "surprise": list(surprise(bundle, recordings))}
    except DatasetError as error:  # hours of training are not lost for it
        logger.warning("what surprises the model is as before the training: %s", error)


def finetuning_of(args: argparse.Namespace) -> Finetuning:
    """The recipe's settings, changed by the command line.

    Raises:
        ConfigError: an unknown key or a value that cannot be used.
    """
    from wm_planner.config import from_dict, from_yaml, to_dict
    from wm_planner.training.finetune import Finetuning
    from wm_planner.training.recipe import Recipe

    base = Finetuning() if args.recipe is None else from_yaml(Recipe, args.recipe).finetune
    values = to_dict(base)
    changes = parse_settings(args.settings, "--set")
    if args.num_updates is not None:
        changes["num_updates"] = args.num_updates
    for place, value in changes.items():
        _put(values, place, value)
    return from_dict(Finetuning, values, "--set")


def _put(values: dict[str, Any], place: str, value: Any) -> None:
    """Set 'a.b' in nested settings."""
    *groups, key = place.split(".")
    for group in groups:
        if not isinstance(values.get(group), dict):
            raise ConfigError(f"--set: '{place}': '{group}' has no settings of its own")
        values = values[group]
    values[key] = value


def _corrections(args: argparse.Namespace, bundle: Bundle) -> Corrections:
    """Recorded trajectories, or the simulated task."""
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.evaluation.episode import EnvMaker
    from wm_planner.training.finetune import Corrections

    if args.method != "online":
        return Corrections()
    if args.corrections is not None:
        return Corrections(recorded=TrajectoryStore.open(args.corrections))
    make_env = EnvMaker(bundle.embodiment.name, bundle.preprocess.image_size)
    return Corrections(make_env=make_env, workers=args.workers)
