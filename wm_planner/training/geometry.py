"""Can a latent be planned in? Does latent distance rank true distance?"""

from __future__ import annotations

import numpy as np
import torch

from wm_planner.data.store import TrajectoryStore
from wm_planner.tasks import get_task


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two samples (ties broken by order)."""
    ranks = [np.argsort(np.argsort(x)).astype(np.float64) for x in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


@torch.no_grad()
def distance_correlation(
    store: TrajectoryStore, encode, num_frames: int = 400, seed: int = 0
) -> float:
    """Rank correlation of latent and true distance over all pairs of random frames.

    Args:
        store: trajectories with simulator states.
        encode: uint8 images (N, S, S, 3) -> (N, ...) tensor.
        num_frames: frames drawn.
        seed: of the draw.
    """
    task = get_task(store.meta["task"])
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, store.images.shape[0], num_frames)
    times = rng.integers(0, store.images.shape[1], num_frames)
    latent = encode(store.images[rows, times]).flatten(1)
    first, second = np.triu_indices(num_frames, 1)
    latent_distance = torch.cdist(latent, latent)[first, second].numpy()
    states = store.states[rows, times]
    true = np.array(
        [task.distance(states[i], states[j]) for i, j in zip(first, second, strict=True)]
    )
    return rank_correlation(latent_distance, true)
