"""Gradient-based planning: descend the cost through the world model (method of 2512.09929)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wm_planner.planning.bounds import Bounds
from wm_planner.planning.solver import CostFn, Incumbent, SolverResult, StopFn

MAX_HALVINGS = 20
_MOMENTUM = 0.9
_BETAS, _EPS = (0.9, 0.999), 1e-8  # of Adam


class Adam:
    """`torch.optim.Adam` for one tensor: the same numbers without its bookkeeping.

    In an iteration of a small model that would be one part in twenty.
    """

    def __init__(self, actions: Tensor, learning_rate: float) -> None:
        self._actions, self._learning_rate, self._count = actions, learning_rate, 0
        self._mean, self._square = torch.zeros_like(actions), torch.zeros_like(actions)

    @torch.no_grad()
    def step(self) -> None:
        """Move along `actions.grad`."""
        gradient = self._actions.grad
        assert gradient is not None
        self._count += 1
        self._mean.lerp_(gradient, 1 - _BETAS[0])
        self._square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        rate = self._learning_rate / (1 - _BETAS[0] ** self._count)
        scale = (self._square.sqrt() / (1 - _BETAS[1] ** self._count) ** 0.5).add_(_EPS)
        self._actions.addcdiv_(self._mean, scale, value=-rate)

    def keep(self, actions: Tensor, rows: Tensor, index: Tensor) -> None:
        """Go on with some of the candidates.

        Args:
            actions: (B, K, H, A) those that stay, a tensor of their own.
            rows, index: (B, 1) and (B, K): where they were.
        """
        self._actions = actions
        self._mean, self._square = self._mean[rows, index], self._square[rows, index]


def make_optimizer(
    name: str, actions: Tensor, learning_rate: float
) -> Adam | torch.optim.Optimizer:
    """The optimizer called `name`, with its usual settings, for one tensor of actions."""
    if name == "adam":
        return Adam(actions, learning_rate)
    return torch_optimizer(name, actions, learning_rate)


def torch_optimizer(
    name: str, actions: Tensor, learning_rate: float, capturable: bool = False
) -> torch.optim.Optimizer:
    """The same from torch.

    `capturable` keeps its state on the GPU, so that a CUDA graph can hold a step.
    """
    if name in ("sgd", "momentum"):
        momentum = _MOMENTUM if name == "momentum" else 0.0
        return torch.optim.SGD([actions], lr=learning_rate, momentum=momentum)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    # One tensor: the grouped implementation only adds overhead.
    return kind([actions], lr=learning_rate, foreach=False, capturable=capturable)


def descend(
    cost_fn: CostFn,
    actions: Tensor,
    optimizer: Adam | torch.optim.Optimizer,
    noise_std: float,
    bounds: Bounds,
    generator: torch.Generator,
) -> Tensor:
    """One optimizer step on `actions` (B, N, H, A), in place, then noise, then the bounds.

    Returns:
        (B, N) costs before the step.
    """
    with torch.enable_grad():
        costs = cost_fn(actions)
        # A sum keeps problems and candidates independent; no weight sees a gradient.
        (gradient,) = torch.autograd.grad(costs.sum(), actions)
    with torch.no_grad():
        actions.grad = bounds.descent(actions, gradient)
    optimizer.step()
    with torch.no_grad():
        if noise_std:
            shape = actions.shape[1:]
            actions += noise_std * torch.randn(shape, generator=generator, device=actions.device)
        bounds.project_(actions)
    return costs.detach()


@dataclass(frozen=True)
class GradientSolver:
    """Descends from every starting point at once.

    Attributes are those of `PlannerConfig`, and one of its own.

    Attributes:
        halvings: so many times on the way, in equal distances, the better half of what descends
            goes on (successive halving); 0 descends from every starting point to the end.
    """

    usual_iterations: ClassVar[int] = 100
    descends: ClassVar[bool] = True

    learning_rate: float = 0.2
    optimizer: str = "adam"
    action_noise_std: float = 0.003
    best_so_far: bool = True
    halvings: int = 0

    def __post_init__(self) -> None:
        whole = isinstance(self.halvings, int) and not isinstance(self.halvings, bool)
        if not (whole and 0 <= self.halvings <= MAX_HALVINGS):
            raise ValueError(
                f"halvings must be a whole number from 0 to {MAX_HALVINGS}, got {self.halvings!r}"
            )
        if self.halvings and self.optimizer != "adam":
            raise ValueError(f"halvings need the optimizer adam, got {self.optimizer}")

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
        actions = bounds.project(init).requires_grad_(True)
        optimizer = make_optimizer(self.optimizer, actions, self.learning_rate)
        best, trace, initial_costs = Incumbent(init), [], torch.empty(0)
        evaluations, costs = 0, torch.empty(0)
        parts = self.halvings + 1
        halving_at = {num_iterations * part // parts for part in range(1, parts)} - {0}
        for iteration in range(num_iterations):
            if iteration in halving_at and actions.shape[1] > 1:
                assert isinstance(optimizer, Adam)
                actions = _better_half(actions, costs, optimizer)
            evaluations += actions.shape[1]
            before = actions.detach().clone()
            costs = descend(cost_fn, actions, optimizer, self.action_noise_std, bounds, generator)
            if iteration == 0:
                initial_costs = costs[:, 0]
            trace.append(best.offer(before, costs))
            if should_stop is not None and should_stop():
                break
        with torch.no_grad():
            last = cost_fn(actions)
        final = actions.detach()
        if not self.best_so_far:
            best = Incumbent(init)
        best.offer(final, last)
        evaluations += actions.shape[1]
        return SolverResult(*best.take(), initial_costs, evaluations, torch.stack(trace))


def _better_half(actions: Tensor, costs: Tensor, optimizer: Adam) -> Tensor:
    """The cheaper half of (B, N, H, A) candidates by their last costs (B, N), in their order."""
    count = (actions.shape[1] + 1) // 2
    costs = torch.where(costs.isfinite(), costs, torch.inf)
    index = costs.topk(count, dim=1, largest=False).indices.sort(dim=1).values
    rows = torch.arange(len(actions), device=actions.device)[:, None]
    kept = actions.detach()[rows, index].requires_grad_(True)
    optimizer.keep(kept, rows, index)
    return kept
