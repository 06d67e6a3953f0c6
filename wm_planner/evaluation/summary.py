"""The figures of an evaluation, as every table and file of results names them."""

from __future__ import annotations

from typing import Any

import numpy as np

from wm_planner.evaluation.episodes import Evaluation
from wm_planner.evaluation.stats import wilson_interval


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """Success with its 95 % interval, planning time and effort, distance left."""
    episodes = evaluation.episodes
    successes = sum(episode.success for episode in episodes)
    low, high = wilson_interval(successes, len(episodes))
    p50, p99 = np.percentile(evaluation.plan_seconds, [50, 99])
    return {
        "episodes": len(episodes),
        "successes": successes,
        "success_rate": successes / len(episodes),
        "interval_low": low,
        "interval_high": high,
        "plan_seconds_p50": float(p50),
        "plan_seconds_p99": float(p99),
        "plan_evaluations": float(np.mean(evaluation.plan_evaluations)),
        "distance_median": float(np.median([episode.distance for episode in episodes])),
    }
