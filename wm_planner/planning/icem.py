"""iCEM: CEM with coloured noise, kept elites, momentum and a shrinking number of samples.

After Pinneri et al., "Sample-efficient Cross-Entropy Method for Real-time Planning" (2020). Of its
parts one is left out: elites of the last replan. The last plan itself, shifted, is the first mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.planning.cem import CEMSolver
from wm_planner.planning.noise import coloured


@dataclass(frozen=True)
class ICEMSolver(CEMSolver):
    """CEM whose samples are smooth in time, and whose elites stay among the next samples.

    Attributes:
        noise_exponent: the noise's power falls with the frequency to this power; 0 is white noise,
            2 a random walk. From one raw action to the next where the robot's is known.
        kept_share: of the elites that are evaluated again in the next iteration.
        shrink: each iteration draws so many times fewer samples than the one before, but at least
            twice the elites.
        momentum: share of the old mean and deviation in the new ones.
        action_size: entries of one raw action; 0: a model action is one.
    """

    noise_exponent: float = 2.0
    kept_share: float = 0.3
    shrink: float = 1.25
    momentum: float = 0.1
    action_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least, most in (
            ("noise_exponent", 0, 10),
            ("kept_share", 0, 1),
            ("shrink", 1, 100),
            ("momentum", 0, 0.99),
        ):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and least <= value <= most):
                raise ValueError(f"{name} must be a number from {least} to {most}, got {value!r}")

    def _num_drawn(self, iteration: int) -> int:
        count = round(self.num_samples / self.shrink**iteration)
        return max(count, min(2 * self.num_elites, self.num_samples))

    def _noise(
        self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device
    ) -> Tensor:
        """(N, H, A), coloured from one raw action to the next, of variance 1."""
        count, horizon, action_dim = shape
        size = self.action_size or action_dim
        steps = horizon * action_dim // size
        noise = torch.randn((count, steps, size), generator=generator, device=device)
        if self.noise_exponent and steps > 1:
            noise = coloured(noise, self.noise_exponent)
        return noise.reshape(shape)

    def _kept(self, samples: Tensor, costs: Tensor) -> Tensor | None:
        count = math.floor(self.kept_share * self.num_elites)
        return self._elites(samples, costs, count)[0] if count else None

    def _refit(
        self, samples: Tensor, costs: Tensor, mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor]:
        new_mean, new_std = super()._refit(samples, costs, mean, std)
        return new_mean.lerp(mean, self.momentum), new_std.lerp(std, self.momentum)
