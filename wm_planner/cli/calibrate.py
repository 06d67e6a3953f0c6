"""`wm-planner calibrate`: what a checkpoint is familiar with, written into its card."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "calibrate",
        help="find the limits of a checkpoint's picture checks, the tolerance of 'arrived', and "
        "its core set; 'train' does it",
    )
    parser.add_argument("checkpoint", help="shipped name or directory; its card is rewritten")
    parser.add_argument(
        "--data", type=Path, required=True, help="directory of 'dataset build' or 'collect'"
    )
    parser.add_argument(
        "--core-set",
        action="store_true",
        help="write only the core set: a few latents of the data, which 'learn' replays",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rewrite the card, and the core set; the weights stay as they are.

    Raises:
        WmPlannerError: the checkpoint or the data cannot be used.
    """
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.evaluation.familiar import familiar
    from wm_planner.evaluation.recordings import encode_recordings, held_out, same_place
    from wm_planner.files import read_json, write_json, written_aside
    from wm_planner.models.catalog import CARD, resolve_checkpoint
    from wm_planner.models.checkpoint import load_bundle
    from wm_planner.models.core_set import CORE, load_core_set, save_core_set
    from wm_planner.models.registration import is_registered
    from wm_planner.provenance import provenance
    from wm_planner.training.core_set import core_set

    directory = resolve_checkpoint(args.checkpoint)
    store = TrajectoryStore.open(args.data)
    bundle, card = load_bundle(directory), read_json(directory / CARD)
    origin = {**provenance(), "data": store.meta.get("command", str(args.data))}
    found_core, known_core = core_set(bundle, store), load_core_set(directory, card)
    if is_registered(bundle.model):  # its training pictures are those of the camera's first place
        found_core = replace(found_core, shown=known_core.shown if known_core else None)
    core = save_core_set(found_core, directory)
    card["core_set"] = {**core, **origin}
    told = [f"core set: {core['stretches']} stretches of {core['steps']} model steps"]
    if not args.core_set:
        found = familiar(bundle, store)
        card["info"]["familiar"] = {**found.to_json(), "calibrated": origin}
        arrived = same_place(encode_recordings(bundle, store, held_out(bundle, store)[0]))
        card["info"]["arrived"] = arrived
        if arrived is not None:
            told.append(
                f"arrived: two pictures of one place differ by up to {arrived['picture']:.3g}"
            )
        for name, camera in found.cameras.items():
            shares = ", ".join(f"{what} {share:.0%}" for what, share in camera.recognised.items())
            told.append(f"camera {name}: of held-out pictures it is told that they are {shares}")
    with written_aside(directory / CARD) as part:
        write_json(part, card)
    print("\n".join([*told, f"written: {directory / CARD} and {CORE}"]))
    return 0
