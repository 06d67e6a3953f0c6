"""What every solver is: a cost of action sequences in, the best sequence out.

Shapes: B problems, N candidates each, H horizon, A model action size. Actions are standardised.

All solvers draw the same random numbers for every problem of a batch, so that a plan does not
depend on what else is planned beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor

from wm_planner.errors import PlanningError
from wm_planner.planning.bounds import Bounds

if TYPE_CHECKING:
    from wm_planner.planning.upper import Subgoal

CostFn = Callable[[Tensor], Tensor]
StopFn = Callable[[], bool]


@dataclass(frozen=True)
class Iteration:
    """What a solver looked at in one iteration.

    Attributes:
        index: from 0.
        actions: (B, N, H, A) the candidates that it evaluated last.
        costs: (B, N) of them.
    """

    index: int
    actions: Tensor
    costs: Tensor


WatchFn = Callable[[Iteration], None]


def stop_after(
    seconds: float, clock: Callable[[], float], should_stop: StopFn | None = None
) -> StopFn:
    """Stops as `should_stop` does, and when so many seconds of `clock` have passed from now."""
    end_s = clock() + seconds
    return lambda: clock() >= end_s or (should_stop is not None and should_stop())


def watched(cost_fn: CostFn, should_stop: StopFn | None, watch: WatchFn) -> tuple[CostFn, StopFn]:
    """A cost and a stop that tell `watch` of each iteration of any solver: it asks once whether to
    stop in each of them.
    """
    seen: list[tuple[Tensor, Tensor]] = []
    count = itertools.count()

    def cost(actions: Tensor) -> Tensor:
        costs = cost_fn(actions)
        seen[:] = [(actions.detach().clone(), costs.detach())]
        return costs

    def stop() -> bool:
        watch(Iteration(next(count), *seen[0]))
        return should_stop is not None and should_stop()

    return cost, stop


@dataclass(frozen=True)
class SolverResult:
    """What a solver found.

    Attributes:
        actions: (B, H, A) standardised.
        costs: (B,) cost of those actions.
        initial_costs: (B,) cost of the first candidate it was given.
        num_evaluations: rollouts per problem.
        trace: (iterations, B) lowest cost among the candidates of each iteration; infinite where
            none was finite.
        bounds: what the actions were to keep.
        subgoal: what they lead to, of a planner of two levels; costs are those of its aim.
    """

    actions: Tensor
    costs: Tensor
    initial_costs: Tensor
    num_evaluations: int
    trace: Tensor
    bounds: Bounds | None = None
    subgoal: Subgoal | None = None


class Solver(Protocol):
    """Minimises a cost over bounded action sequences; sees neither model nor simulator.

    A solver is a frozen dataclass whose fields are its settings. It is chosen by the name of its
    entry point in the group 'wm_planner.solvers'.

    Attributes:
        usual_iterations: how many it takes when nobody says.
        descends: whether it goes downhill from several starting points, instead of sampling
            around the first.
    """

    usual_iterations: ClassVar[int]
    descends: ClassVar[bool]

    def solve(
        self,
        cost_fn: CostFn,
        init: Tensor,
        bounds: Bounds,
        generator: torch.Generator,
        num_iterations: int,
        should_stop: StopFn | None = None,
    ) -> SolverResult:
        """Search.

        Args:
            cost_fn: (B, N, H, A) -> (B, N), differentiable in its argument.
            init: (B, N, H, A) starting points, the most trusted one first.
            bounds: of the actions, and of their changes.
            generator: the only source of randomness.
            num_iterations: budget.
            should_stop: asked once an iteration; when it says yes, the best so far is returned.

        Raises:
            PlanningError: no candidate has a finite cost.
        """
        ...


class Incumbent:
    """The best candidate seen so far, for each problem; one that is not finite never becomes it.

    Args:
        like: (B, N, H, A) candidates whose shape, type and device are taken.
    """

    def __init__(self, like: Tensor) -> None:
        self.actions = like[:, 0].detach().clone()
        self.costs = torch.full_like(like[:, 0, 0, 0].detach(), torch.inf)

    def offer(self, actions: Tensor, costs: Tensor) -> Tensor:
        """Look at candidates (B, N, H, A) of cost (B, N); return the lowest finite one (B,)."""
        usable = costs.isfinite() & actions.isfinite().flatten(2).all(dim=2)
        best, index = torch.where(usable, costs, torch.inf).min(dim=1)
        chosen = actions[torch.arange(len(actions), device=actions.device), index]
        better = best < self.costs
        self.actions = torch.where(better[:, None, None], chosen, self.actions)
        self.costs = torch.where(better, best, self.costs)
        return best

    def take(self) -> tuple[Tensor, Tensor]:
        """Actions (B, H, A) and their costs (B,).

        Raises:
            PlanningError: a problem has no finite candidate.
        """
        lost = ~self.costs.isfinite()
        if lost.any():
            raise PlanningError(
                f"no finite plan for problem(s) {lost.nonzero().flatten().tolist()}: "
                "every candidate's cost is NaN or infinite"
            )
        return self.actions, self.costs
