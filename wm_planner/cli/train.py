"""`wm-planner train encoder|projector|model|init`: from collected trajectories to a checkpoint."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_planner.cli.training_options import add_training_options, is_finished, training_machine
from wm_planner.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from wm_planner.data.store import TrajectoryStore
    from wm_planner.models.bundle import Bundle
    from wm_planner.training.machine import Machine
    from wm_planner.training.recipe import Recipe

logger = logging.getLogger(__name__)
ENCODER = "encoder.safetensors"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "train", help="train an encoder, its projector, a world model or what starts plans"
    )
    parser.add_argument("part", choices=("encoder", "projector", "model", "init"))
    parser.add_argument("--recipe", type=Path, required=True, help="YAML, see config/train")
    parser.add_argument("--data", type=Path, required=True, help="directory of 'collect'")
    parser.add_argument(
        "--encoder",
        type=Path,
        help="run directory of 'train encoder' or, for 'model', of 'train projector'",
    )
    parser.add_argument("--checkpoint", help="that 'train init' adds an initialisation network to")
    add_training_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; the checkpoint of 'model' and 'init' is OUTPUT/checkpoint.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    from wm_planner.config import from_yaml
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.models.checkpoint import save_bundle
    from wm_planner.training.recipe import Recipe

    makes_encoder = args.part in ("encoder", "projector")
    result = args.output / (ENCODER if makes_encoder else "checkpoint")
    if is_finished(args, result):
        return 0
    recipe = from_yaml(Recipe, args.recipe)
    store = TrajectoryStore.open(args.data)
    if store.embodiment.name != recipe.task:
        raise ConfigError(
            f"--data {args.data} holds '{store.embodiment.name}', the recipe is for '{recipe.task}'"
        )
    with training_machine(args) as machine:
        if makes_encoder:
            make = _train_encoder if args.part == "encoder" else _train_projector
            _measure(args, make(args, recipe, store, machine), store, machine)
        else:
            part = _train_init if args.part == "init" else _train_model
            bundle = part(args, recipe, store, machine)
            if machine.writes:
                save_bundle(bundle, result)
        if machine.writes:
            logger.info("written: %s", result)
    return 0


def _train_encoder(
    args: argparse.Namespace, recipe: Recipe, store: TrajectoryStore, machine: Machine
) -> Any:
    from wm_planner.training.encoder import train_encoder

    return train_encoder(store, recipe.encoder, args.output, machine)


def _train_projector(
    args: argparse.Namespace, recipe: Recipe, store: TrajectoryStore, machine: Machine
) -> Any:
    from wm_planner.training.projector import train_projector

    file = _encoder_file(args, recipe)
    return train_projector(store, recipe.encoder, file, recipe.projector, args.output, machine)


def _encoder_file(args: argparse.Namespace, recipe: Recipe) -> Path | None:
    if (args.encoder is None) != (recipe.encoder.kind == "dinov2"):
        raise ConfigError(
            f"train {args.part} needs --encoder, the run directory of 'train encoder'; only a "
            "recipe with encoder.kind dinov2 does without, and takes none but that of 'train "
            "projector'"
        )
    return None if args.encoder is None else args.encoder / ENCODER


def _measure(
    args: argparse.Namespace, encoder: Any, store: TrajectoryStore, machine: Machine
) -> None:
    """Write OUTPUT/geometry.json: whether the latent can be planned in, as far as one can know."""
    from wm_planner.errors import RenderError, TaskError
    from wm_planner.evaluation.job import EnvMaker
    from wm_planner.evaluation.run import write_json
    from wm_planner.tasks import get_task
    from wm_planner.training.encoder import encode_images
    from wm_planner.training.geometry import distance_correlation, greedy_success

    task, size = get_task(store.embodiment.name), store.images.shape[2]
    if store.states.shape[-1] != len(task.state_names):
        logger.info("no simulator states in %s: distances are not measured", args.data)
        return

    def encode(images: np.ndarray) -> Tensor:
        return encode_images(encoder, images, machine)

    measures = {"rank_correlation": distance_correlation(store, encode)}
    try:
        env = EnvMaker(task.name, size)(True)
    except (ImportError, RenderError, TaskError) as error:
        logger.info("no simulator: greedy look-ahead is not measured: %s", error)
    else:
        logger.info("greedy look-ahead: the way to the goal by latent distance, in the simulator")
        measures["greedy_success"] = greedy_success(env, encode)
        env.close()
    write_json(args.output / "geometry.json", measures)
    logger.info("latent distance: %s", ", ".join(f"{k} {v:.2f}" for k, v in measures.items()))


def _train_init(
    args: argparse.Namespace, recipe: Recipe, store: TrajectoryStore, machine: Machine
) -> Bundle:
    from wm_planner.models.checkpoint import load_bundle
    from wm_planner.training.init_network import train_init_network

    if args.checkpoint is None:
        raise ConfigError("train init needs --checkpoint, whose encoder makes the latents")
    bundle = load_bundle(args.checkpoint, task=recipe.task)
    return train_init_network(store, bundle, recipe.init_network, args.output, machine)


def _train_model(
    args: argparse.Namespace, recipe: Recipe, store: TrajectoryStore, machine: Machine
) -> Bundle:
    from wm_planner.training.projector import build_projected, is_projected
    from wm_planner.training.trainer import build_untrained, train_model

    if args.encoder is not None and is_projected(args.encoder / ENCODER):
        file = args.encoder / ENCODER
        bundle = build_projected(store, recipe.encoder, recipe.projector, file, recipe.model)
    else:
        bundle = build_untrained(store, recipe.encoder, _encoder_file(args, recipe), recipe.model)
    bundle = train_model(store, bundle, recipe.model, args.output, machine=machine)
    bundle.planner = recipe.planner
    return bundle
