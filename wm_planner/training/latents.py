"""Encoded trajectories: the encoder is frozen, so every frame is encoded once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wm_planner.data.store import TrajectoryStore
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import WorldModel


@dataclass(frozen=True)
class LatentTrajectories:
    """N trajectories of T model steps.

    Attributes:
        visual: (N, T + 1, P, Dv) float16 tokens.
        proprio: (N, T + 1, p) float32, standardised.
        actions: (N, T, A) float32, standardised.
    """

    visual: Tensor
    proprio: Tensor
    actions: Tensor

    def split(self, fraction: float, seed: int) -> tuple[LatentTrajectories, LatentTrajectories]:
        """Split whole trajectories into (1 - fraction, fraction)."""
        count = len(self.visual)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        held_out = max(1, int(count * fraction))
        return self._take(order[held_out:]), self._take(order[:held_out])

    def windows(
        self, batch_size: int, length: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Random windows: visual (B, L + 1, P, Dv), proprio (B, L + 1, p), actions (B, L, A)."""
        rows = torch.randint(len(self.visual), (batch_size,), generator=generator)
        last = self.actions.shape[1] - length
        starts = torch.randint(last + 1, (batch_size,), generator=generator)
        times = starts[:, None] + torch.arange(length + 1)
        rows = rows[:, None]
        return (
            self.visual[rows, times].float(),
            self.proprio[rows, times],
            self.actions[rows, times[:, :-1]],
        )

    def _take(self, rows: Tensor) -> LatentTrajectories:
        return LatentTrajectories(self.visual[rows], self.proprio[rows], self.actions[rows])


@torch.no_grad()
def encode_store(
    store: TrajectoryStore, model: WorldModel, preprocess: Preprocess, batch: int = 512
) -> LatentTrajectories:
    """Encode every frame of the store once."""
    count, frames = store.images.shape[:2]
    flat = store.images.reshape(count * frames, *store.images.shape[2:])
    tokens = [
        model.encode_images(preprocess.images(np.ascontiguousarray(flat[i : i + batch]))[None])[
            0
        ].to(torch.float16)
        for i in tqdm(range(0, len(flat), batch), desc="encode", unit="batch")
    ]
    return LatentTrajectories(
        torch.cat(tokens).unflatten(0, (count, frames)),
        preprocess.normalise_proprio(np.array(store.proprio)),
        preprocess.normalise_actions(np.array(store.actions)),
    )
