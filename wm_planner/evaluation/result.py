"""What evaluations found: a `Result`, two of them compared, and those of several seeds pooled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from wm_planner.config import Fraction, Natural, Seed, Weight, from_dict, to_dict
from wm_planner.errors import ConfigError
from wm_planner.evaluation.stats import (
    mcnemar_p,
    mean_interval,
    paired_difference,
    wilson_interval,
)
from wm_planner.files import read_json

if TYPE_CHECKING:
    from wm_planner.evaluation.episode import Evaluation
    from wm_planner.evaluation.job import Job
    from wm_planner.evaluation.target import Targets

R = TypeVar("R", bound="Result")
# Keys that files of before do not have.
_LATER = (
    "plan_seconds_per_episode distance_mean distance_low distance_high distance_start"
).split()
TIMES = ("plan_seconds_p50", "plan_seconds_p99", "plan_seconds_per_episode")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one evaluation found; its fields are the keys of a file, in their order.

    Attributes:
        task, checkpoint, planner, mode, seed: what was evaluated, and how.
        success_rate: with its 95 % interval, `interval_low` to `interval_high`.
        plan_seconds_p50, plan_seconds_p99: of each planning call, divided by the episodes in it.
        plan_seconds_per_episode: of all its plans: the median of plans hides the first one, which
            may take many times as long as those that go on from the last plan. None of a file
            of before.
        plan_evaluations: rollouts per plan.
        model_calls: per episode. One predicts one frame of one rollout: `horizon` of them make a
            rollout. The passes backward of gradient planners come on top.
        memory_mib: see `Evaluation`.
        distance_median: left at the end, in the unit of the task's test of success.
        distance_mean: the same, with its 95 % interval (Student's t), `distance_low` to
            `distance_high`; None of a single episode, and of a file of before.
        distance_start: mean at the start; None of a file of before.
        batch_size: episodes planned together.
        dropped: see `Targets`.
        latency: see `Loop`.
        shifts: how the world differed from the trained one.
        targets: checksum, equal for equal targets: such results can be compared.
        outcomes: a 1 for each target that was reached, a 0 for each other, in their order.
    """

    task: str
    checkpoint: str
    planner: str
    mode: str
    seed: Seed
    episodes: int
    successes: Natural
    success_rate: float
    interval_low: Fraction
    interval_high: Fraction
    plan_seconds_p50: Weight
    plan_seconds_p99: Weight
    plan_seconds_per_episode: Weight | None = None
    plan_evaluations: Weight
    model_calls: Weight
    memory_mib: Weight
    distance_median: Weight
    distance_mean: float | None = None
    distance_low: float | None = None
    distance_high: float | None = None
    distance_start: float | None = None
    horizon: Natural
    batch_size: Natural
    dropped: Natural
    latency: float | str | None
    shifts: dict[str, Any]
    targets: str
    outcomes: str

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes must be at least 1, got {self.episodes}")
        if not 0 <= self.success_rate <= 1:
            raise ValueError(f"success_rate must be from 0 to 1, got {self.success_rate}")
        if not 0 < self.plan_seconds_p50 < math.inf:
            raise ValueError(f"plan_seconds_p50 must be positive, got {self.plan_seconds_p50}")
        if set(self.outcomes) - {"0", "1"}:
            raise ValueError(f"outcomes must be text of 0 and 1, got '{self.outcomes}'")
        if len(self.outcomes) != self.episodes:
            raise ValueError(
                f"outcomes must be of {self.episodes} episodes, got {len(self.outcomes)}"
            )

    @classmethod
    def of(cls, job: Job, seed: int, targets: Targets, evaluation: Evaluation) -> Result:
        """The result of a job on all targets."""
        episodes, seconds = evaluation.episodes, evaluation.plan_seconds
        successes, rollouts = sum(e.success for e in episodes), sum(evaluation.plan_evaluations)
        low, high = wilson_interval(successes, len(episodes))
        p50, p99 = np.percentile(seconds, [50, 99])
        distances = [episode.distance for episode in episodes]
        several = len(episodes) > 1
        mean, mean_low, mean_high = mean_interval(distances) if several else (None,) * 3
        return cls(
            task=job.task,
            checkpoint=job.checkpoint,
            planner=job.planner.solver,
            mode=job.loop.mode,
            seed=seed,
            episodes=len(episodes),
            successes=successes,
            success_rate=successes / len(episodes),
            interval_low=low,
            interval_high=high,
            plan_seconds_p50=float(p50),
            plan_seconds_p99=float(p99),
            plan_seconds_per_episode=sum(seconds) / len(episodes),
            plan_evaluations=rollouts / len(evaluation.plan_evaluations),
            model_calls=rollouts * job.planner.horizon / len(episodes),
            memory_mib=round(evaluation.memory_mib, 1),
            distance_median=float(np.median(distances)),
            distance_mean=mean,
            distance_low=mean_low,
            distance_high=mean_high,
            distance_start=float(np.mean([episode.start_distance for episode in episodes])),
            horizon=job.planner.horizon,
            batch_size=min(job.batch_size, len(targets)),
            dropped=targets.dropped,
            latency=job.loop.latency,
            shifts=job.shifts.changes(),
            targets=targets.sha256(),
            outcomes="".join(str(int(episode.success)) for episode in episodes),
        )

    @classmethod
    def from_json(cls: type[R], values: Any, source: str) -> R:
        """What `to_json` made.

        Raises:
            ConfigError: a key is missing, unknown or unusable; `source` is named.
        """
        source = f"{source}: no result of 'wm-planner eval'"
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: expected a mapping, got {values!r}; evaluate again")
        try:
            return from_dict(cls, values, source)
        except ConfigError as error:
            raise ConfigError(f"{str(error).rstrip('.')}; evaluate again") from error

    def to_json(self) -> dict[str, Any]:
        """Plain values by key; what a file of before did not have is left out."""
        return {
            key: value
            for key, value in to_dict(self).items()
            if value is not None or key not in _LATER
        }


