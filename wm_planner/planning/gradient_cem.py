"""CEM whose samples take gradient steps before they are ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wm_planner.planning.bounds import Bounds
from wm_planner.planning.cem import CEMSolver
from wm_planner.planning.gradient import descend, make_optimizer
from wm_planner.planning.solver import CostFn


@dataclass(frozen=True)
class GradientCEMSolver(CEMSolver):
    """Ranks and refits on the refined samples (the released code refits on the unrefined)."""

    usual_iterations: ClassVar[int] = 10

    gradient_steps: int = 1
    learning_rate: float = 0.2
    optimizer: str = "adam"
    action_noise_std: float = 0.003

    def _refine(
        self,
        cost_fn: CostFn,
        samples: Tensor,
        bounds: Bounds,
        generator: torch.Generator,
    ) -> tuple[Tensor, int]:
        before = samples
        samples = samples.clone().requires_grad_(True)
        optimizer = make_optimizer(self.optimizer, samples, self.learning_rate)
        for _ in range(self.gradient_steps):
            descend(cost_fn, samples, optimizer, self.action_noise_std, bounds, generator)
        refined = samples.detach()
        # A sample whose gradient is not finite stays where it was drawn.
        return torch.where(refined.isfinite(), refined, before), self.gradient_steps
