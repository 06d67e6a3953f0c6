"""The cells of a grid: each one evaluated, timed alone, and compared with another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wm_planner.cluster import Cluster
from wm_planner.errors import ConfigError
from wm_planner.evaluation.episode import MEASURED
from wm_planner.evaluation.grid import Grid, Reference
from wm_planner.evaluation.job import Job, fill_records, job_of, run_job
from wm_planner.evaluation.record import Record
from wm_planner.evaluation.result import TIMES, Comparison, Result, compare
from wm_planner.evaluation.target import Targets, sample_targets
from wm_planner.models.checkpoint import torch_device
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts


@dataclass(frozen=True)
class Cell:
    """One evaluation of the grid; planner, shift and loop by their names there."""

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

    @property
    def world(self) -> tuple[str, Shifts]:
        """What its targets depend on."""
        return self.job.task, self.job.shifts.of_layout()


@dataclass(frozen=True, kw_only=True)
class CellResult(Result):
    """A cell's line in the table of its grid.

    Attributes:
        planner, shift, loop: their names in the grid.
        against_reference: None where the cell is the reference itself.
        commit: of the package that found it, where that is not the table's.
    """

    shift: str
    loop: str
    against_reference: Comparison | None
    commit: str | None = None

    def to_json(self) -> dict[str, Any]:
        """See `Result`."""
        values = super().to_json()
        commit = values.pop("commit")
        return values if commit is None else {"commit": commit, **values}


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
    cluster: Cluster | None = None,
) -> list[CellResult]:
    """Run what `output` does not hold yet.

    Args:
        grid: what to run.
        output: directory, with a record for every cell and its timing; see `Record`.
        processes: see `run_job`; timing always has the machine to itself.
        starts: told the name of each cell and timing before it begins.
        cluster: runs the batches of all cells beside each other. What is timed stays on this
            machine.

    Returns:
        A row for each cell: its result, planning times of episodes one at a time and alone (its own
        where the latency is measured, else those of its timing), and the paired comparison with its
        reference.

    Raises:
        WmPlannerError: a cell cannot be run; `output` keeps the others.
    """
    todo = cells(grid, device)
    targets: dict[tuple[str, Shifts], Targets] = {}
    for cell in todo:
        if cell.world not in targets:
            targets[cell.world] = _targets(grid, cell, output)

    def run(kind: str, cell: Cell, job: Job, of: Targets, processes: int) -> Result:
        record = Record(output / kind / cell.name, job, origin)
        return Result.of(job, grid.seed, of, run_job(job, of, record, processes))

    if cluster is not None:
        _fill(todo, targets, output, origin, cluster, starts)
    found: dict[tuple[str, ...], Result] = {}
    for cell in todo:
        if cluster is None or cell.job.loop.latency == MEASURED:
            starts(cell.name)
        found[cell.key()] = run("cells", cell, cell.job, targets[cell.world], processes)
    for cell in todo:
        if cell.job.loop.latency == MEASURED:  # has had the machine to itself, in every episode
            continue
        starts(f"{cell.name}, timing")
        few = targets[cell.world].part(slice(grid.timing_episodes))
        alone = run("timing", cell, replace(cell.job, batch_size=1), few, 1)
        times = {name: getattr(alone, name) for name in TIMES}
        found[cell.key()] = replace(found[cell.key()], **times)
    rows = []
    for cell in todo:
        result, other = found[cell.key()], cell.key(grid.reference)
        pair = None if other == cell.key() else compare(result, found[other])
        named = {"planner": cell.planner, "shift": cell.shift, "loop": cell.loop}
        rows.append(CellResult(**{**vars(result), **named, "against_reference": pair}))
    return rows


def _fill(
    todo: list[Cell],
    targets: dict[tuple[str, Shifts], Targets],
    output: Path,
    origin: dict[str, str] | None,
    cluster: Cluster,
    starts: Callable[[str], object],
) -> None:
    """Run the cells on the cluster, but those whose latency is measured."""
    those = [cell for cell in todo if cell.job.loop.latency != MEASURED]
    done: list[int] = []

    def finished(place: int) -> None:
        done.append(place)
        starts(f"{those[place].name}: finished, {len(done)} of {len(those)} cells")

    jobs = [
        (cell.job, targets[cell.world], Record(output / "cells" / cell.name, cell.job, origin))
        for cell in those
    ]
    fill_records(jobs, cluster, finished)


def _cell(
    grid: Grid, device: str, task: str, checkpoint: str, loop_name: str, planner: str, shift: str
) -> Cell:
    changes = {"solver": planner, "seed": grid.seed, **(grid.planners[planner] or {})}
    shifts = grid.shifts_of(shift)
    loop = grid.loop_of(loop_name, shifts)
    job = job_of(task, checkpoint, changes, f"planners: {planner}", loop, shifts, device)
    name = "-".join([task, Path(checkpoint).name, loop_name, planner, shift])
    return Cell(name, planner, shift, loop_name, job)


def _targets(grid: Grid, cell: Cell, output: Path) -> Targets:
    """Of the cell's world; written down, to be evaluated elsewhere."""
    with closing(cell.job.make_env(disturbed=False)(True)) as env:
        targets = sample_targets(env, grid.seed, grid.episodes)
    output.mkdir(parents=True, exist_ok=True)
    task, shifts = cell.world
    name = f"{task}-{cell.shift}" if shifts.layout() else task
    targets.save(output / f"targets-{name}.npz")
    return targets
