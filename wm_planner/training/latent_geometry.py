"""Can a latent be planned in? Measures of its distances, taken before any model is trained.

A planner descends the distance to the goal's latent. It can do so where latent distance ranks true
distance, and where going to the nearest latent, one true step at a time, arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_planner.data.store import TrajectoryStore
from wm_planner.tasks import get_task

Encode = Callable[[np.ndarray], Tensor]  # uint8 images (n, S, S, 3) -> (n, ...)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two samples (ties broken by order)."""
    ranks = [np.argsort(np.argsort(x)).astype(np.float64) for x in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def distance_correlation(
    store: TrajectoryStore, encode: Encode, num_frames: int = 400, seed: int = 0
) -> float:
    """Rank correlation of latent and true distance over all pairs of random frames.

    Args:
        store: trajectories with simulator states; true distance is that of the task's success
            test, in a straight line.
        encode: the latent, distances being Euclidean.
        num_frames: frames drawn.
        seed: of the draw.
    """
    task = get_task(store.embodiment.name)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, store.images.shape[0], num_frames)
    times = rng.integers(0, store.images.shape[1], num_frames)
    latent = encode(store.images[rows, times]).flatten(1)
    pairs = np.triu_indices(num_frames, 1)
    states = store.states[rows, times]
    true = np.array([task.distance(states[i], states[j]) for i, j in zip(*pairs, strict=True)])
    return rank_correlation(torch.cdist(latent, latent)[pairs].numpy(), true)


def greedy_success(
    env: Any,
    encode: Encode,
    num_targets: int = 20,
    num_candidates: int = 16,
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> float:
    """Share of the task's targets that greedy look-ahead in the true simulator solves.

    Each model step tries random actions, held for the whole step, and takes the one that ends
    nearest to the goal's latent; an episode has as many steps as the task allows.

    Args:
        env: environment of the task, which draws.
        encode: the latent, distances being Euclidean.
        num_targets: target i is drawn from (seed, i).
        num_candidates: actions tried at each step.
        progress: called after each target.
    """
    task, solved = env.task, 0
    for i in range(num_targets):
        rng = np.random.default_rng([seed, i])
        state, goal = env.sample_target(rng)
        aim = encode(env.render_state(goal)[None]).flatten(1)
        for _ in range(task.max_model_steps):
            shape = (num_candidates, task.embodiment.action.size)
            tried = rng.uniform(task.embodiment.action.low, task.embodiment.action.high, shape)
            ends = [_held(env, state, action) for action in tried]
            seen = encode(np.stack([env.render_state(end) for end in ends])).flatten(1)
            state = ends[int((seen - aim).square().sum(dim=1).argmin())]
            if task.is_success(state, goal):
                solved += 1
                break
        progress()
    return solved / num_targets


def _held(env: Any, state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The state after a model step of the same raw action."""
    env.set_state(state)
    for _ in range(env.task.embodiment.frame_skip):
        env.advance(action)
    return env.get_state()
