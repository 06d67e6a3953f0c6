"""A store as one HDF5 file in the layout of robomimic, which other tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

from wm_planner.data.hdf5 import ENV
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError
from wm_planner.files import allocate, written_aside

_DEMO_BYTES = 16_384  # more than the file says of a demonstration beside its arrays


def export_hdf5(store: TrajectoryStore, file: Path | str) -> None:
    """Write a store as one file, every trajectory a demonstration.

    Groups ``data/demo_<i>`` with ``obs/image`` (T+1, S, S, 3) uint8, ``obs/proprio``, ``states``
    (where known) and ``actions`` (T, f*a); attributes ``num_samples`` (T) and, at ``data``,
    ``total`` and ``env_args``, with the embodiment in it. Observations have one frame more than
    there are actions. `hdf5.Hdf5Dataset` reads it back as it was.

    Raises:
        DatasetError: the file exists.
        WriteError: the disk has no room for it, or it cannot be written.
    """
    body = store.embodiment
    env = {"env_name": body.name, **store.meta, "embodiment": body.to_json()}
    file = Path(file)
    if file.exists():
        raise DatasetError(f"{file}: cannot be written: it exists already; choose another file")
    arrays = (store.images, store.proprio, store.actions, store.states)
    size = sum(array.nbytes for array in arrays) + _DEMO_BYTES * (1 + len(store.actions))
    with written_aside(file) as part:
        part.touch()
        allocate(part, size)  # on a full disk HDF5 ends the process
        part.unlink()
        _write_demos(store, env, part)


def _write_demos(store: TrajectoryStore, env: dict[str, Any], file: Path) -> None:
    with h5py.File(file, "x") as out:
        data = out.create_group("data")
        steps = store.actions.shape[1]
        for index in range(len(store.actions)):
            demo = data.create_group(f"demo_{index}")
            demo.attrs["num_samples"] = steps
            demo["obs/image"] = store.images[index]
            demo["obs/proprio"] = store.proprio[index]
            demo["actions"] = store.actions[index]
            if store.states.shape[-1]:
                demo["states"] = store.states[index]
        data.attrs["total"] = steps * len(store.actions)
        data.attrs[ENV] = json.dumps(env)
