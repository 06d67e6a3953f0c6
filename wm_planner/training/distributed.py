"""The processes of one run: one by itself, or those that torchrun starts.

Every process draws the whole batch's random numbers and takes its share, so that the result does
not depend on how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from wm_planner.errors import ConfigError
from wm_planner.models.checkpoint import torch_device

_PATIENCE = timedelta(hours=12)  # one process may simulate or encode while the others wait


@dataclass(frozen=True)
class Group:
    """This process and how many there are.

    Attributes:
        rank: number of this process, from 0, which alone writes.
        size: processes in all.
    """

    rank: int = 0
    size: int = 1

    def share(self, count: int) -> slice:
        """This process's part of `count` things.

        Raises:
            ConfigError: they cannot be shared evenly.
        """
        if count % self.size:
            raise ConfigError(f"a batch of {count} cannot be shared by {self.size} processes")
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def total(self, values: Tensor) -> Tensor:
        """Sum over the processes, of a tensor without gradient."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes, of a tensor without gradient."""
        return self.total(values) / self.size if self.size > 1 else values

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(device: str = "auto") -> Iterator[tuple[Group, torch.device]]:
    """The group that torchrun announces in the environment, and this process's device.

    Args:
        device: 'auto' (cuda where there is one), 'cpu', 'cuda' or 'cuda:N'.

    Raises:
        ConfigError: the device does not exist.
    """
    size, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    chosen = torch_device(device, local)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield Group(), chosen
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Group(dist.get_rank(), size), chosen
    finally:
        dist.destroy_process_group()
