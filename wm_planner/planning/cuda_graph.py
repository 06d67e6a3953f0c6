"""Gradient descent whose iteration is recorded once and then replayed without Python.

At batch 1 a GPU waits for its thousands of small launches; a CUDA graph issues them at once. An
iteration is rollout, cost, derivative, optimizer step, noise, bounds and the best so far, on
tensors that stay where they are; a plan only copies its problem into them. The random numbers are
drawn outside, in the order of `GradientSolver`, whose results these are to rounding.

Written against the documentation of CUDA graphs and tested on a CPU with a recorder that calls
again; not measured on a GPU yet.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from wm_planner.models.world_model import Latent
from wm_planner.planning.bounds import Bounds
from wm_planner.planning.gradient import GradientSolver, torch_optimizer
from wm_planner.planning.problem import Problem
from wm_planner.planning.solver import Incumbent, SolverResult, StopFn

CostsOf = Callable[[Problem, Tensor], Tensor]
Recorder = Callable[[Callable[[], None]], Callable[[], None]]
_WARM_UP = 3  # iterations before the recording, for libraries that choose and allocate at first
_KEPT = 4  # recordings


def record_cuda_graph(work: Callable[[], None]) -> Callable[[], None]:
    """Record CUDA work; the result issues it again."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # The thread that encodes goes on; by default what it allocates would end the recording.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


class CapturedSolver:
    """`GradientSolver` by replay.

    Args:
        solver: whose settings are taken.
        costs: (B, N) costs of (B, N, H, A) candidates of a problem.
        record: records work and returns what repeats it.
    """

    def __init__(
        self,
        solver: GradientSolver,
        costs: CostsOf,
        record: Recorder = record_cuda_graph,
    ) -> None:
        self._solver, self._costs = solver, costs
        self._record = record
        self._kept: dict[tuple[object, ...], _Iteration] = {}
        self.failed = False

    def forget(self) -> None:
        """Drop all recordings: the weights they read are no longer the model's."""
        self._kept.clear()

    def solve(
        self,
        problem: Problem,
        init: Tensor,
        bounds: Bounds,
        generator: torch.Generator,
        num_iterations: int,
        should_stop: StopFn | None = None,
    ) -> SolverResult | None:
        """As `GradientSolver.solve`; None when nothing could be recorded."""
        iteration = None if self.failed else self._iteration(problem, init, bounds)
        if iteration is None:
            return None
        iteration.begin(problem, init, bounds)
        trace, initial_costs = [], torch.empty(0)
        for index in range(num_iterations):
            iteration.step(generator)
            if index == 0:
                initial_costs = iteration.costs[:, 0].clone()
            trace.append(iteration.lowest.clone())
            if should_stop is not None and should_stop():
                break
        iteration.step(None)  # for the cost of the last iterate
        best = iteration.best
        if not self._solver.best_so_far:
            best = Incumbent(init)
            best.offer(iteration.before, iteration.costs)
        actions, costs = (x.clone() for x in best.take())
        evaluations = (len(trace) + 1) * init.shape[1]
        return SolverResult(actions, costs, initial_costs, evaluations, torch.stack(trace))

    def _iteration(self, problem: Problem, init: Tensor, bounds: Bounds) -> _Iteration | None:
        shapes = tuple(x.shape for x in _tensors(problem))
        key = (shapes, init.shape, problem.alpha, bounds.rates is None)
        if key not in self._kept:
            if len(self._kept) == _KEPT:
                self.forget()
            try:
                self._kept[key] = _Iteration(
                    self._solver, self._costs, problem, init, bounds, self._record
                )
            except RuntimeError as error:
                warnings.warn(
                    f"an iteration could not be recorded ({error}); planning goes on without, "
                    "more slowly",
                    stacklevel=2,
                )
                self.failed = True
                return None
        return self._kept[key]


class _Iteration:
    """The tensors of one iteration, and what repeats it."""

    def __init__(
        self,
        solver: GradientSolver,
        costs: CostsOf,
        problem: Problem,
        init: Tensor,
        bounds: Bounds,
        record: Recorder,
    ) -> None:
        self._solver, self._costs = solver, costs
        self._problem = _copy(problem)
        self.before = init.clone()
        low, high = (torch.full_like(init[:, :1], x) for x in (-math.inf, math.inf))
        rates = bounds.rates
        if rates is not None:
            rates = replace(rates, step=rates.step.clone(), previous=rates.previous.clone())
        self._bounds = Bounds(low, high, rates)
        self._actions = init.clone().requires_grad_(True)
        self._noise = torch.zeros_like(init[0])
        self._optimizer = torch_optimizer(
            solver.optimizer, self._actions, solver.learning_rate, capturable=init.is_cuda
        )
        self.best = Incumbent(init)
        self.costs, self.lowest = init.new_zeros(init.shape[:2]), init.new_zeros(len(init))
        self._repeat = record(self._work)

    def begin(self, problem: Problem, init: Tensor, bounds: Bounds) -> None:
        """Take another problem, starting points and bounds."""
        for own, new in zip(_tensors(self._problem), _tensors(problem), strict=True):
            own.copy_(new)
        with torch.no_grad():
            self._bounds.low.copy_(bounds.low)
            self._bounds.high.copy_(bounds.high)
            if self._bounds.rates is not None and bounds.rates is not None:
                self._bounds.rates.step.copy_(bounds.rates.step)
                self._bounds.rates.previous.copy_(bounds.rates.previous)
            self._actions.copy_(bounds.project(init))
            for state in self._optimizer.state[self._actions].values():
                if isinstance(state, Tensor):
                    state.zero_()
        self.best.costs.fill_(torch.inf)

    def step(self, generator: torch.Generator | None) -> None:
        """One iteration, with noise of a generator or without."""
        self._noise.zero_()
        if generator is not None and self._solver.action_noise_std:
            self._noise.normal_(generator=generator).mul_(self._solver.action_noise_std)
        self._repeat()

    def _work(self) -> None:
        with torch.enable_grad():
            costs = self._costs(self._problem, self._actions)
            (gradient,) = torch.autograd.grad(costs.sum(), self._actions)
        with torch.no_grad():
            self._actions.grad = self._bounds.descent(self._actions, gradient)
        self.costs.copy_(costs.detach())
        self.before.copy_(self._actions.detach())
        found = self.best.actions, self.best.costs
        self.lowest.copy_(self.best.offer(self.before, self.costs))
        for own, new in zip(found, (self.best.actions, self.best.costs), strict=True):
            own.copy_(new)
        self.best.actions, self.best.costs = found
        self._optimizer.step()
        with torch.no_grad():
            self._bounds.project_(self._actions.add_(self._noise))


def _tensors(problem: Problem) -> list[Tensor]:
    now, goal = problem.now, problem.goal
    tensors = [now.visual, now.proprio, goal.visual, goal.proprio, problem.weights]
    return tensors if problem.past_actions is None else [*tensors, problem.past_actions]


def _copy(problem: Problem) -> Problem:
    past = problem.past_actions
    return replace(
        problem,
        now=Latent(problem.now.visual.clone(), problem.now.proprio.clone()),
        goal=Latent(problem.goal.visual.clone(), problem.goal.proprio.clone()),
        past_actions=None if past is None else past.clone(),
        weights=problem.weights.clone(),
    )
