"""Choosing the core set of a checkpoint from its training data."""

from __future__ import annotations

import numpy as np
import torch

from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError
from wm_planner.models.bundle import Bundle
from wm_planner.models.core_set import MOST_BYTES, CoreSet, Shown
from wm_planner.models.pixels import PixelStandard
from wm_planner.models.preprocess import Preprocess
from wm_planner.training.feature_cache import encode_chunk
from wm_planner.training.machine import Machine

MOST_PICTURES, _AT_ONCE = 1000, 32  # of which the mean is taken
STEPS = 5  # model steps of a stretch, as many as rollouts are trained on
MOST_STRETCHES = 400
_HEADER = 1000  # bytes of the file that are no numbers


def core_set(bundle: Bundle, store: TrajectoryStore, seed: int = 0) -> CoreSet:
    """Stretches from as many trajectories as there is room for, one of each while they last.

    Raises:
        DatasetError: the store is of another robot, or its arrays do not fit the model.
    """
    difference = bundle.embodiment.difference(store.embodiment)
    if difference is not None:
        raise DatasetError(f"{store.directory}: not the checkpoint's robot: {difference}")
    store.check_sizes(bundle.preprocess.action_dim, len(bundle.preprocess.proprio_mean))
    count, there = store.actions.shape[:2]
    steps = min(STEPS, there)
    sizes = bundle.model.config
    frame = 2 * sizes.num_patches * sizes.visual_dim + 4 * sizes.proprio_dim
    each = (steps + 1) * frame + 4 * steps * sizes.action_dim
    places = count * (there - steps + 1)
    number = min(MOST_STRETCHES, (MOST_BYTES - _HEADER) // each, places)
    if number < 2:
        raise DatasetError(
            f"{store.directory}: a stretch of {steps} model steps takes {each} bytes, so that no "
            f"core set of {MOST_BYTES} bytes can be made of it"
        )
    generator = np.random.default_rng(seed)
    rows = np.arange(number) * max(1, count // number) % count
    starts = generator.integers(there - steps + 1, size=number)
    bundle_machine = Machine(bundle.device)
    visual, proprio, actions = [], [], []
    for row, start in zip(rows, starts, strict=True):
        images = store.images[row, start : start + steps + 1]
        visual.append(encode_chunk(images, bundle.model, bundle.preprocess, bundle_machine))
        proprio.append(np.array(store.proprio[row, start : start + steps + 1]))
        actions.append(np.array(store.actions[row, start : start + steps]))
    return CoreSet(
        torch.stack(visual),
        bundle.preprocess.normalise_proprio(np.stack(proprio)).cpu(),
        bundle.preprocess.normalise_actions(np.stack(actions)).cpu(),
        shown(bundle.preprocess, store),
    )


@torch.no_grad()
def shown(preprocess: Preprocess, store: TrajectoryStore) -> Shown:
    """What the store's pictures show, by some that lie evenly in all of them."""
    count, frames = store.images.shape[:2]
    chosen = np.linspace(0, count * frames - 1, min(MOST_PICTURES, count * frames)).astype(int)
    total = squares = torch.zeros(())
    lowest, highest = torch.full((), torch.inf), torch.full((), -torch.inf)
    for part in np.array_split(chosen, -(-len(chosen) // _AT_ONCE)):
        raw = np.stack([store.images[i // frames, i % frames] for i in part])
        pictures = preprocess.images(raw).double()
        total, squares = total + pictures.sum(dim=0), squares + pictures.square().sum(dim=0)
        lowest, highest = lowest.minimum(pictures.amin(0)), highest.maximum(pictures.amax(0))
    mean = total / len(chosen)
    known = PixelStandard(preprocess.image_size, preprocess.num_cameras)
    known.take(mean.float(), (squares / len(chosen) - mean.square()).clamp(min=0).float())
    return Shown(known.mean.half(), known.deviation.half(), lowest.half(), highest.half())
