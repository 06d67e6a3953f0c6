"""An episode: the environment that it is run in, how plans are executed, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from wm_planner.config import Natural, Size
from wm_planner.errors import TaskError
from wm_planner.tasks import Task, get_task
from wm_planner.tasks.shifts import Shifts

MODES = ("open-loop", "mpc")
MEASURED = "measured"
MAX_LATENCY = 3600.0  # seconds
State = np.ndarray  # (S,) float64, in the order of the task's state names


class Env(Protocol):
    """What evaluation asks of a task's environment; `sim_bridge.envs.base.TaskEnv` says it all."""

    task: Task

    def get_state(self) -> State: ...
    def set_state(self, state: State) -> None: ...
    def advance(self, action: np.ndarray) -> None: ...
    def render_state(self, state: State) -> np.ndarray: ...
    def proprio_of(self, state: State) -> np.ndarray: ...
    def sample_state(self, rng: np.random.Generator) -> State: ...
    def sample_target(self, rng: np.random.Generator) -> tuple[State, State]: ...
    def is_possible(self, state: State) -> bool: ...
    def is_free(self, state: State) -> bool: ...
    def expert(self, rng: np.random.Generator) -> Callable[[State], np.ndarray]: ...
    def explore(self, rng: np.random.Generator) -> Callable[[State], np.ndarray]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class EnvMaker:
    """Makes environments of a task: called with True for one that draws, False for physics."""

    task: str
    image_size: int
    shifts: Shifts = field(default_factory=Shifts)

    def __call__(self, render: bool) -> Env:
        import gymnasium

        options: dict[str, Any] = {"image_size": self.image_size, "render": render}
        if layout := self.shifts.layout():
            options["layout"] = layout
        env: Any = gymnasium.make(get_task(self.task).env_id, **options).unwrapped
        if not self.shifts.disturbances():
            return env
        if not hasattr(env, "disturbed"):
            raise TaskError(
                f"task '{self.task}': its environment has no method 'disturbed', so it can have "
                "no shifts"
            )
        return env.disturbed(self.shifts)


@dataclass(frozen=True)
class Loop:
    """How plans are executed.

    Attributes:
        mode: 'mpc' replans until success or the task's last model step; 'open-loop' executes one
            plan to its end. Success is final. It is looked for where a plan has been used up
            (every `replan_steps`, or at the very end); with a latency, after every model step.
        latency: None: the world waits for the planner. Seconds (3600 at most), or 'measured' for
            those that each plan takes: the world goes on. The rows of the last plan that are due
            are executed meanwhile, the raw action zero where there are none, and the new plan
            begins with the row that is due when it arrives.
        delayed_frames: model steps by which an observation is old when it reaches the planner.
        max_steps: model steps after which an episode of 'mpc' has failed; None: the task's.
    """

    mode: str = "mpc"
    latency: float | str | None = None
    delayed_frames: Natural = 0
    max_steps: Size | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode '{self.mode}' is unknown; choices: {', '.join(MODES)}")
        if isinstance(self.latency, str):
            if self.latency != MEASURED:
                raise ValueError(f"latency must be seconds or '{MEASURED}', got '{self.latency}'")
        elif self.latency is not None and not 0 <= self.latency <= MAX_LATENCY:
            raise ValueError(f"latency must be from 0 to {MAX_LATENCY:g} s, got {self.latency}")
        if self.max_steps is not None and (self.max_steps < 1 or self.mode != "mpc"):
            raise ValueError(f"max_steps must be at least 1, with mode 'mpc', got {self.max_steps}")
        if self.delayed_frames < 0:
            raise ValueError(f"delayed_frames must be at least 0, got {self.delayed_frames}")

    def last_step(self, task: Task, horizon: int) -> int:
        """Model steps of an episode at most, by a planner of that horizon."""
        return (self.max_steps or task.max_model_steps) if self.mode == "mpc" else horizon

    def wait(self, plan_seconds: float, control_dt_s: float) -> int:
        """Control periods from an observation to its plan."""
        seconds = plan_seconds if self.latency == MEASURED else float(self.latency or 0.0)
        return math.ceil(round(seconds / control_dt_s, 9))


@dataclass(frozen=True)
class Episode:
    """One episode that was run.

    Attributes:
        success: the goal was reached.
        num_steps: model steps executed.
        distance: left at the end, in the unit of the task's test of success.
        start_distance: at the beginning.
    """

    success: bool
    num_steps: int
    distance: float
    start_distance: float


@dataclass
class Evaluation:
    """All episodes, in the order of the targets, and what planning took.

    Attributes:
        plan_seconds: of each planning call, divided by the number of episodes planned in it.
        plan_evaluations: rollouts per episode of each planning call.
        memory_mib: peak resident set of a process while it ran episodes, weights and simulator
            included; of a GPU, the peak that torch allocated there.
    """

    episodes: list[Episode] = field(default_factory=list)
    plan_seconds: list[float] = field(default_factory=list)
    plan_evaluations: list[int] = field(default_factory=list)
    memory_mib: float = 0.0

    def extend(self, other: Evaluation) -> None:
        """Add the episodes of another one."""
        self.episodes += other.episodes
        self.plan_seconds += other.plan_seconds
        self.plan_evaluations += other.plan_evaluations
        self.memory_mib = max(self.memory_mib, other.memory_mib)
