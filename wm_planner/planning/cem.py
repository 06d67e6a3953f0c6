"""The cross-entropy method: sample, keep the elites, refit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.planning.solver import CostFn, SolverResult, StopFn, pick_best


@dataclass(frozen=True)
class CEMSolver:
    """Refits a diagonal Gaussian to the elites; the mean itself is always a candidate.

    Attributes are those of `PlannerConfig`.
    """

    num_samples: int = 300
    num_elites: int = 30
    init_std: float = 1.0

    @torch.no_grad()
    def solve(
        self,
        cost_fn: CostFn,
        init: Tensor,
        low: Tensor,
        high: Tensor,
        generator: torch.Generator,
        num_iterations: int,
        should_stop: StopFn | None = None,
    ) -> SolverResult:
        """See `Solver.solve`; only the first starting point is used."""
        mean = init[:, 0].clamp(low, high)
        std = torch.full_like(mean, self.init_std)
        batch = len(mean)
        first = cost_fn(mean[:, None])[:, 0]
        evaluations = 1
        for _ in range(num_iterations):
            shape = (batch, self.num_samples, *mean.shape[1:])
            noise = torch.randn(shape, generator=generator, device=mean.device)
            noise[:, 0] = 0
            samples = (mean[:, None] + std[:, None] * noise).clamp(low, high)
            costs = cost_fn(samples)
            evaluations += self.num_samples
            ranked = torch.where(costs.isfinite(), costs, torch.inf)
            index = ranked.topk(self.num_elites, dim=1, largest=False).indices
            elites = samples[torch.arange(batch)[:, None], index]
            finite = ranked.gather(1, index).isfinite()
            if finite.all():
                mean, std = elites.mean(dim=1), elites.std(dim=1)
            else:
                # Too few finite candidates to refit on: stay where the best one is.
                mean, _ = pick_best(samples, costs)
            if should_stop is not None and should_stop():
                break
        last = cost_fn(mean[:, None])
        result, costs = pick_best(mean[:, None], last)
        return SolverResult(result, costs, first, evaluations + 1)
