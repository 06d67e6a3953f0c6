"""Gradient-based planning: descend the cost through the world model (method of 2512.09929)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.planning.solver import CostFn, SolverResult, StopFn, pick_best

_MOMENTUM = 0.9


@dataclass(frozen=True)
class GradientSolver:
    """Descends from every starting point at once; gradients reach actions only.

    Attributes are those of `PlannerConfig`.
    """

    learning_rate: float = 0.2
    optimizer: str = "adam"
    action_noise_std: float = 0.003
    best_so_far: bool = True

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
        """See `Solver.solve`."""
        actions = init.clamp(low, high).requires_grad_(True)
        optimizer = self._make_optimizer(actions)
        best_costs = torch.full(init.shape[:2], torch.inf, device=init.device)
        best_actions = actions.detach().clone()
        first: Tensor | None = None
        evaluations = 0
        for _ in range(num_iterations):
            costs = cost_fn(actions)
            # A sum keeps problems and restarts independent of each other.
            (actions.grad,) = torch.autograd.grad(costs.sum(), actions)
            evaluations += 1
            values = costs.detach()
            first = values[:, 0] if first is None else first
            if self.best_so_far:
                better = values < best_costs  # False for NaN
                best_costs = torch.where(better, values, best_costs)
                best_actions[better] = actions.detach()[better]
            optimizer.step()
            with torch.no_grad():
                if self.action_noise_std:
                    noise = torch.randn(actions.shape, generator=generator, device=actions.device)
                    actions.add_(self.action_noise_std * noise)
                actions.clamp_(low, high)
            if should_stop is not None and should_stop():
                break
        with torch.no_grad():
            last = cost_fn(actions)
        evaluations += 1
        final = actions.detach()
        if self.best_so_far:
            candidates = torch.cat([best_actions, final], dim=1)
            result, costs = pick_best(candidates, torch.cat([best_costs, last], dim=1))
        else:
            result, costs = pick_best(final, last)
        assert first is not None
        return SolverResult(result, costs, first, evaluations * init.shape[1])

    def _make_optimizer(self, actions: Tensor) -> torch.optim.Optimizer:
        if self.optimizer == "sgd":
            return torch.optim.SGD([actions], lr=self.learning_rate)
        if self.optimizer == "momentum":
            return torch.optim.SGD([actions], lr=self.learning_rate, momentum=_MOMENTUM)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.optimizer]
        # One tensor: the grouped implementation only adds overhead.
        return kind([actions], lr=self.learning_rate, foreach=False)
