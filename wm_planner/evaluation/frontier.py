"""The success-time frontier: what to measure. `evaluation.frontier_points` has what was found.

Every planner is tuned by the same search. Then the budgets of its first plan and of its warm plans
are swept separately, all planners by turns on the same targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from wm_planner.config import MAX_SEED, Fraction, Natural, suggest
from wm_planner.planning import SOLVERS, PlannerConfig
from wm_planner.tasks import get_task

FIRST, WARM, TUNED, FIXED = "first", "warm", "tuned", "fixed"
FEWEST_SAMPLES = 4


@dataclass(frozen=True)
class Search:
    """How settings are searched for: random ones, of which the better half goes on (successive
    halving).

    Attributes:
        seed: of settings, planners and targets; another than the frontier's.
        trials: settings of each planner that are tried.
        episodes: targets that a trial of each round has run, rising.
        slack: a trial with so many failures more than the best still counts as equally
            successful; of such the fastest is the best.
    """

    seed: int = 100
    trials: Natural = 16
    episodes: tuple[int, ...] = (8, 16, 32)
    slack: Natural = 1

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials must be at least 1, got {self.trials}")
        rising = sorted(set(self.episodes))
        if not rising or rising != list(self.episodes) or rising[0] < 1:
            raise ValueError(f"episodes must be rising numbers from 1 on, got {self.episodes}")


@dataclass(frozen=True)
class Frontier:
    """What to measure.

    Attributes:
        checkpoints: name or directory of each task's checkpoint.
        planners: settings of each planner, changing those that the checkpoint recommends: a list
            holds the values to choose from, the first of them tried first. The key is a solver's
            name, or any name when 'solver' is among the settings.
        reference: planner that the others' time is compared with.
        fixed: settings of further points, by a name of your own, that are measured as they are.
        factors: by which the tuned budget of the first plan, or of the warm plans, is multiplied.
        search: see `Search`.
        margin: a success rate lower than the best by no more than this is as good.
        episodes: targets of each point, the same for all.
        seed: of targets and planners.
        quick: settings of every planner in a quick run, which shows that everything works, and
            nothing else.
    """

    checkpoints: dict
    planners: dict
    reference: str
    fixed: dict = field(default_factory=dict)
    factors: tuple[float, ...] = (0.25, 0.5, 2.0, 4.0)
    search: Search = field(default_factory=Search)
    margin: Fraction = 0.03
    episodes: Natural = 50
    seed: int = 0
    quick: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.checkpoints or not self.planners:
            raise ValueError("checkpoints, planners: at least one of each is needed")
        for task in self.checkpoints:
            get_task(task)
        for key in ("planners", "fixed"):
            for name, settings in getattr(self, key).items():
                _check_planner(key, name, settings)
        if twice := set(self.planners) & set(self.fixed):
            raise ValueError(f"fixed: {min(twice)}: is a name of the planners, too; rename it")
        if self.reference not in self.planners:
            raise ValueError(
                f"reference: '{self.reference}' is none of the planners."
                f"{suggest(self.reference, self.planners)}"
            )
        if self.episodes < 1:
            raise ValueError(f"episodes must be at least 1, got {self.episodes}")
        if not all(factor > 0 for factor in self.factors):
            raise ValueError(f"factors must be positive, got {self.factors}")
        for key, seed in (("seed", self.seed), ("search: seed", self.search.seed)):
            if not 0 <= seed <= MAX_SEED:
                raise ValueError(f"{key} must be from 0 to {MAX_SEED}, got {seed}")
        if self.seed == self.search.seed:
            raise ValueError(
                f"search: seed {self.seed} is the seed of the frontier, too: settings must not be "
                "tuned on the targets that they are measured on"
            )

    def quickly(self) -> Frontier:
        """What a quick run does: two trials, two episodes."""

        def quick(named: dict) -> dict:
            return {name: {**(settings or {}), **self.quick} for name, settings in named.items()}

        return replace(
            self,
            planners=quick(self.planners),
            fixed=quick(self.fixed),
            factors=self.factors[:1],
            search=replace(self.search, trials=2, episodes=(1,)),
            episodes=2,
        )


def swept(config: PlannerConfig, factors: Sequence[float]) -> Iterator[tuple[str, PlannerConfig]]:
    """Names and settings of the points around a tuned planner, itself first; none of them twice."""
    config = pinned(config)
    yield TUNED, config
    seen = {config}
    for kind in (FIRST, WARM):
        for factor in factors:
            point = scaled(config, **{kind: factor})
            if point not in seen:
                seen.add(point)
                yield f"{kind} x {factor:g}", point


def pinned(config: PlannerConfig) -> PlannerConfig:
    """The same planner, whose warm budget does not follow that of the first plan."""
    warm = config.when_warm()
    config = replace(config, warm_iterations=config.iterations(warm=True))
    config = replace(config, num_iterations=config.iterations(warm=False))
    if config.descends:
        return config
    return replace(config, warm_samples=warm.num_samples, warm_elites=warm.num_elites)


def scaled(config: PlannerConfig, first: float = 1.0, warm: float = 1.0) -> PlannerConfig:
    """A pinned planner with other budgets: iterations of a solver that descends, else samples, of
    which the elites keep their share.
    """
    if config.descends:
        assert config.num_iterations is not None and config.warm_iterations is not None
        return replace(
            config,
            num_iterations=max(1, round(config.num_iterations * first)),
            warm_iterations=max(1, round(config.warm_iterations * warm)),
        )
    assert config.warm_samples is not None and config.warm_elites is not None
    samples, elites = _scaled(config.num_samples, config.num_elites, first)
    warm_samples, warm_elites = _scaled(config.warm_samples, config.warm_elites, warm)
    return replace(
        config,
        num_samples=samples,
        num_elites=elites,
        warm_samples=warm_samples,
        warm_elites=warm_elites,
    )


def budget_text(config: PlannerConfig, warm: bool) -> str:
    """Candidates of an iteration x iterations; what was tried beforehand in brackets."""
    iterations = config.iterations(warm)
    if not config.descends:
        samples = (config.when_warm() if warm else config).num_samples
        return f"{samples} x {iterations}"
    drawn = max(config.num_restarts, config.num_candidates)
    if warm and config.warm_candidates is not None:
        drawn = config.warm_candidates
    kept = min(config.num_restarts, drawn)
    of = "" if drawn == kept else f" (of {drawn})"
    return f"{kept} x {iterations}{of}"


def _scaled(samples: int, elites: int, factor: float) -> tuple[int, int]:
    if factor == 1:
        return samples, elites
    count = max(FEWEST_SAMPLES, round(samples * factor))
    return count, min(count, max(2, round(elites * count / samples)))


def _check_planner(key: str, name: object, settings: object) -> None:
    if not isinstance(name, str) or "/" in name or name in (".", ".."):
        raise ValueError(f"{key}: {name!r}: a name is text without '/'; put a number in quotes")
    if settings is not None and not isinstance(settings, dict):
        raise ValueError(f"{key}: {name}: expected a mapping of settings, got {settings!r}")
    solver = (settings or {}).get("solver", name)
    if solver not in SOLVERS:
        raise ValueError(f"{key}: {name}: unknown solver.{suggest(solver, SOLVERS)}")
    for setting, value in (settings or {}).items():
        if isinstance(value, list) and (key == "fixed" or not value):
            raise ValueError(
                f"{key}: {name}: {setting}: "
                + ("a value is needed, not a list" if value else "the list is empty")
            )
