"""Settings of a planner, checked when they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from wm_planner.config import MAX_SEED, Natural, from_dict, parse_settings, suggest
from wm_planner.errors import ConfigError
from wm_planner.planning.costs import make_terms
from wm_planner.planning.levels import Levels
from wm_planner.planning.registry import SOLVERS, make_solver
from wm_planner.planning.solver import Solver

_CHOICES = {
    "optimizer": ("sgd", "momentum", "adam", "adamw"),
    "objective": ("last", "all", "staged"),
    "init": ("zero", "randn"),
    "rollout": ("markov", "history"),
    "execution": ("auto", "plain"),
    "precision": ("float32", "bfloat16"),
}
_AT_LEAST = {
    "horizon": 1,
    "num_iterations": 1,
    "warm_iterations": 1,
    "num_restarts": 1,
    "num_candidates": 1,
    "warm_candidates": 1,
    "penalty_rounds": 1,
    "penalty_growth": 1,
    "replan_steps": 1,
    "num_samples": 2,
    "num_elites": 2,
    "warm_samples": 2,
    "warm_elites": 2,
    "gradient_steps": 1,
    "action_noise_std": 0,
    "restart_std": 0,
    "restart_exponent": 0,
    "objective_alpha": 0,
    "adapt_learning_rate": 0,
    "adapt_transitions": 1,
    "adapt_layers": 0,
}
_POSITIVE = (
    "learning_rate",
    "objective_base",
    "init_std",
    "warm_init_std",
    "temperature",
    "adapt_max_change",
    "max_seconds",
)
# Of any other number with a point: far beyond what makes sense, and finite.
_MOST = 1e6
# A weight to the power of the horizon is a float32; of 10 only the slowest wave is left.
_AT_MOST = {"objective_base": 10.0, "restart_exponent": 10.0}


class Table(dict[str, Any]):
    """A mapping that nobody changes, so that what holds it can be a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(map(str, self)))


