"""`wm-planner info`: what a checkpoint is, from its readable half."""

from __future__ import annotations

import argparse
import sys

import yaml

from wm_planner.models.catalog import CARD, read_card, resolve_checkpoint, shipped_checkpoints


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("info", help="describe a checkpoint, or list those shipped")
    parser.add_argument("checkpoint", nargs="?", help="shipped name or directory")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the names of the shipped checkpoints, or one checkpoint's card as YAML."""
    if args.checkpoint is None:
        sys.stdout.write("".join(f"{name}\n" for name in shipped_checkpoints()))
        return 0
    directory = resolve_checkpoint(args.checkpoint)
    card = {"directory": str(directory), **read_card(directory / CARD)}
    yaml.safe_dump(card, sys.stdout, sort_keys=False, default_flow_style=None, width=100)
    return 0
