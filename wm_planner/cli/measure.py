"""`wm-planner train --measure`: can a latent be planned in, before any model is trained?"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_planner.errors import DatasetError, TaskError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from wm_planner.data.store import TrajectoryStore
    from wm_planner.training.machine import Machine

logger = logging.getLogger(__name__)
GEOMETRY = "geometry.json"
TARGETS = 20


def check_measurable(store: TrajectoryStore) -> None:
    """Said before any training.

    Raises:
        DatasetError: nobody knows the states of the recordings.
    """
    from wm_planner.tasks import get_task

    name = store.embodiment.name
    try:
        size = len(get_task(name).state_names)
    except TaskError as error:
        raise DatasetError(
            f"--measure compares latent with true distances: {store.directory} is of '{name}', "
            "which is no simulated task; leave --measure out, 'wm-planner eval --data' judges "
            "by recordings"
        ) from error
    if store.states.shape[-1] != size:
        raise DatasetError(
            f"--measure needs the simulator's {size} state entries, {store.directory} has "
            f"{store.states.shape[-1]}; collect the data with 'wm-planner collect', or leave "
            "--measure out"
        )


def measure(output: Path, encoder: Any, store: TrajectoryStore, machine: Machine) -> None:
    """Write OUTPUT/geometry.json: rank correlation, and greedy look-ahead where there is a
    simulator.

    Args:
        output: run directory.
        encoder: on the machine's device.
        store: see `check_measurable`.
        machine: device.
    """
    from tqdm import tqdm

    from wm_planner.errors import RenderError
    from wm_planner.evaluation.episode import EnvMaker
    from wm_planner.files import write_json
    from wm_planner.tasks import get_task
    from wm_planner.training.encoder import encode_images
    from wm_planner.training.latent_geometry import distance_correlation, greedy_success

    task, size = get_task(store.embodiment.name), store.images.shape[2]

    def encode(images: np.ndarray) -> Tensor:
        return encode_images(encoder, images, machine)

    measures = {"rank_correlation": distance_correlation(store, encode)}
    try:
        env = EnvMaker(task.name, size)(True)
    except (ImportError, RenderError, TaskError) as error:
        logger.info("no simulator: greedy look-ahead is not measured: %s", error)
    else:
        with tqdm(desc="greedy look-ahead", total=TARGETS, unit="target") as bar:
            measures["greedy_success"] = greedy_success(env, encode, TARGETS, progress=bar.update)
        env.close()
    write_json(output / GEOMETRY, measures)
    logger.info("latent distance: %s", ", ".join(f"{k} {v:.2f}" for k, v in measures.items()))
