"""Encoded trajectories: the encoder is frozen, so every frame is encoded once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import WorldModel
from wm_planner.training.feature_cache import cached_latents, chunks_of, encode_chunk
from wm_planner.training.machine import Machine

_ALL = slice(None)


@dataclass(frozen=True)
class LatentTrajectories:
    """Trajectories of T model steps.

    Attributes:
        visual: (M, T + 1, P, Dv) float16 or float32 tokens, in memory or mapped from a file.
        proprio: (M, T + 1, p) float32, standardised.
        actions: (M, T, A) float32, standardised.
        rows: (N,) which of the M belong to this part; None for all.
    """

    visual: Tensor
    proprio: Tensor
    actions: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.visual) if self.rows is None else len(self.rows)

    def split(self, fraction: float, seed: int) -> tuple[LatentTrajectories, LatentTrajectories]:
        """Split whole trajectories into (1 - fraction, fraction); nothing is read or copied."""
        train, held_out = split_rows(len(self), fraction, seed)
        if self.rows is not None:
            train, held_out = self.rows[train], self.rows[held_out]
        return replace(self, rows=train), replace(self, rows=held_out)

    def windows(
        self,
        batch_size: int,
        length: int,
        generator: torch.Generator,
        share: slice = _ALL,
        stride: int = 1,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Random windows: visual (B, L + 1, P, Dv), proprio (B, L + 1, p), actions (B, L, A).

        All B are drawn, those of `share` are read and returned. With a `stride` the frames are so
        many model steps apart, and all actions from one to the next are joined: (B, L, stride * A).
        """
        rows = torch.randint(len(self), (batch_size,), generator=generator)
        last = self.actions.shape[1] - length * stride
        starts = torch.randint(last + 1, (batch_size,), generator=generator)[share]
        if self.rows is not None:
            rows = self.rows[rows]
        times = starts[:, None] + torch.arange(length * stride + 1)
        rows, frames = rows[share, None], times[:, ::stride]
        return (
            self.visual[rows, frames].float(),
            self.proprio[rows, frames],
            self.actions[rows, times[:, :-1]].unflatten(1, (length, stride)).flatten(2),
        )


def split_rows(count: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the trajectories to train on and of those held out, at least one of each.

    Raises:
        DatasetError: there are fewer than two.
    """
    if count < 2:
        raise DatasetError(
            f"{count} trajectory is too few: one is held out, to judge the model by; record more, "
            "or build the store with shorter pieces (--steps)"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held_out = max(1, int(count * fraction))
    return order[held_out:], order[:held_out]


def joined(parts: list[LatentTrajectories], newest: int | None = None) -> LatentTrajectories:
    """All trajectories of `parts`, or the last `newest` of them."""
    columns = zip(*((p.visual, p.proprio, p.actions) for p in parts), strict=True)
    keep = slice(None if newest is None else -newest, None)
    return LatentTrajectories(*(torch.cat(column)[keep] for column in columns))


def encode_store(
    store: TrajectoryStore,
    model: WorldModel,
    preprocess: Preprocess,
    machine: Machine | None = None,
) -> LatentTrajectories:
    """Every frame of the store, encoded once; from the machine's cache where it has one.

    Raises:
        DatasetError: the cache cannot be written.
    """
    machine = machine or Machine()
    if machine.cache is None:
        images = store.images.reshape(-1, *store.images.shape[2:])
        parts = chunks_of(images, machine)
        tokens = [encode_chunk(images[part], model, preprocess, machine) for part in parts]
        visual = torch.cat(tokens).unflatten(0, store.images.shape[:2])
    else:
        visual = cached_latents(store, model, preprocess, machine)
    return LatentTrajectories(
        visual,
        preprocess.normalise_proprio(np.array(store.proprio)),
        preprocess.normalise_actions(np.array(store.actions)),
    )
