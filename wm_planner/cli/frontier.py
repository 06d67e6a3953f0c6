"""`wm-planner frontier`: success against seconds of planning, every solver tuned alike."""

from __future__ import annotations

import argparse
import logging
import os
import platform

from wm_planner.cli.options import add_options, add_table_options, check_tasks, check_threads
from wm_planner.errors import ConfigError, WmPlannerError

logger = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "frontier", help="success against planning time, every solver tuned by the same search"
    )
    quick = "two trials and two episodes of small planners"
    add_table_options(parser, "frontier", "a figure and every episode, by task", quick)
    parser.add_argument("--task", action="append", help="only this one; may be repeated")
    add_options(parser, "--threads", "--device")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tune and measure what is missing; print the tables of each task.

    Raises:
        WmPlannerError: the file, a checkpoint or a setting cannot be used.
    """
    import torch
    from tqdm import tqdm

    from wm_planner.cli.figures import draw_frontier
    from wm_planner.config import from_yaml, to_dict
    from wm_planner.evaluation.frontier import Frontier
    from wm_planner.evaluation.frontier_run import FrontierRun
    from wm_planner.evaluation.frontier_table import points_table, trials_table
    from wm_planner.files import write_json, write_text
    from wm_planner.models.checkpoint import torch_device
    from wm_planner.provenance import provenance

    check_threads(args.threads)
    frontier = from_yaml(Frontier, args.config)
    if args.quick:
        frontier = frontier.quickly()
    check_tasks(args, frontier.checkpoints)
    torch_device(args.device)
    origin, tasks = provenance(), args.task or list(frontier.checkpoints)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": args.device,
        "threads": args.threads,
        "torch": torch.__version__,
    }
    runs = {}
    for task in tasks:  # all of them first: what cannot be used is said before hours of others
        try:
            runs[task] = FrontierRun(
                frontier, task, args.output / task, tqdm, args.device, args.threads, origin
            )
        except WmPlannerError as error:
            raise ConfigError(f"{args.config}: {error}") from error
    for task, one in runs.items():
        found = one.run()
        directory = args.output / task
        content = {"task": task, "machine": machine, "frontier": frontier, "unit": found.unit}
        content |= {"rounds": found.scores, "points": found.points}
        data = {**origin, **to_dict(content)}
        write_json(directory / "frontier.json", data)
        points = points_table(found.points, frontier, found.unit)
        table = f"{points}\n{trials_table(found.scores, frontier, found.unit)}"
        write_text(directory / "frontier.md", table)
        draw_frontier(directory / "frontier.png", data)
        print(table, end="")
    return 0
