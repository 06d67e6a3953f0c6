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
    chosen = _device(device, local)
    if size == 1:
        yield Group(), chosen
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Group(dist.get_rank(), size), chosen
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device '{name}' is unknown; choices: auto, cpu, cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device '{name}' is not supported; choices: auto, cpu, cuda")
    if device.type == "cuda":
        index = local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise ConfigError(
                f"device '{name}' number {index}: this machine has {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return device
