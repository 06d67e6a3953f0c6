"""`wm-planner calibrate`: what a checkpoint is familiar with, written into its card."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "calibrate",
        help="find the limits of a checkpoint's picture checks from recordings; 'train' does it",
    )
    parser.add_argument("checkpoint", help="shipped name or directory; its card is rewritten")
    parser.add_argument(
        "--data", type=Path, required=True, help="directory of 'dataset build' or 'collect'"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rewrite the card; the weights stay as they are.

    Raises:
        WmPlannerError: the checkpoint or the data cannot be used.
    """
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.evaluation.familiar import familiar
    from wm_planner.files import read_json, write_json, written_aside
    from wm_planner.models.catalog import CARD, resolve_checkpoint
    from wm_planner.models.checkpoint import load_bundle
    from wm_planner.provenance import provenance

    directory = resolve_checkpoint(args.checkpoint)
    store = TrajectoryStore.open(args.data)
    found = familiar(load_bundle(directory), store)
    card = read_json(directory / CARD)
    origin = {**provenance(), "data": store.meta.get("command", str(args.data))}
    card["info"]["familiar"] = {**found.to_json(), "calibrated": origin}
    with written_aside(directory / CARD) as part:
        write_json(part, card)
    for name, camera in found.cameras.items():
        told = ", ".join(f"{what} {share:.0%}" for what, share in camera.recognised.items())
        print(f"camera {name}: of held-out pictures it is told that they are {told}")
    print(f"written: {directory / CARD}")
    return 0
