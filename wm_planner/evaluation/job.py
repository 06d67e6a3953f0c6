"""One evaluation, described so that another process can do a part of it."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wm_planner.errors import TaskError
from wm_planner.evaluation.arena import Arena
from wm_planner.evaluation.episodes import MEASURED, Evaluation, Loop
from wm_planner.evaluation.problems import Problems
from wm_planner.models import checkpoint
from wm_planner.models.bundle import Bundle
from wm_planner.planning import Planner, PlannerConfig
from wm_planner.planning.starting_points import MAX_ROLLOUTS
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts

MAX_BATCH = 25  # episodes planned together: more gain nothing on a CPU, and cannot be shared out
MIB = 2**20


@dataclass(frozen=True)
class EnvMaker:
    """Makes environments of a task: called with True for one that draws, False for physics."""

    task: str
    image_size: int
    shifts: Shifts = field(default_factory=Shifts)

    def __call__(self, render: bool) -> Any:
        import gymnasium

        options: dict[str, Any] = {"image_size": self.image_size, "render": render}
        if layout := self.shifts.layout():
            options["layout"] = layout
        made = gymnasium.make(get_task(self.task).env_id, **options)
        env: Any = made.unwrapped
        if not self.shifts.disturbances():
            return env
        if not hasattr(env, "disturbed"):
            raise TaskError(
                f"task '{self.task}': its environment has no method 'disturbed', so it can have "
                "no shifts"
            )
        return env.disturbed(self.shifts)


@dataclass(frozen=True)
class Job:
    """All that results depend on, but the problems.

    Attributes:
        task: task name.
        checkpoint: shipped name, variant or directory.
        weights_sha256: of the checkpoint's weights, as its card says.
        image_size: side of the pictures, pixels.
        planner: settings.
        loop: how plans are executed.
        shifts: how the world differs from the trained one.
        batch_size: episodes planned together.
        device: torch device.
        threads: CPU threads of torch, in each process.
    """

    task: str
    checkpoint: str
    weights_sha256: str
    image_size: int
    planner: PlannerConfig
    loop: Loop
    shifts: Shifts = field(default_factory=Shifts)
    batch_size: int = 1
    device: str = "cpu"
    threads: int = 1

    def make_env(self) -> EnvMaker:
        """The job's environments."""
        return EnvMaker(self.task, self.image_size, self.shifts)

    def arena(self, size: int, bundle: Bundle | None = None) -> Arena:
        """Planner and environments.

        Args:
            size: most episodes planned together.
            bundle: the checkpoint, where it is loaded already.

        Raises:
            WmPlannerError: the checkpoint or the settings cannot be used.
        """
        torch.set_num_threads(self.threads)
        if bundle is None:
            bundle = checkpoint.load_bundle(self.checkpoint, self.device, self.task)
        return Arena(Planner(bundle, self.planner), self.make_env(), size, self.loop)


def default_batch(config: PlannerConfig, loop: Loop) -> int:
    """Episodes that may be planned together: one when latency is measured or the model adapts."""
    if loop.latency == MEASURED or (config.adapts and loop.mode == "mpc"):
        return 1
    candidates = config.num_restarts if config.descends else config.num_samples
    return min(MAX_BATCH, max(1, MAX_ROLLOUTS // candidates))


def run_part(
    arena: Arena, problems: Problems, progress: Callable[[int], object] = lambda periods: None
) -> Evaluation:
    """`Arena.run`, with the most memory that was taken while it ran: see `Evaluation`."""
    device = arena.planner.bundle.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _reset_peak()
    evaluation = arena.run(problems, progress)
    if device.type == "cuda":
        evaluation.memory_mib = torch.cuda.max_memory_allocated(device) / MIB
    else:
        evaluation.memory_mib = _peak_mib()
    return evaluation


def _reset_peak() -> None:
    """Let the kernel forget what this process took before, where it can."""
    with suppress(OSError):  # no /proc, or none that may be written
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> float:
    """Most memory that this process had since the last `_reset_peak`; without it, ever."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024
