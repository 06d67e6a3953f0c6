"""From a data set of any kind to a store, which is what training reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.data.dataset import Dataset, Window, Windows
from wm_planner.data.prepare import prepare_views
from wm_planner.data.store import Trajectory, TrajectoryStore, write_store
from wm_planner.tasks.registry import resized


def build_store(
    dataset: Dataset,
    output: Path | str,
    steps: int,
    frame_skip: int,
    meta: dict[str, Any],
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    image_size: int | None = None,
) -> TrajectoryStore:
    """Cut every trajectory into pieces of `steps` model steps, end to end; a shorter rest is left.

    Args:
        dataset: where from.
        output: directory to write; must not exist.
        steps: model steps per piece.
        frame_skip: raw actions per model step, a multiple of the data set's.
        meta: said in the store, beside embodiment, source and how much was used.
        progress: wraps the iteration over pieces.
        image_size: side of the images, made as the camera node makes them; None for as they are.

    Raises:
        DatasetError: no trajectory is long enough, a value is not finite, images differ in size,
            or the directory exists.
    """
    windows = dataset.windows(1, steps, frame_skip)
    if image_size is None:  # that of the pictures, which are square where they come from a robot
        image_size_kept = int(min(dataset.frames(0, range(1)).shape[1:3]))
    else:
        image_size_kept = image_size
    numbers = _end_to_end(windows, steps)
    meta = {
        "embodiment": resized(dataset.embodiment, image_size_kept, frame_skip).to_json(),
        "source": str(dataset.path),
        "model_steps_used": len(numbers) * steps,
        "model_steps_there": int(((dataset.lengths - 1) // windows.stride).sum()),
        **meta,
    }
    return write_store(output, len(numbers), _pieces(windows, progress(numbers), image_size), meta)


def _end_to_end(windows: Windows, steps: int) -> list[int]:
    """Numbers of the windows that begin where the one before ends, or at a trajectory's start."""
    span = steps * windows.stride
    return [n for n in range(len(windows)) if windows.locate(n)[1] % span == 0]


def _pieces(
    windows: Windows, numbers: Iterable[int], image_size: int | None
) -> Iterator[Trajectory]:
    for number in numbers:
        window = windows[number]
        images = window.images
        if image_size is not None:
            count = len(windows.dataset.embodiment.cameras)
            images = np.stack([prepare_views(image, count, image_size) for image in images])
        yield {
            "images": images,
            "proprio": window.proprio,
            "actions": window.actions,
            "states": _states(window),
        }


def _states(window: Window) -> np.ndarray:
    """The states; where nobody knows them, rows without entries."""
    return np.zeros((len(window.images), 0)) if window.states is None else window.states
