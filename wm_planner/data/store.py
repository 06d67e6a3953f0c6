"""Trajectories on disk as plain, memory-mappable arrays: what training reads.

A store is a directory with ``images.npy`` (N, T+1, S, S, 3) uint8, ``proprio.npy`` (N, T+1, P)
float32, ``actions.npy`` (N, T, f*a) float32 in physical units, ``states.npy`` (N, T+1, S) float64
and ``meta.json``; one row per model step. S is 0 where nobody knows the states.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError, DatasetError, TaskError, raised_as
from wm_planner.files import allocate, check_regular, read_json, write_json, writing, written_aside
from wm_planner.tasks import embodiment_of

SCHEMA = 2
_SCHEMAS = (1, SCHEMA)  # 1 names a simulated task in place of the embodiment
ARRAYS = {"images": np.uint8, "proprio": np.float32, "actions": np.float32, "states": np.float64}
AXES = {"images": 5, "proprio": 3, "actions": 3, "states": 3}
Trajectory = dict[str, np.ndarray]


@dataclass(frozen=True)
class TrajectoryStore:
    """An opened store; the arrays are read-only memory maps.

    Attributes:
        directory: where it lies.
        images, proprio, actions, states: see the module.
        meta: seed, command and whatever the writer said.
        embodiment: of the robot; its `frame_skip` is the number of raw actions per row.
    """

    directory: Path
    images: np.ndarray
    proprio: np.ndarray
    actions: np.ndarray
    states: np.ndarray
    meta: dict[str, Any]
    embodiment: Embodiment

    @classmethod
    def open(cls, directory: Path | str) -> TrajectoryStore:
        """Open and check a store.

        Raises:
            DatasetError: a file is missing, truncated, or disagrees with the others.
        """
        directory = Path(directory)
        meta_file = directory / "meta.json"
        if not meta_file.is_file():
            raise DatasetError(
                f"{directory}: no meta.json; 'wm-planner collect' writes a store, 'wm-planner "
                "dataset build' makes one of any other data set"
            )
        meta = read_json(meta_file, DatasetError, "copy the store again, or make it again")
        if not isinstance(meta, dict) or meta.get("schema") not in _SCHEMAS:
            got = meta.get("schema") if isinstance(meta, dict) else type(meta).__name__
            raise DatasetError(f"{meta_file}: schema {got}, expected {SCHEMA}")
        arrays = {}
        for name, dtype in ARRAYS.items():
            file = directory / f"{name}.npy"
            check_regular(file, DatasetError)
            # numpy raises whatever a damaged header leads it to.
            with raised_as(DatasetError, Exception, before=f"{file}: cannot be read: "):
                arrays[name] = np.load(file, mmap_mode="r", allow_pickle=False)
            found, axes = getattr(arrays[name], "dtype", "no array"), AXES[name]
            if found != dtype or arrays[name].ndim != axes:
                raise DatasetError(
                    f"{file}: expected {dtype.__name__} of {axes} axes, got {found} of "
                    f"{getattr(arrays[name], 'ndim', 0)}"
                )
        count, steps = arrays["actions"].shape[:2]
        for name in ("images", "proprio", "states"):
            if arrays[name].shape[:2] != (count, steps + 1):
                raise DatasetError(
                    f"{directory / name}.npy: {arrays[name].shape[:2]} trajectories and frames, "
                    f"actions.npy says {(count, steps + 1)}"
                )
        size = int(min(arrays["images"].shape[2:4]))
        with raised_as(DatasetError, ConfigError, TaskError):
            embodiment = embodiment_of(meta, str(meta_file), size)
        return cls(directory=directory, meta=meta, embodiment=embodiment, **arrays)

    def check_sizes(self, action: int, proprio: int) -> None:
        """Check that model actions and proprioception have as many entries as a checkpoint's.

        Raises:
            DatasetError: they have others.
        """
        sizes = self.actions.shape[-1], self.proprio.shape[-1]
        if sizes != (action, proprio):
            raise DatasetError(
                f"{self.directory}: model actions and proprioception have {sizes} entries, the "
                f"checkpoint's have {(action, proprio)}"
            )

    def stats(self) -> dict[str, tuple[float, ...]]:
        """Mean and unbiased standard deviation of one raw action and of proprioception."""
        raw_size = self.actions.shape[-1] // self.embodiment.frame_skip
        columns = {
            "action": np.asarray(self.actions, np.float64).reshape(-1, raw_size),
            "proprio": np.asarray(self.proprio, np.float64).reshape(-1, self.proprio.shape[-1]),
        }
        result = {}
        for name, values in columns.items():
            result[f"{name}_mean"] = tuple(values.mean(axis=0).tolist())
            result[f"{name}_std"] = tuple(values.std(axis=0, ddof=1).tolist())
        return result


def create_array(file: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """A new .npy file of zeros, mapped for writing; the disk has room for all of it.

    Raises:
        WriteError: it has not.
    """
    with writing(file):
        array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    allocate(file, file.stat().st_size)
    return array


def create_arrays(directory: Path, count: int, like: Trajectory) -> dict[str, np.memmap]:
    """The arrays of a store for `count` trajectories of the shape of one.

    Raises:
        WriteError: the disk has no room for them.
    """
    return {
        name: create_array(directory / f"{name}.npy", dtype, (count, *like[name].shape))
        for name, dtype in ARRAYS.items()
    }


def put(directory: Path, arrays: dict[str, np.memmap], index: int, trajectory: Trajectory) -> None:
    """Write one trajectory into arrays of the store `directory`.

    Raises:
        DatasetError: it has another shape than those before.
    """
    for name, array in arrays.items():
        if trajectory[name].shape != array.shape[1:]:
            raise DatasetError(
                f"{directory}: trajectory {index} has {name} of shape "
                f"{trajectory[name].shape}, those before {array.shape[1:]}"
            )
        array[index] = trajectory[name]


def write_store(
    directory: Path | str, count: int, trajectories: Iterable[Trajectory], meta: dict[str, Any]
) -> TrajectoryStore:
    """Write `count` trajectories, aside first, then renamed into place.

    Args:
        directory: must not exist.
        count: how many trajectories the iterable yields.
        trajectories: mappings with the keys of `ARRAYS`, without the leading N.
        meta: needs 'embodiment' (see `Embodiment.to_json`).

    Raises:
        DatasetError: the directory exists, or the iterable yields another number, or arrays of
            another shape.
        WriteError: the disk has no room for them.
    """
    directory = Path(directory)
    if directory.exists():
        raise DatasetError(f"{directory}: exists already; choose another --output")
    with written_aside(directory) as part:
        part.mkdir(parents=True)
        maps: dict[str, np.memmap] = {}
        written = 0
        for written, trajectory in enumerate(trajectories, start=1):
            if written > count:
                raise DatasetError(
                    f"{directory}: more than the announced {count} trajectories came"
                )
            if not maps:
                maps = create_arrays(part, count, trajectory)
            put(directory, maps, written - 1, trajectory)
        if written != count:
            raise DatasetError(f"{directory}: {written} trajectories came, {count} were announced")
        for array in maps.values():
            array.flush()
        write_json(part / "meta.json", {"schema": SCHEMA, **meta}, end="")
    return TrajectoryStore.open(directory)
