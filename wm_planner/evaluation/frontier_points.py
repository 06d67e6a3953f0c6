"""What was found on the success-time frontier: points, and how they compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wm_planner.evaluation.episode import Evaluation
from wm_planner.evaluation.frontier import budget_text
from wm_planner.evaluation.stats import paired_difference, ratio_interval, wilson_interval
from wm_planner.planning import PlannerConfig


@dataclass(frozen=True)
class Point:
    """What one planner did with one budget.

    Attributes:
        name: of the point.
        planner: name in the file.
        sweep: whether it is 'tuned', one budget of that is changed ('first', 'warm'), or 'fixed'.
        first, warm: budgets, see `budget_text`.
        settings: of the planner, where they are not the usual ones.
        episodes, successes, success_rate, interval_low, interval_high: with its 95 % interval.
        seconds: of planning per episode; `first_seconds` of them are the first plan's.
        warm_seconds: of a warm plan, mean; None where no episode had one.
        outcomes: a 1 for each target that was reached, a 0 for each other, in their order.
        episode_seconds: of each target.
    """

    name: str
    planner: str
    sweep: str
    first: str
    warm: str
    settings: dict[str, Any]
    episodes: int
    successes: int
    success_rate: float
    interval_low: float
    interval_high: float
    seconds: float
    first_seconds: float
    warm_seconds: float | None
    outcomes: str
    episode_seconds: list[float]

    @classmethod
    def of(
        cls, planner: str, sweep: str, name: str, config: PlannerConfig, runs: Sequence[Evaluation]
    ) -> Point:
        """Of one episode per target."""
        count = len(runs)
        successes = sum(run.episodes[0].success for run in runs)
        low, high = wilson_interval(successes, count)
        warm = [seconds for run in runs for seconds in run.plan_seconds[1:]]
        each = [round(sum(run.plan_seconds), 6) for run in runs]
        usual = PlannerConfig(solver=config.solver)
        return cls(
            name=name,
            planner=planner,
            sweep=sweep,
            first=budget_text(config, warm=False),
            warm=budget_text(config, warm=True),
            settings={k: v for k, v in vars(config).items() if v != getattr(usual, k)},
            episodes=count,
            successes=successes,
            success_rate=successes / count,
            interval_low=low,
            interval_high=high,
            seconds=sum(each) / count,
            first_seconds=sum(run.plan_seconds[0] for run in runs) / count,
            warm_seconds=sum(warm) / len(warm) if warm else None,
            outcomes="".join(str(int(run.episodes[0].success)) for run in runs),
            episode_seconds=each,
        )


@dataclass(frozen=True)
class Against:
    """A point beside another on the same targets.

    Attributes:
        time_ratio: its seconds per episode to the other's, with its 95 % interval.
        difference: its success rate less the other's, with its 95 % interval.
    """

    time_ratio: float
    time_low: float
    time_high: float
    difference: float
    difference_low: float
    difference_high: float


def against(point: Point, other: Point) -> Against:
    """Two points, target by target."""
    pairs = list(zip(point.outcomes, other.outcomes, strict=True))
    only = pairs.count(("1", "0")), pairs.count(("0", "1"))
    ratio = ratio_interval(point.episode_seconds, other.episode_seconds)
    return Against(*ratio, *paired_difference(*only, len(pairs)))


def cheapest(points: Sequence[Point], margin: float) -> dict[str, Point]:
    """Of each planner that has one, the fastest point that is as good as the best of all."""
    best = max(point.success_rate for point in points)
    good = [point for point in points if point.success_rate >= best - margin - 1e-9]
    found: dict[str, Point] = {}
    for point in sorted(good, key=lambda point: point.seconds):
        found.setdefault(point.planner, point)
    return found
