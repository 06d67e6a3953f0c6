"""Success against planning time as a planner's budget grows (the paper's Figure 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from wm_planner.evaluation.job import Job
from wm_planner.evaluation.problems import Problems
from wm_planner.evaluation.run import RunDirectory, run_job
from wm_planner.evaluation.stats import wilson_interval


def efficiency(
    jobs: dict[str, Job],
    problems: Problems,
    budgets: Iterable[int],
    directory: Path,
    processes: int = 1,
    origin: dict[str, str] | None = None,
    starts: Callable[[str], object] = lambda name: None,
) -> list[dict[str, Any]]:
    """Evaluate each job with each number of iterations, on the same problems.

    Args:
        jobs: by planner; a batch size of 1 makes the seconds those of one robot.
        problems: for all of them.
        budgets: iterations of a plan, with and without a warm start.
        directory: for the finished ones, which are not run again.
        processes: see `run_job`; more than one disturb each other's time.
        origin: command and commit, written down.
        starts: told the name of each evaluation before it begins.

    Returns:
        A point for each: 'planner', 'num_iterations', planning 'seconds' of an episode,
        'success_rate' and its 95 % interval.

    Raises:
        ConfigError: a directory holds an evaluation of other settings; none has begun.
        WmPlannerError: see `run_job`.
    """
    todo = []
    for name, job in jobs.items():
        for budget in sorted(set(budgets)):
            planner = replace(job.planner, num_iterations=budget, warm_iterations=None)
            limited = replace(job, planner=planner)
            # All of them first: one that holds something else is no reason to stop after hours.
            record = RunDirectory(directory / f"{name}-{budget}", limited, origin)
            todo.append((name, budget, limited, record))
    points = []
    for name, budget, limited, record in todo:
        starts(f"{name}, {budget} iterations")
        found = run_job(limited, problems, record, processes)
        successes, trials = sum(e.success for e in found.episodes), len(found.episodes)
        low, high = wilson_interval(successes, trials)
        points.append(
            {
                "planner": name,
                "num_iterations": budget,
                "seconds": sum(found.plan_seconds) / trials,
                "success_rate": successes / trials,
                "interval_low": low,
                "interval_high": high,
            }
        )
    return points
