"""The cells of a grid: each one evaluated, timed alone, and compared with another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wm_planner.errors import ConfigError
from wm_planner.evaluation.episodes import MEASURED
from wm_planner.evaluation.goals import sample_problems
from wm_planner.evaluation.grid import Grid, Reference
from wm_planner.evaluation.job import Job, default_batch
from wm_planner.evaluation.problems import Problems
from wm_planner.evaluation.run import RunDirectory, run_job
from wm_planner.evaluation.summary import TIMES, compare, result_of
from wm_planner.models.catalog import CARD, read_card, resolve_checkpoint
from wm_planner.models.checkpoint import torch_device
from wm_planner.planning import planner_config
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One line of the table."""

    name: str
    planner: str
    shift: str
    loop: str
    job: Job

    def key(self, reference: Reference | None = None) -> tuple[str, ...]:
        """What tells it from the others; with a reference, that of the cell it is compared with."""
        of = reference or Reference()
        return (
            self.job.task,
            self.shift,
            of.planner or self.planner,
            of.checkpoint or self.job.checkpoint,
            of.loop or self.loop,
        )


def cells(grid: Grid, device: str) -> list[Cell]:
    """Everything that the grid runs; checkpoints and settings are checked, weights not loaded.

    Raises:
        WmPlannerError: there is no such device, a checkpoint is missing or of another task, a
            setting cannot be used, or nothing is to run.
    """
    torch_device(device)
    found = [
        _cell(grid, device, task, str(checkpoint), loop, planner, shift)
        for task, checkpoints in grid.checkpoints.items()
        for shift in grid.shifts
        if grid.shifts_of(shift).fits(get_task(task))
        for checkpoint in checkpoints
        for loop in grid.loops
        for planner in grid.planners
    ]
    if not found:
        raise ConfigError(
            f"shifts: none of {', '.join(grid.shifts)} fits the layout of "
            f"{' or '.join(grid.checkpoints)}, so that nothing is to run; add 'none: {{}}'"
        )
    names = Counter(cell.name for cell in found)
    if twice := [cell for cell in found if names[cell.name] > 1]:
        raise ConfigError(
            f"checkpoints: {twice[0].job.task}: {twice[0].job.checkpoint} and "
            f"{twice[1].job.checkpoint} have the same last name, by which their results are kept; "
            "rename one of the directories"
        )
    return found


def run_grid(
    grid: Grid,
    output: Path,
    processes: int,
    device: str = "cpu",
    origin: dict[str, str] | None = None,
    starts: Callable[[str], object] = lambda name: None,
) -> list[Row]:
    """Run what `output` does not hold yet.

    Args:
        grid: what to run.
        output: directory, with a run directory for every cell and its timing.
        processes: see `run_job`; timing always has the machine to itself.
        device: torch device.
        origin: command and commit, written down.
        starts: told the name of each cell and timing before it begins.

    Returns:
        A row for each cell: its result, planning times of episodes one at a time and alone (its own
        where the latency is measured, else those of its timing), and the paired comparison with its
        reference, None where the cell is that itself.

    Raises:
        WmPlannerError: a cell cannot be run; `output` keeps the others.
    """
    todo = cells(grid, device)
    problems: dict[tuple[str, Shifts], Problems] = {}
    for cell in todo:
        if _world(cell) not in problems:
            problems[_world(cell)] = _problems(grid, cell, output)
    rows, timings = {}, {}
    for cell in todo:
        starts(cell.name)
        which = problems[_world(cell)]
        record = RunDirectory(output / "cells" / cell.name, cell.job, origin)
        evaluation = run_job(cell.job, which, record, processes)
        rows[cell.name] = result_of(cell.job, grid.seed, which, evaluation)
    for cell in todo:
        if cell.job.loop.latency == MEASURED:  # has had the machine to itself, in every episode
            continue
        starts(f"{cell.name}, timing")
        job = replace(cell.job, batch_size=1)
        which = problems[_world(cell)].part(slice(grid.timing_episodes))
        record = RunDirectory(output / "timing" / cell.name, job, origin)
        timings[cell.name] = result_of(job, grid.seed, which, run_job(job, which, record))
    return list(_joined(grid, todo, rows, timings))


def _cell(
    grid: Grid, device: str, task: str, checkpoint: str, loop_name: str, planner: str, shift: str
) -> Cell:
    card = read_card(resolve_checkpoint(checkpoint, task) / CARD, task)
    changes = {"solver": planner, "seed": grid.seed, **(grid.planners[planner] or {})}
    settings = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    config = planner_config(card["planner"], settings, f"planners: {planner}")
    shifts = grid.shifts_of(shift)
    loop = grid.loop_of(loop_name, shifts)
    job = Job(
        task=task,
        checkpoint=checkpoint,
        weights_sha256=card["sha256"],
        image_size=card["preprocess"]["image_size"],
        planner=config,
        loop=loop,
        shifts=shifts,
        batch_size=default_batch(config, loop),
        device=device,
    )
    name = "-".join([task, Path(checkpoint).name, loop_name, planner, shift])
    return Cell(name, planner, shift, loop_name, job)


def _world(cell: Cell) -> tuple[str, Shifts]:
    """What a cell's problems depend on."""
    return cell.job.task, cell.job.shifts.of_layout()


def _problems(grid: Grid, cell: Cell, output: Path) -> Problems:
    """Of the cell's world without disturbances; written down, to be evaluated elsewhere."""
    task, shifts = _world(cell)
    env = replace(cell.job, shifts=shifts).make_env()(True)
    try:
        problems = sample_problems(env, grid.seed, grid.episodes)
    finally:
        env.close()
    output.mkdir(parents=True, exist_ok=True)
    name = f"{task}-{cell.shift}" if shifts.layout() else task
    problems.save(output / f"targets-{name}.npz")
    return problems


def _joined(
    grid: Grid, todo: list[Cell], rows: dict[str, Row], timings: dict[str, Row]
) -> Iterator[Row]:
    for cell in todo:
        row = rows[cell.name] | {"planner": cell.planner, "shift": cell.shift, "loop": cell.loop}
        if cell.name in timings:
            row |= {key: timings[cell.name][key] for key in TIMES}
        rows[cell.name] = row
    cell_of = {cell.key(): cell for cell in todo}
    for cell in todo:
        other = cell_of[cell.key(grid.reference)]
        pair = None if other is cell else compare(rows[cell.name], rows[other.name])
        yield rows[cell.name] | {"against_reference": pair}
