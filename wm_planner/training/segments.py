"""Recorded stretches of any length: an episode may be as short as one model step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.models.world_model import WorldModel
from wm_planner.training.adversarial import Adversarial
from wm_planner.training.machine import Machine
from wm_planner.training.model import ModelLearner, TransitionTraining
from wm_planner.training.online import corrected


@dataclass(frozen=True)
class Segments:
    """N stretches, their frames end to end: F in all.

    Attributes:
        visual: (F, P, Dv) tokens.
        proprio: (F, p) float32, standardised.
        actions: (F, A) float32, standardised; the last one of a stretch leads nowhere.
        lengths: (N,) model steps of each, at least 1.
    """

    visual: Tensor
    proprio: Tensor
    actions: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_steps(self) -> int:
        """Model steps in all."""
        return int(self.lengths.sum())

    @property
    def longest(self) -> int:
        """Model steps of the longest stretch."""
        return int(self.lengths.max())

    def starts(self, length: int) -> Tensor:
        """Numbers of the frames from which `length` model steps follow."""
        firsts = torch.cat([self.lengths.new_zeros(1), (self.lengths + 1).cumsum(0)[:-1]])
        places = [
            torch.arange(int(first), int(first + steps - length + 1))
            for first, steps in zip(firsts, self.lengths, strict=True)
            if steps >= length
        ]
        return torch.cat(places) if places else torch.zeros(0, dtype=torch.long)

    def draw_length(self, most: int, generator: torch.Generator) -> int:
        """Length of a window: that of the stretch around a random model step, or `most`."""
        step = torch.randint(self.num_steps, (1,), generator=generator)
        row = int(torch.searchsorted(self.lengths.cumsum(0), step, right=True))
        return min(most, int(self.lengths[row]))

    def windows(self, count: int, length: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Random windows: visual (B, L + 1, P, Dv), proprio (B, L + 1, p), actions (B, L, A)."""
        starts = self.starts(length)
        chosen = starts[torch.randint(len(starts), (count,), generator=generator)]
        frames = chosen[:, None] + torch.arange(length + 1)
        return self.visual[frames].float(), self.proprio[frames], self.actions[frames[:, :-1]]


def of_stretches(visual: Tensor, proprio: Tensor, actions: Tensor) -> Segments:
    """Of N stretches of one length: (N, T + 1, P, Dv), (N, T + 1, p) and (N, T, A)."""
    count, steps = actions.shape[:2]
    padded = torch.cat([actions, torch.zeros_like(actions[:, :1])], dim=1)
    lengths = torch.full((count,), steps)
    return Segments(visual.flatten(0, 1), proprio.flatten(0, 1), padded.flatten(0, 1), lengths)


def joined(parts: list[Segments]) -> Segments:
    """All stretches of `parts`, in their order."""
    columns = ("visual", "proprio", "actions", "lengths")
    return Segments(*(torch.cat([getattr(part, name) for part in parts]) for name in columns))


class ReplayLearner(ModelLearner):
    """Trains on recordings of any length, beside what is replayed of the training data.

    Args:
        model: on the machine's device; is put into training mode.
        recorded: what the robot did.
        replayed: of the training data; None: there is none.
        share: of a batch that is recorded.
        config: settings.
        machine: one process.
        adversarial: makes the updates train on perturbed inputs.
    """

    def __init__(
        self,
        model: WorldModel,
        recorded: Segments,
        replayed: Segments | None,
        share: float,
        config: TransitionTraining,
        machine: Machine,
        adversarial: Adversarial | None = None,
    ) -> None:
        super().__init__(model, None, config, machine, adversarial)
        self._recorded, self._replayed, self._share = recorded, replayed, share

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Windows of one length, which differs from update to update as that of episodes does."""
        size, replayed = self.config.batch_size, self._replayed
        length = self._recorded.draw_length(self.config.rollout_steps, self.generator)
        if replayed is None:
            return self._recorded.windows(size, length, self.generator)
        length = min(length, replayed.longest)
        count = corrected(size, self._share, self.group)
        parts = [self._recorded.windows(count, length, self.generator)]
        if count < size:
            parts.append(replayed.windows(size - count, length, self.generator))
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def evaluate(self) -> dict[str, float]:
        """Nothing: the gate judges."""
        return {}
