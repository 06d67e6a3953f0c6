"""`wm-planner results`: a table that the documents quote, from one file of what to run."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_planner.cli.options import (
    add_option,
    add_options,
    add_table_options,
    check_least,
    check_tasks,
    cluster_of,
)
from wm_planner.errors import ConfigError, WmPlannerError
from wm_planner.evaluation.table import grid_table

if TYPE_CHECKING:
    from wm_planner.evaluation.cell import CellResult

logger = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "results", help="evaluate tasks x checkpoints x planners x loops into one table"
    )
    add_table_options(parser, "results", "every cell's run", "few episodes of small planners")
    parser.add_argument(
        "--task",
        action="append",
        help="only this one, beside what OUTPUT has of the others; may be repeated",
    )
    cores = os.cpu_count() or 1
    add_option(parser, "--processes", default=cores, help="default: as many as cores")
    add_options(parser, "--ray", "--device")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run what is missing; print the table.

    Raises:
        WmPlannerError: the file, a checkpoint or a setting cannot be used.
    """
    import torch

    from wm_planner.config import from_yaml, to_dict
    from wm_planner.evaluation.cell import cells, run_grid
    from wm_planner.evaluation.grid import Grid
    from wm_planner.files import write_json, write_text
    from wm_planner.provenance import provenance

    check_least(args, processes=1)
    grid = from_yaml(Grid, args.config)
    if args.quick:
        grid = grid.quickly()
    check_tasks(args, grid.checkpoints)
    chosen = {task: grid.checkpoints[task] for task in args.task or grid.checkpoints}
    part, origin = replace(grid, checkpoints=chosen), provenance()
    try:
        cells(part, "cpu")
    except WmPlannerError as error:  # of what the file says: it is named nowhere else
        raise ConfigError(f"{args.config}: {error}") from error
    with cluster_of(args) as cluster:
        rows = run_grid(
            part, args.output, args.processes, args.device, origin, logger.info, cluster
        )
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": args.device,
        "torch": torch.__version__,
    }
    file = args.output / "results.json"
    content = {**origin, "machine": machine, "grid": to_dict(grid)}
    rows += _rows_of_others(file, content, set(chosen))
    there = {row.task for row in rows}
    rows.sort(key=lambda row: list(grid.checkpoints).index(row.task))
    grid = replace(grid, checkpoints={k: v for k, v in grid.checkpoints.items() if k in there})
    content |= {"grid": to_dict(grid), "rows": [row.to_json() for row in rows]}
    write_json(file, content)
    table = grid_table(rows, str(grid.reference))
    write_text(args.output / "results.md", table)
    print(table, end="")
    return 0


def _rows_of_others(file: Path, now: dict[str, Any], chosen: set[str]) -> list[CellResult]:
    """What `file` has of tasks that this run was not asked for, each row with its commit.

    Rows of another grid or machine than `now` has are left out, and that is said.
    """
    from wm_planner.evaluation.cell import CellResult
    from wm_planner.files import read_json

    if not file.exists():
        return []
    now = json.loads(json.dumps(now))  # as what was read
    try:
        before = read_json(file)
        others = [row for row in before["rows"] if row["task"] not in chosen]
        rows = [
            CellResult.from_json({"commit": before["commit"], **row}, str(file)) for row in others
        ]
        grid, theirs = now["grid"], before["grid"]
        here, there = grid.pop("checkpoints"), theirs.pop("checkpoints")
        same = theirs == grid and before["machine"] == now["machine"]
        kept = [row for row in rows if same and here.get(row.task) == there[row.task]]
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s: cannot be read (%r), and is written anew", file, error)
        return []
    if dropped := {row.task for row in rows if row not in kept}:
        told = "%s: rows of %s are left out, which are of other settings or another machine"
        logger.warning(told, file, ", ".join(sorted(dropped)))
    return kept
