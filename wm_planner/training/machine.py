"""How a run uses the machine: devices, processes, precision, and what it keeps on disk.

A run is one process, or those that torchrun starts. Every process draws the whole batch's random
numbers and takes its share, so that what is trained does not depend on how many there are, beyond
rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from wm_planner.errors import ConfigError
from wm_planner.models.checkpoint import torch_device

CACHE_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
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


@dataclass(frozen=True)
class Machine:
    """Devices, precision, and what a run keeps on disk.

    Attributes:
        device: where the weights are trained.
        group: the processes that share a batch.
        bf16: compute losses in bfloat16 where torch's autocast does so.
        compile: compile the predictor (torch.compile).
        save_minutes: how often the whole state of training is saved; 0 after every update.
        resume: go on with the run in the output directory, if there is one.
        cache: directory of encoded frames; None keeps them in memory, for this run alone.
        cache_dtype: 'fp16' or 'fp32', of the encoded frames.
        tensorboard: write TensorBoard events too, where tensorboard is installed.
        bar: show a progress bar.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: Group = Group()
    bf16: bool = False
    compile: bool = False
    save_minutes: float = 10.0
    resume: bool = False
    cache: Path | None = None
    cache_dtype: str = "fp16"
    tensorboard: bool = False
    bar: bool = True

    def __post_init__(self) -> None:
        if not self.save_minutes >= 0:
            raise ConfigError(f"save_minutes must be at least 0, got {self.save_minutes}")
        if self.cache_dtype not in CACHE_DTYPES:
            choices = ", ".join(CACHE_DTYPES)
            raise ConfigError(f"unknown cache_dtype '{self.cache_dtype}'; choices: {choices}")
        if self.bf16 and self.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigError(f"bf16: {self.device} does not have it; leave it out")

    @property
    def writes(self) -> bool:
        """Whether this process writes the run directory."""
        return self.group.rank == 0

    def check_alone(self, command: str) -> None:
        """Raises:
        ConfigError: there are other processes, and the losses of `command` are a whole batch's.
        """
        if self.group.size > 1:
            raise ConfigError(
                f"{command} runs in one process: its variance and covariance terms need the whole "
                "batch; start it without torchrun"
            )

    def describe(self) -> dict[str, object]:
        """For the run's configuration file."""
        kept = {key: getattr(self, key) for key in ("bf16", "compile", "cache_dtype")}
        return {"device": str(self.device), "processes": self.group.size, **kept}


@contextmanager
def machine_of(device: str = "auto", **settings: Any) -> Iterator[Machine]:
    """The machine of this process, in the group that torchrun announces in the environment.

    Args:
        device: 'auto' (cuda where there is one), 'cpu', 'cuda' or 'cuda:N'.
        settings: see `Machine`.

    Raises:
        ConfigError: the device does not exist.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch_device(device, local)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield Machine(chosen, **settings)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Machine(chosen, Group(dist.get_rank(), size), **settings)
    finally:
        dist.destroy_process_group()
