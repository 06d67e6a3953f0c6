"""Tasks x checkpoints x planners x loops: the results that the documents quote, from one file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wm_planner.config import from_dict, suggest
from wm_planner.errors import ConfigError
from wm_planner.evaluation.episodes import Loop
from wm_planner.evaluation.goals import sample_problems
from wm_planner.evaluation.job import Job, default_batch
from wm_planner.evaluation.problems import Problems
from wm_planner.evaluation.run import RunDirectory, run_job
from wm_planner.evaluation.summary import compare, result_of
from wm_planner.models.catalog import CARD, read_card, resolve_checkpoint
from wm_planner.planning import SOLVERS, planner_config
from wm_planner.tasks import TASKS, get_task
from wm_planner.tasks.shifts import Shifts

Row = dict[str, Any]


@dataclass(frozen=True)
class Quick:
    """What is different in a quick run, which shows that everything works, and nothing else.

    Attributes:
        episodes, timing_episodes: as in `Grid`.
        settings: planner settings, added to every planner's.
    """

    episodes: int = 2
    timing_episodes: int = 1
    settings: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """What each cell is compared with, on the same targets.

    Attributes:
        planner, checkpoint, loop: of the other cell; None: the cell's own.
    """

    planner: str | None = None
    checkpoint: str | None = None
    loop: str | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.checkpoint, self.planner, self.loop)))


@dataclass(frozen=True)
class Grid:
    """What to run.

    Attributes:
        checkpoints: names or directories of each task's checkpoints.
        planners: settings of each planner, changing those that the checkpoint recommends. The key
            is a solver's name, or any name when 'solver' is among the settings.
        loops: how plans are executed, by a name of your own: keys of `Loop`.
        reference: see `Reference`.
        shifts: differences from the trained world, by a name of your own. One of a layout that a
            task does not have is left out for it.
        episodes: problems of each cell, the same for all of a task.
        timing_episodes: problems on which the seconds per plan are measured: one at a time, with
            nothing beside, because a batch's time is no robot's.
        seed: of problems and planners.
        quick: see `Quick`.
    """

    checkpoints: dict
    planners: dict
    loops: dict = field(default_factory=lambda: {"open-loop": {"mode": "open-loop"}, "mpc": {}})
    reference: Reference = field(default_factory=Reference)
    shifts: dict = field(default_factory=lambda: {"none": {}})
    episodes: int = 50
    timing_episodes: int = 3
    seed: int = 0
    quick: Quick = field(default_factory=Quick)

    def __post_init__(self) -> None:
        for task, names in self.checkpoints.items():
            get_task(task)
            if not isinstance(names, list) or not names:
                raise ValueError(f"checkpoints: {task}: expected a list of names, got {names!r}")
        for name, settings in self.planners.items():
            solver = (settings or {}).get("solver", name)
            if solver not in SOLVERS:
                raise ValueError(f"planners: {name}: unknown solver.{suggest(solver, SOLVERS)}")
        if self.reference == Reference():
            raise ValueError("reference: name a planner, a checkpoint or a loop to compare with")
        for name in self.loops:
            self.loop_of(name, Shifts())
        self._check_reference()
        for name in self.shifts:
            if not any(self.shifts_of(name).fits(task) for task in TASKS.values()):
                layouts = {task.name: list(task.layout) for task in TASKS.values()}
                raise ValueError(f"shifts: {name}: no task has this layout; theirs are {layouts}")
        for name in ("episodes", "timing_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def _check_reference(self) -> None:
        of = self.reference
        named = [("planner", of.planner, "the planners", self.planners)]
        named += [("loop", of.loop, "the loops", self.loops)]
        for task, names in self.checkpoints.items():
            named += [("checkpoint", of.checkpoint, f"{task}'s checkpoints", names)]
        for key, value, where, known in named:
            if value is not None and value not in known:
                raise ValueError(
                    f"reference: {key} '{value}' is none of {where}.{suggest(value, known)}"
                )

    def loop_of(self, name: str, shifts: Shifts) -> Loop:
        """The loop of a name, in a world of those shifts.

        Raises:
            ConfigError: a key or value that cannot be used.
        """
        loop = from_dict(Loop, self.loops[name] or {}, f"loops: {name}")
        return replace(loop, delayed_frames=max(loop.delayed_frames, shifts.delayed_frames))

    def shifts_of(self, name: str) -> Shifts:
        """The shift of a name.

        Raises:
            ConfigError: a key or value that cannot be used.
        """
        return from_dict(Shifts, self.shifts[name] or {}, f"shifts: {name}")

    def quickly(self) -> Grid:
        """The grid of a quick run."""
        planners = {
            name: {**(settings or {}), **self.quick.settings}
            for name, settings in self.planners.items()
        }
        quick = self.quick
        return replace(
            self,
            planners=planners,
            episodes=quick.episodes,
            timing_episodes=quick.timing_episodes,
        )


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
        WmPlannerError: a checkpoint is missing, or a setting cannot be used.
    """
    found = [
        _cell(grid, device, task, str(checkpoint), loop, planner, shift)
        for task, checkpoints in grid.checkpoints.items()
        for shift in grid.shifts
        if grid.shifts_of(shift).fits(get_task(task))
        for checkpoint in checkpoints
        for loop in grid.loops
        for planner in grid.planners
    ]
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
        A row for each cell: its result, seconds per plan measured alone, and the paired comparison
        with its reference, None where the cell is that itself.

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
        starts(f"{cell.name}, timing")
        job = replace(cell.job, batch_size=1)
        which = problems[_world(cell)].part(slice(grid.timing_episodes))
        record = RunDirectory(output / "timing" / cell.name, job, origin)
        timings[cell.name] = result_of(job, grid.seed, which, run_job(job, which, record))
    return list(_joined(grid, todo, rows, timings))


def _cell(
    grid: Grid, device: str, task: str, checkpoint: str, loop_name: str, planner: str, shift: str
) -> Cell:
    card = read_card(resolve_checkpoint(checkpoint, task) / CARD)
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
        for key in ("plan_seconds_p50", "plan_seconds_p99"):
            row[key] = timings[cell.name][key]
        rows[cell.name] = row
    cell_of = {cell.key(): cell for cell in todo}
    for cell in todo:
        other = cell_of[cell.key(grid.reference)]
        pair = None if other is cell else compare(rows[cell.name], rows[other.name])
        yield rows[cell.name] | {"against_reference": pair}
