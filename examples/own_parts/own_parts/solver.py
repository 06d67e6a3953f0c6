"""A solver: the cheapest of so many plans around the starting point."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from wm_planner.planning.solver import Incumbent, SolverResult


@dataclass(frozen=True)
class RandomShooting:
    """Settings: `num_samples` is every sampling solver's, `spread` this one's own."""

    num_samples: int = 300
    spread: float = 1.0

    usual_iterations: ClassVar[int] = 1
    descends: ClassVar[bool] = False

    @torch.no_grad()
    def solve(self, cost_fn, init, bounds, generator, num_iterations, should_stop=None):
        best, count = Incumbent(init), self.num_samples
        noise = torch.randn((count, *init.shape[2:]), generator=generator, device=init.device)
        noise[0] = 0
        plans = bounds.project(init[:, :1] + self.spread * noise)
        costs = cost_fn(plans)
        trace = best.offer(plans, costs)[None]
        return SolverResult(*best.take(), costs[:, 0], count, trace)
