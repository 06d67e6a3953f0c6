"""`wm-planner dataset info|build`: what a data set holds, and what training reads made of it."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import yaml

from wm_planner.cli.options import add_option, check_least
from wm_planner.cli.parser import path, whole, written
from wm_planner.data.layouts import READERS, open_dataset
from wm_planner.robot import read_robot

if TYPE_CHECKING:
    from wm_planner.data.account import Account
    from wm_planner.data.dataset import Dataset
    from wm_planner.data.recorded import BagDataset
    from wm_planner.data.store import TrajectoryStore

logger = logging.getLogger(__name__)

EXPORTS = {"hdf5": "data.hdf5", "lerobot": "lerobot"}  # what is written below --output
MANY = 16  # entries up to which each one's mean and standard deviation is shown


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("dataset", help="describe a data set, or make one from bags")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="counts, shapes, statistics, and a contact sheet")
    _add_source(info)
    info.add_argument(
        "--contact-sheet",
        type=written,
        default=Path("dataset_info.png"),
        metavar="FILE.png",
        help="picture to write (default dataset_info.png)",
    )
    info.set_defaults(action_run=run_info)
    build = actions.add_parser("build", help="training data from recorded bags or any data set")
    _add_source(build)
    build.add_argument(
        "--only", choices=("success", "failure"), help="take the episodes of that outcome alone"
    )
    add_option(build, "--output")
    build.add_argument(
        "--steps", type=whole, default=5, help="model steps per trajectory (default 5)"
    )
    build.add_argument(
        "--frame-skip", type=whole, help="control periods per model step (default: the task's)"
    )
    build.add_argument(
        "--image-size", type=whole, help="pixels; others are cut to a square and resized to it"
    )
    build.add_argument(
        "--export",
        choices=tuple(EXPORTS),
        help="for other tools, too: OUTPUT/data.hdf5 (robomimic), or the directory OUTPUT/lerobot",
    )
    build.set_defaults(action_run=run_build)
    parser.set_defaults(run=run)


def _add_source(parser: argparse.ArgumentParser) -> None:
    kinds = ", ".join(READERS)
    parser.add_argument("path", type=path, help=f"data set of any of these kinds: {kinds}")
    parser.add_argument(
        "--reader", metavar="KIND", help="which kind it is (default: told by its files)"
    )
    parser.add_argument(
        "--robot", type=path, metavar="FILE", help="robot file, where the data do not say of which"
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse a bag that is damaged or cannot be used"
    )


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    return args.action_run(args)


def run_info(args: argparse.Namespace) -> int:
    """Write the description as YAML to stdout, the contact sheet to its file."""
    from wm_planner.cli.contact_sheet import write_contact_sheet

    dataset = _open(args)
    description = describe(dataset)
    write_contact_sheet(args.contact_sheet, dataset)
    description["contact_sheet"] = str(args.contact_sheet)
    yaml.safe_dump(description, sys.stdout, sort_keys=False, default_flow_style=None, width=100)
    return 0


def run_build(args: argparse.Namespace) -> int:
    """Write a store, and say how much of what was recorded it holds."""
    from tqdm import tqdm

    from wm_planner.data.build import build_store
    from wm_planner.errors import ConfigError
    from wm_planner.provenance import command_line

    check_least(args, steps=1, image_size=1, frame_skip=1)
    if args.output.exists():
        raise ConfigError(f"{args.output}: exists already; choose another --output")
    export = None if args.export is None else _exporter(args.export)
    dataset = _open(args, image_size=args.image_size, frame_skip=args.frame_skip)
    _warn(dataset)
    frame_skip = args.frame_skip or dataset.embodiment.frame_skip
    bar = functools.partial(tqdm, desc="build", unit="trajectory")
    meta = {"command": command_line()}
    store = build_store(
        dataset, args.output, args.steps, frame_skip, meta, bar, args.image_size, args.only
    )
    if export is not None:
        export(store, args.output / EXPORTS[args.export])
    used, there = store.meta["model_steps_used"], store.meta["model_steps_there"]
    logger.info(
        "%s: %d trajectories of %d model steps; of %d model steps %d are used, %d lie in pieces "
        "that are shorter",
        *(args.output, len(store.images), args.steps, there, used, there - used),
    )
    logger.info(
        "next: wm-planner train --data %s --output runs/%s", args.output, store.embodiment.name
    )
    return 0


def _open(args: argparse.Namespace, **more: Any) -> Dataset:
    robot = None if args.robot is None else read_robot(args.robot)
    return open_dataset(args.path, robot=robot, strict=args.strict, reader=args.reader, **more)


def _warn(dataset: Dataset) -> None:
    """Say what of the recordings is not read, and why."""
    if dataset.layout != "bags":
        return
    dataset = cast("BagDataset", dataset)
    for bag, reason in dataset.left_out:
        logger.warning("left out: %s: %s", bag.name, reason)
    for recording in dataset.recordings:
        for text in (*recording.account.damage, *recording.account.notes):
            logger.warning("%s: %s", recording.path.name, text)
    steps = _steps([recording.account for recording in dataset.recordings])
    lost = ", ".join(f"{count} to {name}" for name, count in steps["lost"].items())
    logger.info(
        "%d recordings are read, %d left out, %d were dropped; of %d model steps %d are kept%s",
        *(len(dataset.recordings), len(dataset.left_out), dataset.num_dropped),
        *(steps["possible"], steps["kept"], f" (lost {lost})" if lost else ""),
    )


def _recordings(dataset: BagDataset) -> dict[str, Any]:
    """What every bag holds, and what of it is not read."""
    bags = []
    for recording in dataset.recordings:
        account = recording.account
        bag: dict[str, Any] = {
            "name": recording.path.name,
            "outcome": recording.outcome or "none",
            "seconds": account.seconds,
            "rates_hz": account.rates_hz,
            "model_steps": _steps([account]),
        }
        if account.holes:
            bag["holes"] = {
                name: {"count": count, "longest_s": longest}
                for name, (count, longest) in account.holes.items()
            }
        for key in ("notes", "damage"):
            if getattr(account, key):
                bag[key] = list(getattr(account, key))
        bags.append(bag)
    result: dict[str, Any] = {
        "model_steps": _steps([recording.account for recording in dataset.recordings]),
        "bags": bags,
    }
    if dataset.left_out:
        result["left_out"] = [
            {"name": bag.name, "reason": reason} for bag, reason in dataset.left_out
        ]
    if dataset.num_dropped:
        result["dropped"] = dataset.num_dropped
    return result


def _steps(accounts: Sequence[Account]) -> dict[str, Any]:
    lost: dict[str, int] = {}
    for account in accounts:
        for name, count in account.lost.items():
            lost[name] = lost.get(name, 0) + count
    return {
        "kept": sum(account.kept for account in accounts),
        "possible": sum(account.possible for account in accounts),
        "lost": lost,
    }


def _exporter(kind: str) -> Callable[[TrajectoryStore, Path], None]:
    """Looked for before anything is built: each needs a library of its own."""
    if kind == "hdf5":
        from wm_planner.data.hdf5_export import export_hdf5

        return export_hdf5
    from wm_planner.data.lerobot import export_lerobot

    return export_lerobot


def describe(dataset: Dataset) -> dict[str, Any]:
    """Counts, shapes and statistics; reads everything but the images, of which it reads one."""
    lengths = dataset.lengths
    stats = dataset.stats()
    result: dict[str, Any] = {
        "path": str(dataset.path),
        "layout": dataset.layout,
        "embodiment": dataset.name,
        "trajectories": len(dataset),
        "frames": int(lengths.sum()),
        "frames_per_trajectory": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "max": int(lengths.max()),
        },
        "actions_per_frame": dataset.frame_skip,
        "image": list(dataset.frames(0, range(1)).shape[1:]),
        "statistics": dataset.stats_rule,
    }
    for name in ("action", "proprio", "state"):
        if f"{name}_mean" not in stats:
            result[name] = "unknown"
            continue
        mean, std = stats[f"{name}_mean"], stats[f"{name}_std"]
        result[name] = {"size": len(mean), "mean": _shown(mean), "std": _shown(std)}
    if dataset.layout == "bags":
        result |= _recordings(cast("BagDataset", dataset))
    return result


def _shown(values: tuple[float, ...]) -> list[float] | dict[str, float]:
    if len(values) > MANY:
        return {"smallest": _short(min(values)), "largest": _short(max(values))}
    return [_short(value) for value in values]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
