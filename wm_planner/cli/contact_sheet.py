"""The contact sheet of `wm-planner dataset info`: a few frames of a few episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wm_planner.cli.pictures import (
    GREEN,
    INK,
    ORANGE,
    Colour,
    beside,
    panel,
    text_line,
    write_picture,
)
from wm_planner.data.dataset import Dataset

ROWS, COLUMNS = 6, 6  # trajectories, and frames of each
SIDE = 240  # of a picture, pixels
OUTCOMES: dict[str, Colour] = {"success": GREEN, "failure": ORANGE}


def write_contact_sheet(path: Path, dataset: Dataset) -> None:
    """Frames spread evenly over trajectories that are spread evenly over the data set, as png.

    Above each trajectory stand its outcome and its bag, behind it the goal's picture, where they
    are known.

    Raises:
        DatasetError: images cannot be read.
        WriteError: the file cannot be written.
    """
    chosen = _spread(len(dataset), ROWS)
    goals = {trajectory: dataset.goal(trajectory) for trajectory in chosen}
    columns = min(COLUMNS, int(dataset.lengths.max()))
    with_goal = any(goal is not None for goal in goals.values())
    strips = []
    for trajectory in chosen:
        rows = _spread(int(dataset.lengths[trajectory]), COLUMNS)
        panels = [_panel(dataset, trajectory, row) for row in rows]
        panels += [panel(None, "", SIDE)] * (columns - len(panels))
        if with_goal:
            goal = goals[trajectory]
            square = None if goal is None else goal[:, : goal.shape[0]]
            panels.append(panel(square, "goal", SIDE, missing="no goal is known"))
        strip = beside(panels)
        strips += [text_line(strip.shape[1], _words(dataset, trajectory)), strip]
    write_picture(path, np.pad(np.vstack(strips), ((4, 4), (8, 8), (0, 0)), constant_values=255))


def _panel(dataset: Dataset, trajectory: int, row: int) -> np.ndarray:
    image = dataset.frames(trajectory, range(row, row + 1))[0]
    return panel(image, f"frame {row}", SIDE)


def _words(dataset: Dataset, trajectory: int) -> list[tuple[int, str, Colour]]:
    """What is known of a trajectory, each at a place of its own."""
    info = dataset.info(trajectory)
    outcome, bag = str(info.get("outcome") or ""), info.get("bag")
    told = f"trajectory {trajectory}: {dataset.lengths[trajectory]} frames"
    words: list[tuple[int, str, Colour]] = [(2, told, INK)]
    words.append((SIDE + 60, outcome or "outcome not known", OUTCOMES.get(outcome, INK)))
    if bag is not None:
        place = f"bag {Path(str(bag)).name}, from {float(info.get('start_s', 0)):.1f} s on"
        words.append((2 * SIDE + 60, place, INK))
    return words


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
