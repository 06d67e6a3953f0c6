"""What the training loop trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SCHEDULES = ("one-cycle", "constant")
# A step in one pass over the weights. Torch has it for a CPU since 2.4.
_FUSED = True if torch.torch_version.TorchVersion(torch.__version__) >= "2.4" else None
_WARM_UP = 0.05  # of the updates


@dataclass(frozen=True)
class Schedule:
    """AdamW and its learning rate over the run.

    Attributes:
        num_updates: optimizer steps in all.
        learning_rate, weight_decay: AdamW's; the highest rate of the schedule.
        kind: 'one-cycle' (5 % warm-up, cosine to nothing) or 'constant'.
    """

    num_updates: int
    learning_rate: float
    weight_decay: float
    kind: str = "one-cycle"

    def build(
        self, groups: list[dict[str, Any]]
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """For parameter groups, each of which may have a learning rate ('lr') of its own."""
        optimizer = torch.optim.AdamW(
            groups, lr=self.learning_rate, weight_decay=self.weight_decay, fused=_FUSED
        )
        if self.kind == "constant":
            return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0, 0)
        highest = [group["lr"] for group in optimizer.param_groups]
        # Without a whole update of warm-up OneCycleLR may divide by zero.
        warm_up = _WARM_UP if _WARM_UP * self.num_updates > 1 else 0.0
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(
            optimizer, highest, total_steps=self.num_updates, pct_start=warm_up
        )


class Learner(ABC):
    """What is trained, on what, and how well it does.

    Attributes:
        name: for the progress bar.
        schedule: optimisation.
        module: all weights that belong to the state of the run; those that require a gradient are
            trained.
        generator: draws the batches.
        log_every: updates between two lines of metrics.
        library: that multiplies, see `models.fast.library`.
    """

    name: str
    schedule: Schedule
    module: nn.Module
    generator: torch.Generator
    log_every: int = 250
    library: str = "usual"

    @abstractmethod
    def batch(self, step: int) -> tuple[Tensor, ...]:
        """This process's share of the batch of an update."""

    @abstractmethod
    def loss(self, step: int, *batch: Tensor) -> dict[str, Tensor]:
        """Scalar terms; 'loss' is what is minimised."""

    def evaluate(self) -> dict[str, float]:
        """Held-out measures, for the log; nothing by default."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimizer."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    def state(self) -> dict[str, Any]:
        """What else batches and losses depend on, random generators before all.

        Made of tensors, numbers, text, None, and dicts and lists of them.
        """
        return {"generator": self.generator.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.generator.set_state(state["generator"])
