"""`python -m benchmarks.levels`: plans of one level and of two, on goals ever farther ahead.

Goals are where exploration gets in so many raw actions. All planners take turns on every target, in
one process, and processor time is counted. What is in --output already is not run again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from wm_planner.evaluation.episode import Evaluation, Loop
from wm_planner.evaluation.job import job_of
from wm_planner.evaluation.record import Record
from wm_planner.evaluation.stats import mcnemar_p, mean_interval, paired_difference
from wm_planner.evaluation.table import interval, markdown, percent, reached
from wm_planner.evaluation.target import explored_targets
from wm_planner.evaluation.turns import Course, Turn
from wm_planner.models.checkpoint import load_bundle

BLOCK = 10  # targets of one distance, before those of the next
# Name -> settings, and what it is compared with.
PLANNERS: dict[str, tuple[dict[str, Any], str]] = {
    "one level": ({}, ""),
    "two levels": ({"levels": {}}, "one level"),
    "one level, horizon 10": ({"horizon": 10}, "one level"),
    "one level, horizon 2": ({"horizon": 2}, "one level"),
    "two levels, horizon 2": ({"horizon": 2, "levels": {}}, "one level, horizon 2"),
}


def measure(args: argparse.Namespace) -> dict[int, dict[str, list[Evaluation]]]:
    """Episodes of each planner, one after the other, by the distance of their goals."""
    loop, bundle = Loop(max_steps=args.max_steps), load_bundle(args.checkpoint)
    jobs = {}
    for name, (settings, _) in PLANNERS.items():
        job = job_of(args.task, args.checkpoint, settings, name, loop)
        jobs[name] = replace(job, batch_size=1)
    found: dict[int, dict[str, list[Evaluation]]] = {}
    with Course(next(iter(jobs.values())), bundle) as course:
        targets = {
            ahead: explored_targets(course.env, ahead, args.seed, args.episodes)
            for ahead in args.ahead
        }
        for first in range(0, args.episodes, BLOCK):
            for ahead in args.ahead:
                turns = [
                    Turn(name, job, Record(args.output / str(ahead) / name.replace(" ", "_"), job))
                    for name, job in jobs.items()
                ]
                part = targets[ahead].part(slice(first, first + BLOCK))
                results = course.run(turns, part)
                rows = found.setdefault(ahead, {name: [] for name in jobs})
                for name, evaluations in zip(jobs, results, strict=True):
                    rows[name] += evaluations
            print(f"{first + BLOCK} of {args.episodes} targets of each distance", flush=True)
    return found


def table(found: dict[int, dict[str, list[Evaluation]]]) -> str:
    """Goals reached, and CPU seconds of planning per episode, each with its 95 % interval."""
    lines = []
    for ahead, rows in found.items():
        outcomes = {name: [e.episodes[0].success for e in each] for name, each in rows.items()}
        for name, (_, other) in PLANNERS.items():
            mine, seconds = outcomes[name], [sum(e.plan_seconds) for e in rows[name]]
            mean, low, high = mean_interval(seconds)
            against = ""
            if other:
                pairs = list(zip(mine, outcomes[other], strict=True))
                alone, lost = pairs.count((True, False)), pairs.count((False, True))
                gain, least, most = paired_difference(alone, lost, len(pairs))
                p = mcnemar_p(alone, lost)
                against = f"{percent(gain)} ({interval(least, most)}), p = {p:.2g}, to {other}"
            shown = f"{mean:.2f} ({low:.2f} to {high:.2f})"
            lines.append((ahead, name, reached(sum(mine), len(mine)), against, shown))
    return markdown("raw actions ahead | planner | reached | difference | CPU s per episode", lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="wall")
    parser.add_argument("--checkpoint", required=True, help="with an upper model")
    parser.add_argument("--ahead", type=int, nargs="+", default=[50, 75, 100])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--max-steps", type=int, help="model steps of an episode")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    print(table(measure(args)), end="")


if __name__ == "__main__":
    main()
