"""`wm-planner results`: a table that the documents quote, from one file of what to run."""

from __future__ import annotations

import argparse
import logging
import os
import platform
from dataclasses import replace
from pathlib import Path

from wm_planner.errors import ConfigError

logger = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "results", help="evaluate tasks x checkpoints x planners x loops into one table"
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML, see config/results.yaml")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="directory for results.json, results.md and every cell's run; one that was begun is "
        "finished",
    )
    parser.add_argument(
        "--quick", action="store_true", help="few episodes of small planners: does it run?"
    )
    parser.add_argument("--task", action="append", help="only this one; may be repeated")
    cores = os.cpu_count() or 1
    parser.add_argument("--processes", type=int, default=cores, help="default: as many as cores")
    parser.add_argument("--device", default="cpu", help="torch device: cpu (default) or cuda")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run what is missing; print the table.

    Raises:
        WmPlannerError: the file, a checkpoint or a setting cannot be used.
    """
    import torch

    from wm_planner.config import from_yaml, suggest, to_dict
    from wm_planner.evaluation.cells import run_grid
    from wm_planner.evaluation.grid import Grid
    from wm_planner.evaluation.run import write_json
    from wm_planner.evaluation.summary import comparison_table
    from wm_planner.training.run_log import provenance

    if args.processes < 1:
        raise ConfigError(f"--processes must be at least 1, got {args.processes}")
    grid = from_yaml(Grid, args.config)
    if args.quick:
        grid = grid.quickly()
    for task in args.task or ():
        if task not in grid.checkpoints:
            raise ConfigError(
                f"--task {task}: not in {args.config}.{suggest(task, grid.checkpoints)}"
            )
    if args.task:
        chosen = {task: grid.checkpoints[task] for task in args.task}
        grid = replace(grid, checkpoints=chosen)
    origin = provenance()
    rows = run_grid(grid, args.output, args.processes, args.device, origin, logger.info)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": args.device,
        "torch": torch.__version__,
    }
    content = {**origin, "machine": machine, "grid": to_dict(grid), "rows": rows}
    write_json(args.output / "results.json", content)
    table = comparison_table(rows, str(grid.reference))
    (args.output / "results.md").write_text(table)
    print(table, end="")
    return 0
