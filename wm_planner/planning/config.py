"""Settings of a planner, checked when they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import yaml

from wm_planner.config import from_dict, suggest
from wm_planner.errors import ConfigError

SOLVERS = ("gbp", "cem")
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")
OBJECTIVES = ("last", "all", "staged")
INITS = ("zero", "randn")
ROLLOUTS = ("markov", "history")


@dataclass(frozen=True)
class PlannerConfig:
    """One strict set of settings for every solver.

    Attributes:
        solver: 'gbp' (gradient-based planning) or 'cem'.
        horizon: model steps planned ahead.
        num_iterations: optimizer steps, or CEM refits, of a plan from scratch.
        warm_iterations: the same when the last plan is at hand; None for num_iterations.
        learning_rate: step size in standardised action units (gbp).
        optimizer: 'sgd', 'momentum' (0.9), 'adam' or 'adamw' (gbp).
        num_restarts: starting points optimised side by side (gbp).
        init: 'zero' (the raw action zero) or 'randn' (standard normal) starting point (gbp).
        restart_std: spread of the further starting points, standardised action units (gbp).
        action_noise_std: noise added after every optimizer step (gbp).
        best_so_far: return the best iterate instead of the last one (gbp).
        bounded: keep actions inside the task's bounds.
        num_samples, num_elites: candidates and refitted share (cem).
        init_std: first standard deviation of the samples (cem).
        objective: 'last', 'all' or 'staged'; see `planning.objective`.
        objective_base: weight ratio of later to earlier frames in 'all'.
        objective_alpha: weight of the proprioception error; None takes the task's.
        replan_steps: model steps executed between two plans.
        warm_start: start from the last plan, shifted by the time that passed.
        rollout: 'markov' or 'history'.
        seed: of the planner's own random generator.
    """

    solver: str = "gbp"
    horizon: int = 5
    num_iterations: int = 100
    warm_iterations: int | None = None
    learning_rate: float = 0.2
    optimizer: str = "adam"
    num_restarts: int = 1
    init: str = "randn"
    restart_std: float = 1.0
    action_noise_std: float = 0.003
    best_so_far: bool = True
    bounded: bool = True
    num_samples: int = 300
    num_elites: int = 30
    init_std: float = 1.0
    objective: str = "all"
    objective_base: float = 0.5
    objective_alpha: float | None = None
    replan_steps: int = 1
    warm_start: bool = True
    rollout: str = "markov"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("solver", SOLVERS),
            ("optimizer", OPTIMIZERS),
            ("objective", OBJECTIVES),
            ("init", INITS),
            ("rollout", ROLLOUTS),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"unknown {name} '{value}'.{suggest(str(value), choices)}")
        for name in ("horizon", "num_iterations", "num_restarts", "replan_steps", "num_elites"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.warm_iterations is not None and self.warm_iterations < 1:
            raise ValueError(f"warm_iterations must be at least 1, got {self.warm_iterations}")
        if self.replan_steps > self.horizon:
            raise ValueError(f"replan_steps {self.replan_steps} exceeds horizon {self.horizon}")
        if not 2 <= self.num_elites <= self.num_samples:
            raise ValueError(
                f"num_elites must be from 2 to num_samples {self.num_samples}, "
                f"got {self.num_elites}"
            )
        for name in ("learning_rate", "objective_base", "init_std"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.action_noise_std < 0 or self.restart_std < 0:
            raise ValueError("action_noise_std and restart_std must not be negative")


def planner_config(
    base: dict, settings: Iterable[str] = (), source: str = "planner"
) -> PlannerConfig:
    """Settings of a checkpoint, changed by 'key=value' strings.

    Args:
        base: values by field name, as a checkpoint recommends them.
        settings: changes, values in YAML.
        source: names the origin in errors.

    Raises:
        ConfigError: an unknown key or a value that cannot be used.
    """
    values = dict(base)
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"{source}: '{setting}' is not of the form key=value")
        values[key.strip()] = yaml.safe_load(text)
    return from_dict(PlannerConfig, values, source)
