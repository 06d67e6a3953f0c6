"""`wm-planner train encoder|model|init`: from collected trajectories to a checkpoint."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

logger = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "train", help="train an encoder, a world model or what starts plans"
    )
    parser.add_argument("part", choices=("encoder", "model", "init"))
    parser.add_argument("--recipe", type=Path, required=True, help="YAML, see config/train")
    parser.add_argument("--data", type=Path, required=True, help="directory of 'collect'")
    parser.add_argument("--encoder", type=Path, help="run directory of 'train encoder'")
    parser.add_argument("--checkpoint", help="that 'train init' adds an initialisation network to")
    parser.add_argument("--output", type=Path, required=True, help="run directory to write")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; the checkpoint of 'model' and 'init' is OUTPUT/checkpoint."""
    import torch

    from wm_planner.config import from_yaml
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.errors import ConfigError
    from wm_planner.training.encoder import train_encoder
    from wm_planner.training.init_network import train_init_network
    from wm_planner.training.recipe import Recipe
    from wm_planner.training.trainer import build_untrained, train_model

    torch.set_num_threads(args.threads)
    recipe = from_yaml(Recipe, args.recipe)
    store = TrajectoryStore.open(args.data)
    if store.meta["task"] != recipe.task:
        raise ConfigError(
            f"--data {args.data} holds task '{store.meta['task']}', the recipe is for "
            f"'{recipe.task}'"
        )
    if args.part == "encoder":
        train_encoder(store, recipe.encoder, args.output)
        logger.info("encoder written to %s", args.output / "encoder.safetensors")
        return 0
    from wm_planner.models.checkpoint import load_bundle, save_bundle

    if args.part == "init":
        if args.checkpoint is None:
            raise ConfigError("train init needs --checkpoint, whose encoder makes the latents")
        bundle = load_bundle(args.checkpoint, task=recipe.task)
        bundle = train_init_network(store, bundle, recipe.init_network, args.output)
    else:
        if args.encoder is None:
            raise ConfigError("train model needs --encoder, the run directory of 'train encoder'")
        file = args.encoder / "encoder.safetensors"
        bundle = build_untrained(store, recipe.encoder, file, recipe.model)
        bundle = train_model(store, bundle, recipe.model, args.output)
        bundle.planner = recipe.planner
    save_bundle(bundle, args.output / "checkpoint")
    logger.info("checkpoint written to %s", args.output / "checkpoint")
    return 0
