"""The figures of an evaluation, as every table and file of results names them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.errors import ConfigError
from wm_planner.evaluation.episodes import Evaluation
from wm_planner.evaluation.job import Job
from wm_planner.evaluation.problems import Problems
from wm_planner.evaluation.stats import mcnemar_p, paired_difference, wilson_interval

TIMES = ("plan_seconds_p50", "plan_seconds_p99", "plan_seconds_per_episode")
COLUMNS = (
    "task | checkpoint | planner | mode | success | 95 % interval | s/plan p50 | p99 | s/episode "
    "| rollouts/plan | model calls/episode | memory, MiB | dropped"
)


def summarise(evaluation: Evaluation, horizon: int) -> dict[str, Any]:
    """Success with its 95 % interval, planning time and effort, distance left.

    An episode's seconds are those of all its plans: the median of plans hides the first one, which
    may take many times as long as those that go on from the last plan.

    A model call predicts one frame of one rollout: `horizon` of them make a rollout. The passes
    backward of gradient planners come on top.
    """
    episodes = evaluation.episodes
    successes = sum(episode.success for episode in episodes)
    low, high = wilson_interval(successes, len(episodes))
    p50, p99 = np.percentile(evaluation.plan_seconds, [50, 99])
    rollouts = sum(evaluation.plan_evaluations)
    return {
        "episodes": len(episodes),
        "successes": successes,
        "success_rate": successes / len(episodes),
        "interval_low": low,
        "interval_high": high,
        "plan_seconds_p50": float(p50),
        "plan_seconds_p99": float(p99),
        "plan_seconds_per_episode": sum(evaluation.plan_seconds) / len(episodes),
        "plan_evaluations": rollouts / len(evaluation.plan_evaluations),
        "model_calls": rollouts * horizon / len(episodes),
        "memory_mib": round(evaluation.memory_mib, 1),
        "distance_median": float(np.median([episode.distance for episode in episodes])),
    }


def result_of(job: Job, seed: int, problems: Problems, evaluation: Evaluation) -> dict[str, Any]:
    """One result, with what makes it comparable: `targets` is equal for equal problems, and
    `outcomes` has a 1 for each one that was solved, a 0 for each other, in their order.
    """
    return {
        "task": job.task,
        "checkpoint": job.checkpoint,
        "planner": job.planner.solver,
        "mode": job.loop.mode,
        "seed": seed,
        **summarise(evaluation, job.planner.horizon),
        "horizon": job.planner.horizon,
        "batch_size": min(job.batch_size, len(problems)),
        "dropped": problems.dropped,
        "latency": job.loop.latency,
        "shifts": job.shifts.changes(),
        "targets": problems.sha256(),
        "outcomes": "".join(str(int(episode.success)) for episode in evaluation.episodes),
    }


# What a comparison needs of a result: the type of each, the test of its value, and that in words.
_NEEDED: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
    "task": (str, lambda value: True, "text"),
    "seed": (int, lambda value: True, "a whole number"),
    "episodes": (int, lambda value: value >= 1, "a whole number of at least 1"),
    "success_rate": ((int, float), lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "plan_seconds_p50": ((int, float), lambda value: 0 < value < math.inf, "a positive number"),
    "targets": (str, lambda value: True, "text"),
    "outcomes": (str, lambda value: not set(value) - {"0", "1"}, "text of 0 and 1"),
}


def compare(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Two results on the same problems, pair by pair.

    Returns:
        Rates, their difference A - B with its 95 % interval, the problems that only one solved,
        the exact p-value of McNemar's test, and the ratios A to B of the seconds per plan (p50) and
        per episode, the latter None where a result was written without them.

    Raises:
        ConfigError: the problems are not the same.
    """
    if a["targets"] != b["targets"] or len(a["outcomes"]) != len(b["outcomes"]):
        raise ConfigError(
            f"results on different targets cannot be compared ({a['task']}, seed {a['seed']}, "
            f"{a['episodes']} episodes; {b['task']}, seed {b['seed']}, {b['episodes']} episodes); "
            "evaluate both with the same --targets file"
        )
    pairs = list(zip(a["outcomes"], b["outcomes"], strict=True))
    only_a, only_b = pairs.count(("1", "0")), pairs.count(("0", "1"))
    difference, low, high = paired_difference(only_a, only_b, len(pairs))
    seconds_a, seconds_b = (result.get("plan_seconds_per_episode") for result in (a, b))
    return {
        "rate_a": a["success_rate"],
        "rate_b": b["success_rate"],
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "only_a": only_a,
        "only_b": only_b,
        "p_value": mcnemar_p(only_a, only_b),
        "time_ratio": a["plan_seconds_p50"] / b["plan_seconds_p50"],
        "episode_time_ratio": seconds_a / seconds_b if seconds_a and seconds_b else None,
    }


