"""Online World Modeling: plan, execute in the simulator, learn from what happened.

Algorithm 2 of arXiv 2512.09929, a DAgger with the simulator as the expert. Every round plans from
true start states with the current model, executes the plans open loop, and adds the transitions
o_0, a_0, o_1, ..., o_H to a bounded buffer. Each observation is followed by the action that was
taken from it; the released code is off by one frame there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wm_planner.models.bundle import Bundle
from wm_planner.training.adversarial import Adversarial
from wm_planner.training.distributed import Group
from wm_planner.training.latents import LatentTrajectories, joined
from wm_planner.training.machine import Machine
from wm_planner.training.model_learner import ModelLearner, Updates

_PROBLEMS = ("task", "data")


@dataclass(frozen=True)
class Online:
    """Settings of the rounds.

    Attributes:
        num_rounds: rounds of planning, evenly spread over the updates.
        num_problems: plans per round.
        horizon: model steps of a plan.
        problems: where starts and goals come from: 'task' draws those of the task, 'data' takes
            the states of frames of the data that are `horizon` model steps apart.
        buffer_size: executed plans that are kept, the newest.
        buffer_fraction: share of a batch that comes from the buffer.
        adversarial: perturb the inputs of the teacher-forcing updates, too.
        planner: changes of the checkpoint's planner settings, by name.
    """

    num_rounds: int = 10
    num_problems: int = 32
    horizon: int = 5
    problems: str = "task"
    buffer_size: int = 1024
    buffer_fraction: float = 0.5
    adversarial: bool = False
    planner: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("num_rounds", "num_problems", "horizon", "buffer_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.buffer_fraction <= 1:
            raise ValueError(f"buffer_fraction must be in (0, 1], got {self.buffer_fraction}")
        if self.problems not in _PROBLEMS:
            raise ValueError(f"unknown problems '{self.problems}'; choices: {', '.join(_PROBLEMS)}")


class OnlineLearner(ModelLearner):
    """Trains on a mix of the data and of what happened when the model was planned with.

    Args:
        bundle, data, config, machine, adversarial: see `ModelLearner`.
        online: settings.
        rounds: plans and simulates; None when `corrections` are all there is, as on a robot.
        corrections: the buffer's content to begin with.
    """

    def __init__(
        self,
        bundle: Bundle,
        data: LatentTrajectories,
        config: Updates,
        machine: Machine,
        online: Online,
        rounds: Callable[[int], tuple[LatentTrajectories, dict[str, float]]] | None,
        corrections: LatentTrajectories | None = None,
        adversarial: Adversarial | None = None,
    ) -> None:
        super().__init__(
            bundle.model, data, config, machine, adversarial if online.adversarial else None
        )
        self._online, self._rounds, self._buffer = online, rounds, corrections
        self._every = -(-config.num_updates // online.num_rounds)
        self._measures: dict[str, float] = {}

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Windows of the data and of the buffer; a round first where one is due."""
        if self._rounds is not None and step % self._every == 0:
            new, self._measures = self._rounds(step // self._every)
            kept = [new] if self._buffer is None else [self._buffer, new]
            self._buffer = joined(kept, self._online.buffer_size)
        assert self._buffer is not None
        size = self.config.batch_size
        count = corrected(size, self._online.buffer_fraction, self.group)
        parts = [self.windows(self._buffer, count)]
        if count < size:
            parts.append(self.windows(self.train, size - count))
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def evaluate(self) -> dict[str, float]:
        """Held-out error on the data, and how the last round went."""
        return {**super().evaluate(), **self._measures}

    def state(self) -> dict[str, Any]:
        """The buffer, too, where rounds fill it."""
        state = {**super().state(), "measures": self._measures}
        if self._rounds is not None and self._buffer is not None:
            buffer = self._buffer
            state["buffer"] = [buffer.visual, buffer.proprio, buffer.actions]
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """See `state`."""
        super().set_state(state)
        self._measures = state["measures"]
        if "buffer" in state:
            self._buffer = LatentTrajectories(*state["buffer"])


def corrected(batch_size: int, fraction: float, group: Group) -> int:
    """Windows of a batch that come from the buffer, at least one per process."""
    each = batch_size // group.size
    return group.size * min(each, max(1, round(each * fraction)))
