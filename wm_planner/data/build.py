"""From a data set of any kind to a store, which is what training reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.data.dataset import Dataset, Windows
from wm_planner.data.prepare import prepare_views
from wm_planner.data.store import Trajectory, TrajectoryStore, write_store
from wm_planner.errors import DatasetError
from wm_planner.tasks.registry import resized


def build_store(
    dataset: Dataset,
    output: Path | str,
    steps: int,
    frame_skip: int,
    meta: dict[str, Any],
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    image_size: int | None = None,
    only: str | None = None,
) -> TrajectoryStore:
    """Cut every trajectory into pieces of `steps` model steps.

    The pieces of a trajectory lie end to end. Where a rest remains, the last piece overlaps the
    one before it, so that no step of a trajectory is lost unless it is shorter than one piece.

    Args:
        dataset: where from.
        output: directory to write; must not exist.
        steps: model steps per piece.
        frame_skip: raw actions per model step, a multiple of the data set's.
        meta: said in the store, beside embodiment, source, how much was used, and, of recordings,
            `rows`: 'bag', 'start_s' and 'outcome' of each trajectory.
        progress: wraps the iteration over pieces.
        image_size: side of the images, made as the camera node makes them; None for as they are.
        only: outcome of the trajectories that are taken, for example 'success'; None: of any.

    Raises:
        DatasetError: no trajectory is long enough or has that outcome, a value is not finite,
            images differ in size, or the directory exists.
    """
    chosen = _with_outcome(dataset, only)
    windows = dataset.windows(1, steps, frame_skip)
    # That of the pictures, which are square where they come from a robot.
    size = image_size or int(min(dataset.frames(0, range(1)).shape[1:3]))
    body = resized(dataset.embodiment, size, frame_skip)
    pieces = {t: _pieces_of(windows, t, steps) for t in chosen}
    numbers = [n for piece in pieces.values() for n in piece]
    used = sum((p[-1] - p[0]) // windows.stride + steps for p in pieces.values() if p)
    if not numbers:
        raise DatasetError(
            f"{dataset.path}: none of the {len(chosen)} trajectories with outcome '{only}' is "
            f"{steps} model steps long"
        )
    there = (dataset.lengths - 1) // windows.stride
    meta = {
        "embodiment": body.to_json(),
        "source": str(dataset.path),
        "model_steps_used": int(used),
        "model_steps_there": int(there[chosen].sum()),
        **meta,
    }
    rows = [_origin(dataset, *windows.locate(n)) for n in numbers]
    if any(rows):
        meta["rows"] = rows
    cut = _cut(windows, progress(numbers), len(body.cameras), image_size)
    return write_store(output, len(numbers), cut, meta)


def _with_outcome(dataset: Dataset, only: str | None) -> list[int]:
    """Numbers of the trajectories."""
    if only is None:
        return list(range(len(dataset)))
    outcomes = [dataset.info(i).get("outcome") for i in range(len(dataset))]
    chosen = [i for i, outcome in enumerate(outcomes) if outcome == only]
    if not chosen:
        there = {o: outcomes.count(o) for o in sorted({o for o in outcomes if o})}
        told = ", ".join(f"{count} with '{o}'" for o, count in there.items())
        raise DatasetError(
            f"{dataset.path}: no trajectory has the outcome '{only}'; of {len(outcomes)} there "
            f"are {told or 'none that say anything'}"
        )
    return chosen


def _pieces_of(windows: Windows, trajectory: int, steps: int) -> list[int]:
    """Numbers of the windows that cover a trajectory."""
    span = steps * windows.stride
    first, count = windows.of(trajectory)
    starts = list(range(0, count, span))
    if starts and starts[-1] + windows.stride <= count - 1:  # a whole model step is left
        starts.append((count - 1) // windows.stride * windows.stride)
    return [first + start for start in starts]


def _origin(dataset: Dataset, trajectory: int, row: int) -> dict[str, Any]:
    """Where a piece came from, where the data set knows."""
    info = dataset.info(trajectory)
    if "bag" not in info:
        return {}
    step_s = dataset.embodiment.control_dt_s * dataset.frame_skip
    start_s = round(float(info.get("start_s", 0.0)) + row * step_s, 3)
    return {"bag": info["bag"], "start_s": start_s, "outcome": info.get("outcome", "")}


def _cut(
    windows: Windows, numbers: Iterable[int], num_cameras: int, image_size: int | None
) -> Iterator[Trajectory]:
    for number in numbers:
        window = windows[number]
        images = window.images
        if image_size is not None:
            images = np.stack([prepare_views(image, num_cameras, image_size) for image in images])
        yield {
            "images": images,
            "proprio": window.proprio,
            "actions": window.actions,
            "states": np.zeros((len(images), 0)) if window.states is None else window.states,
        }