def read_result(file: Path) -> dict[str, Any]:
    """A result that `wm-planner eval` wrote.

    Raises:
        ConfigError: it cannot be read, or what a comparison needs is missing or unusable.
    """
    try:
        result = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    source = f"{file}: no result of 'wm-planner eval'"
    for key, (kind, is_good, wanted) in _NEEDED.items():
        if not isinstance(result, dict) or key not in result:
            raise ConfigError(f"{source}: key '{key}' is missing; evaluate again")
        value = result[key]
        if isinstance(value, bool) or not isinstance(value, kind) or not is_good(value):
            raise ConfigError(f"{source}: {key} must be {wanted}, got {value!r}; evaluate again")
    if len(result["outcomes"]) != result["episodes"]:
        raise ConfigError(
            f"{source}: outcomes must be of {result['episodes']} episodes, got "
            f"{len(result['outcomes'])}; evaluate again"
        )
    return result


def markdown(results: list[dict[str, Any]]) -> str:
    """A Markdown table of results, one line each."""
    lines = [f"| {COLUMNS} |", "|---" * len(COLUMNS.split("|")) + "|"]
    for r in results:
        cells = [
            *(r[key] for key in ("task", "checkpoint", "planner", "mode")),
            f"{r['successes']}/{r['episodes']}",
            f"{percent(r['interval_low'])} to {percent(r['interval_high'])}",
            *(_figure(r.get(key)) for key in TIMES),
            *(f"{r[key]:.0f}" for key in ("plan_evaluations", "model_calls", "memory_mib")),
            r["dropped"],
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def comparison_table(rows: list[dict[str, Any]], reference: str) -> str:
    """A Markdown table of a grid's rows, each with 'against_reference', what `compare` says."""
    columns = (
        "task | shift | checkpoint | loop | planner | success | 95 % interval | s/plan p50 | p99 "
        f"| s/episode | time / {reference}'s (per plan, per episode) "
        f"| success - {reference}'s (95 % interval) | p"
    )
    lines = [f"| {columns} |", "|---" * len(columns.split(" | ")) + "|"]
    for row in rows:
        cells = [
            *(row[key] for key in ("task", "shift", "checkpoint", "loop", "planner")),
            f"{percent(row['success_rate'])} ({row['successes']}/{row['episodes']})",
            f"{percent(row['interval_low'])} to {percent(row['interval_high'])}",
            *(_figure(row.get(key)) for key in TIMES),
        ]
        pair = row["against_reference"]
        if pair is None:
            cells += ["1, 1", "", ""]
        else:
            ends = (percent(pair[f"difference_{end}"]) for end in ("low", "high"))
            ratios = (pair.get(key) for key in ("time_ratio", "episode_time_ratio"))
            cells += [
                ", ".join(_figure(ratio, 2) or "-" for ratio in ratios),
                f"{percent(pair['difference'])} ({' to '.join(ends)})",
                f"{pair['p_value']:.2g}",
            ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def percent(rate: float) -> str:
    """A rate as tables show it, to one decimal: 199 of 200 are not all."""
    return f"{round(100 * rate, 1) + 0:g} %"  # + 0: there is no -0 %


def _figure(value: float | None, digits: int = 3) -> str:
    """A number as tables show it; nothing where a result of before does not have it."""
    return "" if value is None else f"{value:.{digits}g}"
