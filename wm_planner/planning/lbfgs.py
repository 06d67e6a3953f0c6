"""Projected L-BFGS: many independent problems at once, each with its own memory and step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wm_planner.planning.bounds import Bounds, Face
from wm_planner.planning.solver import CostFn, Incumbent, SolverResult, StopFn

_ARMIJO = 1e-4
_BACKTRACKS = 6
_SHRINK = 0.3
_EPS = 1e-12


@dataclass(frozen=True)
class LBFGSSolver:
    """Quasi-Newton steps on the free variables, projected onto the bounds and rates.

    Attributes:
        learning_rate: largest entry of the first step, standardised action units; later steps
            have the length that the curvature says.
        memory: pairs remembered.
    """

    usual_iterations: ClassVar[int] = 20
    descends: ClassVar[bool] = True

    learning_rate: float = 0.2
    memory: int = 10

    def solve(
        self,
        cost_fn: CostFn,
        init: Tensor,
        bounds: Bounds,
        generator: torch.Generator,
        num_iterations: int,
        should_stop: StopFn | None = None,
    ) -> SolverResult:
        """See `Solver.solve`; without randomness."""
        shape = init.shape

        def project(x_BNX: Tensor) -> Tensor:
            return bounds.project(x_BNX.reshape(shape)).flatten(2)

        def value_and_gradient(x_BNX: Tensor) -> tuple[Tensor, Tensor]:
            x_BNX = x_BNX.detach().requires_grad_(True)
            with torch.enable_grad():
                costs = cost_fn(x_BNX.reshape(shape))
                (gradient,) = torch.autograd.grad(costs.sum(), x_BNX)
            return costs.detach(), gradient

        x = project(init.flatten(2))
        f, g = value_and_gradient(x)
        evaluations, initial_costs = 1, f[:, 0]
        best, trace = Incumbent(init), []
        pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        for _ in range(num_iterations):
            trace.append(best.offer(x.reshape(shape), f))
            face = bounds.face(x.reshape(shape), g.reshape(shape))

            def reduce(vector_BNX: Tensor, face: Face = face) -> Tensor:
                return face.reduce(vector_BNX.reshape(shape)).flatten(2)

            steepest = reduce(g)
            direction = -_two_loop(steepest, reduce, pairs)
            first = self.learning_rate / steepest.abs().amax(-1, keepdim=True).clamp(min=_EPS)
            newton = _dot(direction, g) < -_EPS * _dot(steepest, steepest)
            newton &= sum((valid for *_, valid in pairs), torch.zeros_like(newton)).bool()
            direction = torch.where(newton, direction, -first * steepest)
            old_x, old_g, waiting = x, g, torch.ones_like(f, dtype=torch.bool)
            step = 1.0
            for _ in range(_BACKTRACKS):
                trial = project(old_x + step * direction)
                trial_f, trial_g = value_and_gradient(trial)
                evaluations += 1
                enough = trial_f <= f + _ARMIJO * _dot(old_g, trial - old_x)[..., 0]
                accept = waiting & enough & trial_g.isfinite().all(-1)
                x = torch.where(accept[..., None], trial, x)
                g = torch.where(accept[..., None], trial_g, g)
                f = torch.where(accept, trial_f, f)
                waiting &= ~accept
                step *= _SHRINK
                if not waiting.any():
                    break
            s, y = x - old_x, g - old_g
            # Where no step was found the memory is wrong: begin again with steepest descent.
            moved = ~waiting[..., None]
            pairs = [(s_, y_, valid & moved) for s_, y_, valid in pairs]
            pairs = [*pairs, (s, y, _dot(s, y) > _EPS * _dot(y, y))][-self.memory :]
            at_rest = waiting & ~newton[..., 0]  # not even steepest descent finds a step
            if at_rest.all() or (should_stop is not None and should_stop()):
                break
        best.offer(x.reshape(shape), f)
        count = evaluations * shape[1]
        return SolverResult(*best.take(), initial_costs, count, torch.stack(trace))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)


def _two_loop(
    gradient: Tensor,
    reduce: Callable[[Tensor], Tensor],
    pairs: list[tuple[Tensor, Tensor, Tensor]],
) -> Tensor:
    """Inverse Hessian times gradient, among the directions that `reduce` leaves.

    Pairs (s, y, valid) that are not valid, or without positive curvature there, change nothing.
    """
    q, scale, used = gradient, torch.ones_like(gradient[..., :1]), []
    for s, y, valid in pairs:
        s, y = reduce(s), reduce(y)
        curvature, length = _dot(s, y), _dot(y, y)
        good = valid & (curvature > _EPS * length)
        rho = torch.where(good, 1 / torch.where(good, curvature, 1.0), 0.0)
        scale = torch.where(good, curvature / length.clamp(min=_EPS), scale)  # the newest sets it
        used.append((s, y, rho))
    alphas = []
    for s, y, rho in reversed(used):
        alphas.append(rho * _dot(s, q))
        q = q - alphas[-1] * y
    q = q * scale
    for (s, y, rho), alpha in zip(used, reversed(alphas), strict=True):
        q = q + s * (alpha - rho * _dot(y, q))
    return q