def read_result(file: Path) -> Result:
    """A result that `wm-planner eval` wrote.

    Raises:
        ConfigError: it cannot be read, or is no result.
    """
    return Result.from_json(read_json(file), str(file))


@dataclass(frozen=True)
class Comparison:
    """Two results A and B on the same targets, pair by pair.

    Attributes:
        rate_a, rate_b: of success.
        difference: A less B, with its 95 % interval.
        only_a, only_b: targets that only one of them reached.
        p_value: of McNemar's exact test.
        time_ratio, episode_time_ratio: seconds of A to those of B, per plan (p50) and per episode;
            the latter None where a result was written without them.
    """

    rate_a: float
    rate_b: float
    difference: float
    difference_low: float
    difference_high: float
    only_a: int
    only_b: int
    p_value: float
    time_ratio: float
    episode_time_ratio: float | None = None


def compare(a: Result, b: Result) -> Comparison:
    """Two results on the same targets.

    Raises:
        ConfigError: the targets are not the same.
    """
    if a.targets != b.targets or len(a.outcomes) != len(b.outcomes):
        each = "; ".join(f"{r.task}, seed {r.seed}, {r.episodes} episodes" for r in (a, b))
        raise ConfigError(
            f"results on different targets cannot be compared ({each}); "
            "evaluate both with the same --targets file"
        )
    pairs = list(zip(a.outcomes, b.outcomes, strict=True))
    only_a, only_b = pairs.count(("1", "0")), pairs.count(("0", "1"))
    seconds = a.plan_seconds_per_episode, b.plan_seconds_per_episode
    return Comparison(
        a.success_rate,
        b.success_rate,
        *paired_difference(only_a, only_b, len(pairs)),
        only_a,
        only_b,
        mcnemar_p(only_a, only_b),
        a.plan_seconds_p50 / b.plan_seconds_p50,
        seconds[0] / seconds[1] if seconds[0] and seconds[1] else None,
    )


@dataclass(frozen=True)
class Pooled:
    """A row of an ablation: results of all seeds, and how they differ from the reference's.

    Attributes:
        row, mode, reference: names.
        episodes, successes, success_rate: of all seeds, with a 95 % interval.
        rates: of each seed.
        difference: from the reference. It, its interval and `p_value` (McNemar) count every
            episode as one trial, though seeds share their targets.
        differences: of each seed; `seeds_low` to `seeds_high` is the 95 % interval of their mean
            (Student's t; None with one seed). `table.NOTE` says what either speaks of.
    """

    row: str
    mode: str
    reference: str
    episodes: int
    successes: int
    success_rate: float
    interval_low: float
    interval_high: float
    rates: list[float]
    difference: float
    difference_low: float
    difference_high: float
    p_value: float
    differences: list[float]
    seeds_low: float | None
    seeds_high: float | None


def pooled(
    row: str, mode: str, reference: str, results: list[Result], references: list[Result]
) -> Pooled:
    """Results of a row and of its reference, of the same seeds in the same order.

    Raises:
        ConfigError: a pair is of different targets.
    """
    trials = sum(result.episodes for result in results)
    successes = sum(result.successes for result in results)
    pairs = [compare(a, b) for a, b in zip(results, references, strict=True)]
    only_a, only_b = sum(pair.only_a for pair in pairs), sum(pair.only_b for pair in pairs)
    differences = [pair.difference for pair in pairs]
    over_seeds = mean_interval(differences)[1:] if len(pairs) > 1 else (None, None)
    return Pooled(
        row,
        mode,
        reference,
        trials,
        successes,
        successes / trials,
        *wilson_interval(successes, trials),
        [result.success_rate for result in results],
        *paired_difference(only_a, only_b, trials),
        mcnemar_p(only_a, only_b),
        differences,
        *over_seeds,
    )
