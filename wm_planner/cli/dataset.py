"""`wm-planner dataset info`: what a data set holds, in numbers and in a contact sheet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    from wm_planner.data.dataset import Dataset

SHEET_ROWS, SHEET_COLUMNS = 6, 6  # trajectories, and frames of each
MANY = 16  # entries up to which each one's mean and standard deviation is shown


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("dataset", help="describe a data set")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="counts, shapes, statistics, and a contact sheet")
    info.add_argument("path", type=Path, help="store, bags, or a published data set's folder")
    info.add_argument(
        "--contact-sheet",
        type=Path,
        default=Path("dataset_info.png"),
        metavar="FILE.png",
        help="picture to write (default dataset_info.png)",
    )
    info.set_defaults(action_run=run_info)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    return args.action_run(args)


def run_info(args: argparse.Namespace) -> int:
    """Write the description as YAML to stdout, the contact sheet to its file."""
    from wm_planner.data.layouts import open_dataset

    dataset = open_dataset(args.path)
    description = describe(dataset)
    write_contact_sheet(args.contact_sheet, dataset)
    description["contact_sheet"] = str(args.contact_sheet)
    yaml.safe_dump(description, sys.stdout, sort_keys=False, default_flow_style=None, width=100)
    return 0


def describe(dataset: Dataset) -> dict[str, Any]:
    """Counts, shapes and statistics; reads everything but the images, of which it reads one."""
    lengths = dataset.lengths
    stats = dataset.stats()
    result: dict[str, Any] = {
        "path": str(dataset.path),
        "layout": dataset.layout,
        "task": dataset.task,
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
    return result


def write_contact_sheet(path: Path, dataset: Dataset) -> None:
    """Frames spread evenly over trajectories that are spread evenly over the data set, as png.

    Raises:
        DatasetError: the file cannot be written, or images cannot be read.
    """
    import imageio.v2 as imageio

    from wm_planner.cli.film import panel
    from wm_planner.errors import DatasetError

    lines = []
    for trajectory in _spread(len(dataset), SHEET_ROWS):
        length = int(dataset.lengths[trajectory])
        line = []
        for row in _spread(length, SHEET_COLUMNS):
            image = dataset.frames(trajectory, range(row, row + 1))[0]
            line.append(panel(image, f"trajectory {trajectory}, frame {row}"))
        line += [panel(None, "")] * (min(SHEET_COLUMNS, int(dataset.lengths.max())) - len(line))
        lines.append(np.hstack(line))
    try:
        imageio.imwrite(path, np.vstack(lines), format="png")
    except OSError as error:
        raise DatasetError(f"--contact-sheet {path}: cannot be written: {error}") from error


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _shown(values: tuple[float, ...]) -> list[float] | dict[str, float]:
    if len(values) > MANY:
        return {"smallest": _short(min(values)), "largest": _short(max(values))}
    return [_short(value) for value in values]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
