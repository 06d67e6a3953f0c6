"""Export to the layout of robomimic, which other imitation learning tools read."""

from __future__ import annotations

import json
from pathlib import Path

import h5py

from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError


def export_hdf5(store: TrajectoryStore, file: Path | str) -> None:
    """Write a store as one file, every trajectory a demonstration.

    Groups ``data/demo_<i>`` with ``obs/image`` (T+1, S, S, 3) uint8, ``obs/proprio``, ``states``
    (where known) and ``actions`` (T, f*a); attributes ``num_samples`` (T) and, at ``data``,
    ``total`` and ``env_args``. Observations have one frame more than there are actions.

    Raises:
        DatasetError: the file exists, or cannot be written.
    """
    try:
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
            data.attrs["env_args"] = json.dumps({"env_name": store.embodiment.name, **store.meta})
    except OSError as error:
        raise DatasetError(f"{file}: cannot be written: {error}") from error
