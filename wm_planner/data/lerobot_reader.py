"""LeRobotDataset v3.0, v2.1 and v2.0 as a `Dataset`.

A frame of a LeRobot data set holds what was seen and the action that followed it. So the action of
the last frame leads nowhere that is known, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.data.dataset import Dataset, finite
from wm_planner.data.lerobot_columns import OWN, Columns, View, derived, of_export, of_robot
from wm_planner.data.lerobot_meta import EpisodeEntry, Meta
from wm_planner.data.lerobot_rows import LastFrames, Pictures, Rows
from wm_planner.data.prepare import prepare
from wm_planner.errors import DatasetError, ImageSourceError
from wm_planner.robot import RobotFile

MAX_KEPT = 2**29  # bytes of prepared frames of one episode


class LeRobotDataset(Dataset):
    """Every episode is a trajectory.

    Opening reads ``meta`` and looks whether all files are there. Rows and pictures are read when
    asked for; those of the last file and of the last episode are kept.

    Args:
        path: the data set's folder.
        robot: says what is what; None: an embodiment is derived from ``meta/info.json``. A data set
            that this package exported holds its embodiment, and a robot must agree with it.
        image_size: side of each camera's picture in place of the robot file's, or of 96 pixels. An
            export's pictures stay as they are.

    Raises:
        DatasetError: a file is missing or damaged, or the data set lacks what the robot has.
    """

    def __init__(
        self, path: Path | str, robot: RobotFile | None = None, image_size: int | None = None
    ) -> None:
        path = Path(path)
        self._meta = Meta(path)
        is_export = (path / OWN).is_file()
        if is_export:
            self._reading = of_export(self._meta, robot)
        elif robot is not None:
            self._reading = of_robot(self._meta, robot, image_size)
        else:
            self._reading = derived(self._meta, image_size)
        self._last = LastFrames(self._meta, self._reading) if is_export else None
        self._rows = Rows(self._meta, self._reading)
        self._pictures = Pictures(self._meta, self._rows)
        self._kept: tuple[int, range, np.ndarray] | None = None
        rows = np.array([entry.length for entry in self._meta.episodes])
        lengths = (rows - 1) // self._reading.stride + 1 + (self._last is not None)
        super().__init__(path, self._reading.embodiment, lengths, self._reading.actions_per_row)

    def proprio(self, index: int) -> np.ndarray:
        entry = self._meta.episodes[index]
        values = self._vector(entry, self._reading.state)[:: self._reading.stride]
        if self._last is not None:
            values = np.vstack([values, self._last.proprio(entry)])
        return finite(values, f"{entry.file}: episode {entry.number}: state")

    def actions(self, index: int) -> np.ndarray:
        entry = self._meta.episodes[index]
        values = self._vector(entry, self._reading.action)
        where = f"{entry.file}: episode {entry.number}: action"
        if self._last is not None:
            return finite(values, where)
        steps, stride = int(self.lengths[index]) - 1, self._reading.stride
        parts = finite(values[: steps * stride], where).reshape(steps, stride, values.shape[1])
        return _combined(parts, self.embodiment.action.kind)

    def states(self, index: int) -> np.ndarray | None:
        """Those of an export of simulated trajectories; nobody knows others'."""
        return None if self._last is None else self._last.states(self._meta.episodes[index])

    def info(self, index: int) -> dict[str, Any]:
        """'episode', its number in the data set, and 'tasks', in words."""
        entry = self._meta.episodes[index]
        return {"episode": entry.number, "tasks": list(entry.tasks)}

    def _vector(self, entry: EpisodeEntry, columns: Columns) -> np.ndarray:
        parts = [self._rows.values(entry, feature) for feature in columns.features]
        return columns.pick(np.hstack(parts))

    def read_frames(self, index: int, rows: range) -> np.ndarray:
        """One frame is decoded alone. For more, the episode is decoded once, and kept."""
        kept = self._kept
        if kept is None or kept[0] != index or any(row not in kept[1] for row in rows):
            if len(rows) == 1:
                return self._frames(index, rows)
            alike = range(rows.start % rows.step, int(self.lengths[index]), rows.step)
            frame_bytes = 3 * len(self._reading.views) * self.embodiment.image_size**2
            if len(alike) * frame_bytes > MAX_KEPT:
                return self._frames(index, rows)
            kept = self._kept = index, alike, self._frames(index, alike)
        chosen = [kept[1].index(row) for row in rows]
        return kept[2][chosen]

    def _frames(self, index: int, rows: range) -> np.ndarray:
        """(len(rows), S, C * S, 3): the cameras side by side."""
        entry = self._meta.episodes[index]
        there = [row * self._reading.stride for row in rows]
        beyond = self._last is not None and there[-1] == entry.length
        columns = []
        for view in self._reading.views:
            pictures = list(self._views(entry, view, there[: len(there) - beyond]))
            if beyond and self._last is not None:
                pictures.append(self._last.picture(entry, view))
            if len({picture.shape for picture in pictures}) > 1:
                raise DatasetError(
                    f"{self.path}: episode {entry.number}: pictures of camera "
                    f"'{view.camera.name}' differ in size; record the episode again"
                )
            columns.append(np.stack(pictures))
        if len({column.shape for column in columns}) > 1:
            raise DatasetError(
                f"{self.path}: the cameras' pictures differ in size; export it again"
            )
        return np.concatenate(columns, axis=2)

    def _views(self, entry: EpisodeEntry, view: View, rows: list[int]) -> Iterator[np.ndarray]:
        size = view.camera.size
        if view.feature is None:
            yield from np.zeros((len(rows), size, size, 3), np.uint8)
            return
        if not rows:
            return
        for picture in self._pictures.read(entry, view.feature, rows):
            if view.prepared:
                yield picture
                continue
            try:
                yield prepare(picture, view.camera.crop, size)
            except ImageSourceError as error:
                raise DatasetError(
                    f"{self.path}: episode {entry.number}, feature '{view.feature.key}': {error}; "
                    f"the crop of camera '{view.camera.name}' in the robot file must fit these "
                    "pictures"
                ) from error


def _combined(parts: np.ndarray, kind: str) -> np.ndarray:
    """(T, A) of the (T, stride, A) actions of rows, each of which the robot had for one row."""
    if kind == "position":
        return parts[:, -1]
    total = parts.sum(axis=1, dtype=np.float64)
    row = total if kind == "position_delta" else total / parts.shape[1]
    return np.asarray(row, np.float32)
