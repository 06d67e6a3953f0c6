"""How a run uses the machine; what is trained does not depend on it, beyond rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from wm_planner.errors import ConfigError
from wm_planner.training.distributed import Group, joined

CACHE_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


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

    def describe(self) -> dict[str, object]:
        """For the run's configuration file."""
        return {
            "device": str(self.device),
            "processes": self.group.size,
            "bf16": self.bf16,
            "compile": self.compile,
            "cache_dtype": self.cache_dtype,
        }


@contextmanager
def machine_of(device: str = "auto", **settings) -> Iterator[Machine]:
    """The machine of this process: see `Machine` and `joined`."""
    with joined(device) as (group, chosen):
        yield Machine(device=chosen, group=group, **settings)
