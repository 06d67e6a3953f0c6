"""A store that takes long to write: what was written before an interruption is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.config import flat
from wm_planner.data.store import (
    ARRAYS,
    SCHEMA,
    Trajectory,
    TrajectoryStore,
    create_arrays,
    put,
)
from wm_planner.errors import DatasetError
from wm_planner.files import read_json, write_json

PROGRESS = "progress.json"
OFTEN = 64  # trajectories after which what is written is made sure of


class BegunStore:
    """Trajectories are written in order into OUTPUT.begun, which takes OUTPUT's name when whole.

    Args:
        directory: must not exist.
        count: of trajectories.
        meta: see `write_store`; what its 'command' says is that of the first run.

    Attributes:
        written: trajectories that are there already.

    Raises:
        DatasetError: the directory exists, or other data were begun for it.
    """

    def __init__(self, directory: Path, count: int, meta: dict[str, Any]) -> None:
        if directory.exists():
            raise DatasetError(f"--output {directory}: exists already; choose another directory")
        self._directory, self._count, self._meta = directory, count, meta
        self._part = directory.with_name(directory.name + ".begun")
        self.written = 0
        if (self._part / PROGRESS).is_file():
            self._go_on(read_json(self._part / PROGRESS, DatasetError))

    def write(self, trajectories: Iterable[Trajectory]) -> TrajectoryStore:
        """Write those that are missing, from number `written` on.

        Raises:
            DatasetError: too few come, or they have another shape.
            WriteError: the disk has no room for them.
        """
        arrays: dict[str, np.memmap] = {}
        if self.written:
            files = {name: self._part / f"{name}.npy" for name in ARRAYS}
            arrays = {name: np.load(file, mmap_mode="r+") for name, file in files.items()}
        for index, trajectory in enumerate(trajectories, start=self.written):
            if not arrays:
                arrays = self._begin(trajectory)
            put(self._directory, arrays, index, trajectory)
            if (index + 1) % OFTEN == 0 or index + 1 == self._count:
                self._save(arrays, index + 1)
        if self.written != self._count:
            raise DatasetError(
                f"{self._directory}: {self.written} of {self._count} trajectories came"
            )
        del arrays
        write_json(self._part / "meta.json", {"schema": SCHEMA, **self._meta}, end="")
        # In this order: without its progress a directory that is not renamed counts for nothing.
        self._part.rename(self._directory)
        (self._directory / PROGRESS).unlink()
        return TrajectoryStore.open(self._directory)

    def _begin(self, first: Trajectory) -> dict[str, np.memmap]:
        shutil.rmtree(self._part, ignore_errors=True)  # of which nothing was made sure of
        self._part.mkdir(parents=True)
        try:
            return create_arrays(self._part, self._count, first)
        except BaseException:
            shutil.rmtree(self._part, ignore_errors=True)
            raise

    def _save(self, arrays: dict[str, np.memmap], written: int) -> None:
        for array in arrays.values():
            array.flush()
        self.written = written
        progress = {"written": written, "count": self._count, "meta": self._meta}
        write_json(self._part / PROGRESS, progress)

    def _go_on(self, progress: Any) -> None:
        """Take over what is there."""
        try:
            there = flat({"count": progress["count"], **progress["meta"]})
            written = int(progress["written"])
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{self._part / PROGRESS}: cannot be read ({error!r}); delete {self._part}"
            ) from error
        meta = json.loads(json.dumps(self._meta))  # as what was read
        for key, here in flat({"count": self._count, **meta}).items():
            if key != "command" and there.get(key) != here:
                raise DatasetError(
                    f"{self._part}: holds the beginning of data with {key} {there.get(key)}, this "
                    f"command has {here}; delete it or choose another --output"
                )
        self.written = written
        self._meta = progress["meta"]
