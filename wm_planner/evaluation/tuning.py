"""Settings of planners by successive halving of random ones, the same number for every planner."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_planner.errors import ConfigError
from wm_planner.evaluation.episode import Evaluation
from wm_planner.planning import PlannerConfig

DRAWS = 100  # of one trial, until a solver takes its settings


@dataclass(frozen=True)
class Trial:
    """Settings that are tried.

    Attributes:
        planner: name in the file.
        index: from 0.
        chosen: what was chosen from the lists.
        config: of the planner.
    """

    planner: str
    index: int
    chosen: dict[str, Any]
    config: PlannerConfig

    @property
    def name(self) -> str:
        """Of the trial, and of its record."""
        return f"{self.planner}-{self.index:02d}"


@dataclass(frozen=True)
class Score:
    """What a trial has reached.

    Attributes:
        trial: see `Trial`.
        episodes, successes: so far.
        seconds: of planning per episode.
    """

    trial: Trial
    episodes: int
    successes: int
    seconds: float


def draw_trials(
    planner: str,
    settings: Mapping[str, Any],
    count: int,
    seed: int,
    configured: Callable[[dict[str, Any]], PlannerConfig],
) -> list[Trial]:
    """Random settings, no two alike; the first takes the first value of every list.

    Settings that a solver refuses, such as more elites than samples, are drawn again.

    Args:
        planner: name in the file.
        settings: values, and lists of values to choose from.
        count: of trials; fewer where there are not as many.
        seed: of the draws.
        configured: the planner of some settings.

    Raises:
        ConfigError: the first values cannot be used.
    """
    rng = np.random.default_rng([seed, zlib.crc32(planner.encode())])
    lists = {key: value for key, value in settings.items() if isinstance(value, list)}
    chosen = {key: values[0] for key, values in lists.items()}
    trials = [Trial(planner, 0, chosen, configured({**settings, **chosen}))]
    for _ in range(DRAWS * count):
        if len(trials) == count:
            break
        chosen = {key: values[rng.integers(len(values))] for key, values in lists.items()}
        try:
            config = configured({**settings, **chosen})
        except ConfigError:
            continue
        if all(config != trial.config for trial in trials):
            trials.append(Trial(planner, len(trials), chosen, config))
    return trials


def score(trial: Trial, runs: Sequence[Evaluation]) -> Score:
    """Of one episode per target."""
    successes = sum(run.episodes[0].success for run in runs)
    seconds = sum(sum(run.plan_seconds) for run in runs) / len(runs)
    return Score(trial, len(runs), successes, seconds)


def ranked(scores: Sequence[Score], slack: int) -> list[Score]:
    """The best first: the fastest of those with at most `slack` failures more than the best, then
    the others by their failures.
    """
    best = max(score.successes for score in scores)

    def key(score: Score) -> tuple[int, float]:
        return max(0, best - slack - score.successes), score.seconds

    return sorted(scores, key=key)


def better_half(scores: Sequence[Score], slack: int) -> list[Trial]:
    """The trials of one planner that go on to the next round."""
    order = ranked(scores, slack)
    return [score.trial for score in order[: math.ceil(len(order) / 2)]]
