"""Solvers by the names of the command line."""

from __future__ import annotations

from collections.abc import Callable

from wm_planner.planning.cem import CEMSolver
from wm_planner.planning.config import PlannerConfig
from wm_planner.planning.gradient import GradientSolver
from wm_planner.planning.gradient_cem import GradientCEMSolver
from wm_planner.planning.lbfgs import LBFGSSolver
from wm_planner.planning.mppi import MPPISolver
from wm_planner.planning.solver import Solver


def make_solver(config: PlannerConfig) -> Solver:
    """The solver that `config` names, with its settings."""
    return _MAKE[config.solver](config)


def _gbp(config: PlannerConfig) -> Solver:
    return GradientSolver(
        learning_rate=config.learning_rate,
        optimizer=config.optimizer,
        action_noise_std=config.action_noise_std,
        best_so_far=config.best_so_far,
        stall_iterations=config.stall_iterations,
    )


def _cem(config: PlannerConfig) -> Solver:
    return CEMSolver(
        num_samples=config.num_samples,
        init_std=config.init_std,
        best_so_far=config.best_so_far,
        num_elites=config.num_elites,
    )


def _mppi(config: PlannerConfig) -> Solver:
    return MPPISolver(
        num_samples=config.num_samples,
        init_std=config.init_std,
        best_so_far=config.best_so_far,
        temperature=config.temperature,
        control_weight=config.control_weight,
    )


def _gradient_cem(config: PlannerConfig) -> Solver:
    return GradientCEMSolver(
        num_samples=config.num_samples,
        init_std=config.init_std,
        best_so_far=config.best_so_far,
        num_elites=config.num_elites,
        gradient_steps=config.gradient_steps,
        learning_rate=config.learning_rate,
        optimizer=config.optimizer,
        action_noise_std=config.action_noise_std,
    )


def _lbfgs(config: PlannerConfig) -> Solver:
    return LBFGSSolver(learning_rate=config.learning_rate)


_MAKE: dict[str, Callable[[PlannerConfig], Solver]] = {
    "gbp": _gbp,
    "cem": _cem,
    "mppi": _mppi,
    "gradient-cem": _gradient_cem,
    "lbfgs": _lbfgs,
}
