"""The film of `wm-planner plot learning`: episode after episode, beside the success so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wm_planner.cli.figures import learning_picture
from wm_planner.cli.film import write_animation, write_mp4
from wm_planner.cli.pictures import GREEN, ORANGE, SIDE, beside, panel
from wm_planner.data.dataset import Dataset
from wm_planner.data.outcomes import Outcome

RATE_HZ = 8  # pictures per second: faster than it was, for there are many episodes
HELD = 4  # pictures for which the end of an episode stays


def write_learning_film(
    path: Path, dataset: Dataset, told: Sequence[Outcome], data: dict[str, Any]
) -> Path:
    """Camera and goal of each episode, and the figure of all episodes up to it.

    Args:
        path: of the ending mp4, webp or gif.
        dataset: of the bags.
        told: how their episodes came out, in order.
        data: see `wm_planner.cli.figures.draw_learning`.

    Returns:
        `path`.

    Raises:
        DatasetError: a picture cannot be read.
        WriteError: the film cannot be written.
    """
    of_bag: dict[str, list[int]] = {}
    for index in range(len(dataset)):
        of_bag.setdefault(Path(str(dataset.info(index).get("bag"))).name, []).append(index)

    def pictures() -> Iterator[np.ndarray]:
        figure = _fitted(learning_picture(data, 0), SIDE)
        for number, episode in enumerate(told):
            reached = episode.outcome == "success"
            before, figure = figure, _fitted(learning_picture(data, number + 1), SIDE)
            words = f"episode {number + 1}"
            trajectories = of_bag.get(episode.name, [])
            goal = dataset.goal(trajectories[0]) if trajectories else None
            aim = panel(_first_camera(goal), "goal", SIDE, missing="no goal is known")
            frames = [frame for i in trajectories for frame in dataset.frames(i)]
            for frame in frames:
                seen = panel(_first_camera(frame), words, SIDE)
                yield _row(seen, aim, before)
            end = f"{words}: {'reached' if reached else 'missed'}"
            last = _first_camera(frames[-1]) if frames else None
            colour = GREEN if reached else ORANGE
            seen = panel(last, end, SIDE, missing="no picture", colour=colour)
            yield from [_row(seen, aim, figure)] * HELD

    write = write_mp4 if path.suffix == ".mp4" else write_animation
    return write(path, pictures(), RATE_HZ)


def _row(seen: np.ndarray, aim: np.ndarray, figure: np.ndarray) -> np.ndarray:
    height = seen.shape[0]
    above = np.full((height - figure.shape[0], figure.shape[1], 3), 255, np.uint8)
    row = beside([seen, aim, np.vstack([above, figure])])
    return row[: height // 2 * 2, : row.shape[1] // 2 * 2]  # as video codecs want it


def _first_camera(picture: np.ndarray | None) -> np.ndarray | None:
    return None if picture is None else picture[:, : picture.shape[0]]


def _fitted(picture: np.ndarray, height: int) -> np.ndarray:
    width = round(picture.shape[1] * height / picture.shape[0])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
