"""What the sampling solvers share: draw around a mean, evaluate, refit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wm_planner.planning.bounds import Bounds
from wm_planner.planning.solver import CostFn, Incumbent, SolverResult, StopFn


@dataclass(frozen=True)
class SamplingSolver(ABC):
    """Samples around a mean sequence, which is itself always the first candidate.

    Subclasses say how the mean moves. Only the first starting point is used.
    Attributes are those of `PlannerConfig`.
    """

    usual_iterations: ClassVar[int] = 30
    descends: ClassVar[bool] = False

    num_samples: int = 300
    init_std: float = 1.0
    best_so_far: bool = True

    @torch.no_grad()
    def solve(
        self,
        cost_fn: CostFn,
        init: Tensor,
        bounds: Bounds,
        generator: torch.Generator,
        num_iterations: int,
        should_stop: StopFn | None = None,
    ) -> SolverResult:
        """See `Solver.solve`."""
        mean = bounds.project(init[:, :1])[:, 0]
        std = torch.full_like(mean, self.init_std)
        initial_costs, evaluations = cost_fn(mean[:, None])[:, 0], 2  # the first and last mean
        best, trace = Incumbent(init), []
        best.offer(mean[:, None], initial_costs[:, None])
        kept: Tensor | None = None
        for iteration in range(num_iterations):
            shape = (self._num_drawn(iteration), *mean.shape[1:])
            noise = self._noise(shape, generator, mean.device)
            noise[0] = 0
            samples = bounds.project(mean[:, None] + std[:, None] * noise)
            if kept is not None:
                samples = torch.cat([samples, kept], dim=1)
            samples, rounds = self._refine(cost_fn, samples, bounds, generator)
            costs = cost_fn(samples)
            evaluations += (rounds + 1) * samples.shape[1]
            trace.append(best.offer(samples, costs))
            costs = torch.where(costs.isfinite(), costs, torch.inf)
            kept = self._kept(samples, costs)
            mean, std = self._refit(samples, costs, mean, std)
            mean = bounds.project(mean[:, None])[:, 0]  # a mean of equal numbers is not exact
            if should_stop is not None and should_stop():
                break
        if not self.best_so_far:
            best = Incumbent(init)
        best.offer(mean[:, None], cost_fn(mean[:, None]))
        return SolverResult(*best.take(), initial_costs, evaluations, torch.stack(trace))

    def _num_drawn(self, iteration: int) -> int:
        """Samples of an iteration."""
        return self.num_samples

    def _noise(
        self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device
    ) -> Tensor:
        """(N, H, A) of variance 1."""
        return torch.randn(shape, generator=generator, device=device)

    def _kept(self, samples: Tensor, costs: Tensor) -> Tensor | None:
        """(B, K, H, A) samples that are evaluated again in the next iteration; None: none."""
        return None

    def _refine(
        self,
        cost_fn: CostFn,
        samples: Tensor,
        bounds: Bounds,
        generator: torch.Generator,
    ) -> tuple[Tensor, int]:
        """Improve samples before they are ranked; also the evaluations made of each."""
        return samples, 0

    @abstractmethod
    def _refit(
        self, samples: Tensor, costs: Tensor, mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New mean and standard deviation (B, H, A) from (B, N, H, A) samples.

        `costs` (B, N) are infinite where a sample must not count.
        """