@dataclass(frozen=True)
class PlannerConfig:
    """One strict set of settings for every solver.

    Attributes:
        solver: 'gbp' (gradient-based planning), 'cem', 'icem', 'mppi', 'gradient-cem', 'lbfgs', or
            one of another package, see `planning.solver`.
        solver_settings: settings that only the chosen solver has, by name.
        horizon: model steps planned ahead.
        num_iterations: optimizer steps or refits of a plan; None takes the solver's usual number.
        warm_iterations: the same when the last plan is at hand; None for num_iterations.
        max_seconds: where the robot does not wait, and in evaluation with a measured latency, a
            plan ends after so long with what it has, one iteration at least; None for the time
            from one plan to the next. Elsewhere there is no limit.
        learning_rate: step size in standardised action units (gbp, gradient-cem, first lbfgs step).
        optimizer: 'sgd', 'momentum' (0.9), 'adam' or 'adamw' (gbp, gradient-cem).
        num_restarts: starting points optimised side by side (gbp, lbfgs).
        init: starting point of a plan without a warm start (gbp, lbfgs): 'zero' (rest, see
            `planning.rest`) or 'randn' (standard normal).
        num_candidates: starting points tried by one rollout each; the `num_restarts` of least
            cost are optimised (gbp, lbfgs). No more than num_restarts: all are.
        warm_candidates: the same when the last plan is at hand; 1 goes on with that plan alone,
            None takes num_candidates.
        restart_std: spread of the further starting points, standardised action units; each holds
            its action for a model step, because independent raw actions would cancel out.
        restart_exponent: the power of that spread falls with the frequency, along the plan, to this
            power (see `noise.coloured`): 0 draws each model step anew, 2 wanders off.
        action_noise_std: noise added after every optimizer step (gbp, gradient-cem).
        best_so_far: return the best candidate seen instead of the last iterate (not lbfgs, which
            never goes up).
        bounded: keep actions inside the robot's bounds, and their changes inside its rates.
        num_samples, num_elites: candidates and refitted share (cem, gradient-cem; mppi has no
            elites).
        init_std: first standard deviation of the samples (mppi keeps it).
        warm_samples, warm_elites, warm_init_std: the same when the last plan is at hand; None takes
            those of a first plan, of elites their share of the samples.
        gradient_steps: steps that every sample takes (gradient-cem).
        temperature: in units of the cost (mppi).
        objective: 'last', 'all' or 'staged'; see `planning.objective`.
        objective_base: weight ratio of later to earlier frames in 'all', 10 at most.
        objective_alpha: weight of the proprioception error; 0 ignores it.
        costs: further terms of the cost: name -> weight, or a mapping of the term's settings with
            its weight; 'goal' is the weight of the goal's distance, 1 unless given. See
            `planning.costs`.
        penalty_rounds, penalty_growth: a plan with a constraint among its costs is made in so many
            rounds, each from the plan of the one before. The constraint's weight grows by this
            factor from round to round, and is the given one in the last.
        replan_steps: model steps executed between two plans.
        warm_start: start from the last plan, shifted by the time that passed.
        rollout: 'markov' or 'history'.
        execution: 'auto' rolls out by the fastest way known for the model and device, 'plain' by
            the model as it trains; plans are equal to rounding.
        precision: of the matrix products, 'float32' or 'bfloat16' (the rest stays in float32).
        adapt_learning_rate: about how far every weight that adapts to what happens moves before a
            plan, for example 0.0002; 0 leaves the model as it is. See `planning.adaptation`.
        adapt_transitions: executed model steps that are learnt from, the last ones.
        adapt_layers: last blocks of the predictor that adapt, with all after them; 0 for all.
        adapt_max_change: greatest norm of the change, relative to that of the weights.
        levels: plans over two time scales, for a checkpoint with an upper model: a mapping of the
            keys of `Levels`, empty for their defaults; None plans without. See `planning.upper`.
        seed: of the planner's own random generator.
    """

    solver: str = "gbp"
    solver_settings: dict[str, Any] = field(default_factory=Table)
    horizon: Natural = 5
    num_iterations: Natural | None = None
    warm_iterations: Natural | None = None
    max_seconds: float | None = None
    learning_rate: float = 0.2
    optimizer: str = "adam"
    num_restarts: Natural = 1
    num_candidates: Natural = 1
    warm_candidates: Natural | None = None
    init: str = "randn"
    restart_std: float = 1.0
    restart_exponent: float = 0.0
    action_noise_std: float = 0.003
    best_so_far: bool = True
    bounded: bool = True
    num_samples: Natural = 300
    num_elites: Natural = 30
    init_std: float = 1.0
    warm_samples: Natural | None = None
    warm_elites: Natural | None = None
    warm_init_std: float | None = None
    gradient_steps: Natural = 1
    temperature: float = 0.01
    objective: str = "all"
    objective_base: float = 0.5
    objective_alpha: float = 1.0
    costs: dict[str, Any] = field(default_factory=Table)
    penalty_rounds: Natural = 3
    penalty_growth: float = 10.0
    replan_steps: int = 1
    warm_start: bool = True
    rollout: str = "markov"
    execution: str = "auto"
    precision: str = "float32"
    adapt_learning_rate: float = 0.0
    adapt_transitions: Natural = 5
    adapt_layers: Natural = 0
    adapt_max_change: float = 0.02
    levels: Levels | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"unknown solver '{self.solver}'.{suggest(self.solver, SOLVERS)}")
        for name in ("solver_settings", "costs"):
            object.__setattr__(self, name, Table(getattr(self, name)))
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"unknown {name} '{value}'.{suggest(str(value), choices)}")
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        for name in (*_AT_LEAST, *_POSITIVE):
            value, most = getattr(self, name), _AT_MOST.get(name, _MOST)
            if isinstance(value, float) and value > most:
                raise ValueError(f"{name} must be at most {most:g}, got {value}")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must be from 0 to {MAX_SEED}, got {self.seed}")
        if self.replan_steps > self.horizon:
            raise ValueError(f"replan_steps {self.replan_steps} exceeds horizon {self.horizon}")
        self.make_solver()
        try:
            self.when_warm()
        except ValueError as error:
            raise ValueError(f"with a warm start, {error}") from error
        make_terms(self.costs)
        if self.levels is not None:
            try:
                self.of_upper()
            except ValueError as error:
                raise ValueError(f"levels: {error}") from error

    def make_solver(self, action_size: int = 0) -> Solver:
        """The solver, for a robot with so many entries of one raw action."""
        return make_solver(self.solver, self, self.solver_settings, action_size)

    def when_warm(self) -> PlannerConfig:
        """The settings of samples as a plan from the last one has them."""
        if (self.warm_samples, self.warm_elites, self.warm_init_std) == (None, None, None):
            return self
        samples = self.warm_samples or self.num_samples
        share = max(2, round(self.num_elites * samples / self.num_samples))
        return replace(
            self,
            num_samples=samples,
            num_elites=self.warm_elites or share,
            init_std=self.warm_init_std or self.init_std,
            warm_samples=None,
            warm_elites=None,
            warm_init_std=None,
        )

    def of_upper(self) -> PlannerConfig:
        """The settings of the upper level, whose horizon is in macro-steps.

        Raises:
            ValueError: there are no levels.
        """
        levels = self.levels
        if levels is None:
            raise ValueError("the planner has one level")
        return PlannerConfig(
            horizon=levels.macro_horizon,
            num_iterations=levels.num_iterations,
            warm_iterations=levels.warm_iterations,
            learning_rate=levels.learning_rate,
            num_candidates=levels.num_candidates,
            warm_candidates=1,
            num_restarts=levels.num_restarts,
            action_noise_std=0.0,
            objective_base=levels.objective_base,
            execution=self.execution,
            precision=self.precision,
        )

    @property
    def descends(self) -> bool:
        """Whether the solver goes downhill from starting points, instead of sampling."""
        return SOLVERS[self.solver].descends

    @property
    def adapts(self) -> bool:
        """Whether the model follows what happens to one robot."""
        return self.adapt_learning_rate > 0

    def num_frames(self, num_hist: int) -> int:
        """Frames that an observation should hold for a model that sees up to `num_hist`."""
        seen = num_hist if self.rollout == "history" else 1
        return max(seen, 2) if self.adapts else seen

    def iterations(self, warm: bool) -> int:
        """Budget of one plan, with or without a warm start."""
        if warm and self.warm_iterations is not None:
            return self.warm_iterations
        return self.num_iterations or SOLVERS[self.solver].usual_iterations


def planner_config(
    base: dict[str, Any], settings: Iterable[str] = (), source: str = "planner"
) -> PlannerConfig:
    """Settings of a checkpoint, changed by 'key=value' strings.

    Args:
        base: values by field name, as a checkpoint recommends them. A key that is a solver's name
            holds a mapping of values for that solver alone.
        settings: changes, values in YAML.
        source: names the origin in errors.

    Raises:
        ConfigError: an unknown key or a value that cannot be used.
    """
    changes = parse_settings(settings, source)
    values = {key: value for key, value in base.items() if key not in SOLVERS}
    for name in SOLVERS:
        if not isinstance(base.get(name, {}), dict):
            raise ConfigError(f"{source}: {name}: expected a mapping, got {base[name]!r}")
    solver = changes.get("solver", values.get("solver", PlannerConfig.solver))
    values.update(base.get(solver, {}))
    return from_dict(PlannerConfig, {**values, **changes}, source)
