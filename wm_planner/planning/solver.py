"""What every solver is: a cost of action sequences in, the best sequence out.

Shapes: B problems, N candidates each, H horizon, A model action size. Actions are standardised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wm_planner.errors import PlanningError

CostFn = Callable[[Tensor], Tensor]
StopFn = Callable[[], bool]


@dataclass(frozen=True)
class SolverResult:
    """What a solver found.

    Attributes:
        actions: (B, H, A) standardised.
        costs: (B,) cost of those actions.
        initial_costs: (B,) cost of the first candidate it was given.
        num_evaluations: rollouts per problem.
    """

    actions: Tensor
    costs: Tensor
    initial_costs: Tensor
    num_evaluations: int


class Solver(Protocol):
    """Minimises a cost over bounded action sequences; sees neither model nor simulator."""

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
        """Search.

        Args:
            cost_fn: (B, N, H, A) -> (B, N), differentiable in its argument.
            init: (B, N, H, A) starting points, the most trusted one first.
            low, high: (A,) bounds; infinite where there are none.
            generator: the only source of randomness.
            num_iterations: budget.
            should_stop: asked once an iteration; when it says yes, the best so far is returned.

        Raises:
            PlanningError: no candidate has a finite cost.
        """
        ...


def pick_best(actions: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
    """The candidate of lowest finite cost for each problem.

    Args:
        actions: (B, N, H, A), costs: (B, N).

    Raises:
        PlanningError: a problem has no finite candidate.
    """
    usable = costs.isfinite() & actions.flatten(2).isfinite().all(dim=2)
    ranked = torch.where(usable, costs, torch.inf)
    best, index = ranked.min(dim=1)
    if not best.isfinite().all():
        problems = (~best.isfinite()).nonzero().flatten().tolist()
        raise PlanningError(
            f"no finite plan for problem(s) {problems}: every candidate's cost is NaN or infinite"
        )
    return actions[torch.arange(len(actions), device=actions.device), index], best
