"""What to evaluate: tasks x checkpoints x planners x loops x shifts, as one file says it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wm_planner.config import MAX_SEED, Natural, from_dict, suggest
from wm_planner.evaluation.episode import Loop
from wm_planner.planning import SOLVERS
from wm_planner.tasks import get_task, task_names
from wm_planner.tasks.shifts import Shifts


@dataclass(frozen=True)
class Quick:
    """What is different in a quick run, which shows that everything works, and nothing else.

    Attributes:
        episodes, timing_episodes: as in `Grid`.
        settings: planner settings, added to every planner's.
    """

    episodes: Natural = 2
    timing_episodes: Natural = 1
    settings: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_counts(self)


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
        episodes: targets of each cell, the same for all of a task.
        timing_episodes: targets on which planning times are measured: one at a time, with nothing
            beside, because a batch's time is no robot's. Loops of a measured latency need none:
            all their episodes are run so.
        seed: of targets and planners.
        quick: see `Quick`.
    """

    checkpoints: dict
    planners: dict
    loops: dict = field(default_factory=lambda: {"open-loop": {"mode": "open-loop"}, "mpc": {}})
    reference: Reference = field(default_factory=Reference)
    shifts: dict = field(default_factory=lambda: {"none": {}})
    episodes: Natural = 50
    timing_episodes: Natural = 3
    seed: int = 0
    quick: Quick = field(default_factory=Quick)

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise ValueError("checkpoints: at least one task is needed")
        for task, names in self.checkpoints.items():
            get_task(task)
            if not isinstance(names, list) or not names:
                raise ValueError(f"checkpoints: {task}: expected a list of names, got {names!r}")
        for key in ("planners", "loops", "shifts"):
            _check_named(key, getattr(self, key))
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
            shift, tasks = self.shifts_of(name), [get_task(task) for task in task_names()]
            if not any(shift.fits(task) for task in tasks):
                layouts = {task.name: list(task.layout) for task in tasks}
                raise ValueError(f"shifts: {name}: no task has this layout; theirs are {layouts}")
        _check_counts(self)
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must be from 0 to {MAX_SEED}, got {self.seed}")

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
        few, timed = self.quick.episodes, self.quick.timing_episodes
        return replace(self, planners=planners, episodes=few, timing_episodes=timed)


def _check_counts(values: Quick | Grid) -> None:
    for name in ("episodes", "timing_episodes"):
        if getattr(values, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(values, name)}")


def _check_named(key: str, named: dict) -> None:
    """Names are parts of directories' names, and what they stand for are settings."""
    if not named:
        raise ValueError(f"{key}: at least one is needed")
    for name, settings in named.items():
        if not isinstance(name, str) or "/" in name or name in (".", ".."):
            raise ValueError(
                f"{key}: {name!r}: a name is text without '/', not '.' or '..'; put a number in "
                "quotes"
            )
        if settings is not None and not isinstance(settings, dict):
            raise ValueError(f"{key}: {name}: expected a mapping of settings, got {settings!r}")
