"""A job: one evaluation, described so that it can be run in batches, by one process or several."""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wm_planner.cluster import Cluster
from wm_planner.errors import ConfigError, WmPlannerError
from wm_planner.evaluation.arena import Arena
from wm_planner.evaluation.episode import MEASURED, EnvMaker, Evaluation, Loop
from wm_planner.evaluation.record import Record
from wm_planner.evaluation.target import Targets
from wm_planner.models import checkpoint
from wm_planner.models.bundle import Bundle
from wm_planner.models.catalog import CARD, checksum, read_card, resolve_checkpoint
from wm_planner.planning import Planner, PlannerConfig, planner_config
from wm_planner.planning.starting_points import MAX_ROLLOUTS
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts

MAX_BATCH = 25  # episodes planned together: more gain nothing on a CPU, and cannot be shared out
MIB = 2**20
Progress = Callable[[int], object]  # told the number of control periods


@dataclass(frozen=True)
class Job:
    """All that results depend on, but the targets.

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

    def make_env(self, disturbed: bool = True) -> EnvMaker:
        """The job's environments, or those of its layout alone: targets are drawn in them."""
        shifts = self.shifts if disturbed else self.shifts.of_layout()
        return EnvMaker(self.task, self.image_size, shifts)

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

    def num_periods(self, targets: Targets) -> int:
        """Control periods that the targets take at most; a progress bar's length."""
        task = get_task(self.task)
        steps = self.loop.last_step(task, self.planner.horizon)
        return steps * task.embodiment.frame_skip * len(targets)


_ARENAS: dict[Job, Arena] = {}  # one at most, of a worker process


def default_batch(config: PlannerConfig, loop: Loop) -> int:
    """Episodes that may be planned together: one when latency is measured or the model adapts."""
    if loop.latency == MEASURED or (config.adapts and loop.mode == "mpc"):
        return 1
    candidates = config.num_restarts if config.descends else config.num_samples
    return min(MAX_BATCH, max(1, MAX_ROLLOUTS // candidates))


def job_of(
    task: str,
    checkpoint: str,
    changes: dict[str, Any],
    source: str,
    loop: Loop,
    shifts: Shifts | None = None,
    device: str = "cpu",
) -> Job:
    """The evaluation of a checkpoint, whose weights are not loaded.

    Args:
        task: task name.
        checkpoint: shipped name, variant or directory.
        changes: of the planner settings that the checkpoint recommends.
        source: names their origin in errors.
        loop, shifts, device: see `Job`.

    Raises:
        WmPlannerError: the checkpoint is missing or of another task, or a setting is unusable.
    """
    card = read_card(resolve_checkpoint(checkpoint, task) / CARD, task)
    settings = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    config = planner_config(card["planner"], settings, source)
    return Job(
        task=task,
        checkpoint=checkpoint,
        weights_sha256=checksum(card),
        image_size=card["preprocess"]["image_size"],
        planner=config,
        loop=loop,
        shifts=shifts or Shifts(),
        batch_size=default_batch(config, loop),
        device=device,
    )


def run_job(
    job: Job,
    targets: Targets,
    record: Record | None = None,
    processes: int = 1,
    bundle: Bundle | None = None,
    progress: Progress = lambda periods: None,
    cluster: Cluster | None = None,
) -> Evaluation:
    """Run every target that `record` does not know yet.

    Batches are the same whatever the number of processes and machines, and so are results.

    Args:
        job: settings.
        targets: all of them.
        record: finished batches are taken from it, and added to it.
        processes: 1 stays in this one, as do episodes whose latency is measured: beside each other
            plans take longer.
        bundle: the job's checkpoint, where this process has loaded it already.
        progress: told the number of control periods that are done, or saved by a success.
        cluster: runs the batches, unless their latency is measured.

    Raises:
        PlanningError: the model gives no finite plan.
        WmPlannerError: a process was killed; what is finished is in `record`.
    """
    batches = _Batches(job, targets, record)
    waiting = batches.waiting()
    progress(job.num_periods(targets) - sum(map(job.num_periods, waiting)))
    if cluster is not None and job.loop.latency != MEASURED:
        done = _on_cluster(cluster, [(job, part) for part in waiting], progress)
    elif processes > 1 and len(waiting) > 1 and job.loop.latency != MEASURED:
        done = _in_processes(job, waiting, min(processes, len(waiting)), progress)
    else:
        done = _in_turn(job, waiting, bundle, progress)
    for index, evaluation in done:
        batches.add(waiting[index], evaluation)
    return batches.total()


def fill_records(
    todo: Sequence[tuple[Job, Targets, Record]],
    cluster: Cluster,
    finished: Callable[[int], object] = lambda index: None,
) -> None:
    """Run on a cluster what the records of several jobs do not know yet, all batches beside each
    other.

    Args:
        todo: none of a measured latency.
        cluster: runs the batches.
        finished: told the place of a job in `todo` when its record is complete.

    Raises:
        WmPlannerError: see `run_job`.
    """
    batches = [_Batches(*one) for one in todo]
    owners, items = [], []
    left = [len(one.waiting()) for one in batches]
    for place, one in enumerate(batches):
        parts = one.waiting()
        owners += [place] * len(parts)
        items += [(one.job, part) for part in parts]
        if not parts:
            finished(place)
    for index, evaluation in _on_cluster(cluster, items):
        place = owners[index]
        batches[place].add(items[index][1], evaluation)
        left[place] -= 1
        if not left[place]:
            finished(place)


class _Batches:
    """The targets of a job in batches, and what is known of each."""

    def __init__(self, job: Job, targets: Targets, record: Record | None) -> None:
        self.job, self._record = job, record
        size = job.batch_size
        parts = [targets.part(slice(i, i + size)) for i in range(0, len(targets), size)]
        self._parts = {part.sha256(): part for part in parts}
        self._keys = [part.sha256() for part in parts]  # equal batches have one key
        self._finished = {} if record is None else record.finished()

    def waiting(self) -> list[Targets]:
        """Those that are to be run."""
        return [part for key, part in self._parts.items() if key not in self._finished]

    def add(self, part: Targets, evaluation: Evaluation) -> None:
        """One has been run."""
        key = part.sha256()
        self._finished[key] = evaluation
        if self._record is not None:
            self._record.add(key, evaluation)

    def total(self) -> Evaluation:
        """Of all of them, in the order of the targets."""
        total = Evaluation()
        for key in self._keys:
            total.extend(self._finished[key])
        return total


def _in_turn(
    job: Job, parts: list[Targets], bundle: Bundle | None, progress: Progress
) -> Iterator[tuple[int, Evaluation]]:
    if parts:
        with job.arena(max(map(len, parts)), bundle) as arena:
            for index, part in enumerate(parts):
                yield index, _run_part(arena, part, progress)


def _on_cluster(
    cluster: Cluster, items: list[tuple[Job, Targets]], progress: Progress = lambda periods: None
) -> Iterator[tuple[int, Evaluation]]:
    """Items of one device."""
    if not items:
        return
    job = items[0][0]
    gpus = 0 if job.device == "cpu" else 1
    for index, evaluation in cluster.run(_work, items, job.threads, gpus):
        yield index, evaluation
        progress(job.num_periods(items[index][1]))


def _in_processes(
    job: Job, parts: list[Targets], processes: int, progress: Progress
) -> Iterator[tuple[int, Evaluation]]:
    context, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        try:
            # Ctrl-C goes to all processes of a terminal; workers inherit that they do not hear it.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                futures = {pool.submit(_work, job, part): i for i, part in enumerate(parts)}
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for future in as_completed(futures):
                index = futures[future]
                yield index, future.result()
                progress(job.num_periods(parts[index]))
        except BrokenProcessPool as error:
            raise WmPlannerError(
                "a process of the evaluation was killed, perhaps for want of memory; take fewer "
                "--processes or a smaller --batch-size (with --output, what is finished is kept)"
            ) from error
        except BaseException:  # Ctrl-C above all: nobody waits for what is still planned
            for process in set(multiprocessing.active_children()) - set(others):
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _work(job: Job, targets: Targets) -> Evaluation:
    """In another process, of this machine or of a cluster's.

    Raises:
        ConfigError: this machine has other weights of the checkpoint.
    """
    if job not in _ARENAS:
        for arena in _ARENAS.values():  # of another cell: a process of a cluster runs many
            arena.__exit__()
        _ARENAS.clear()
        card = read_card(resolve_checkpoint(job.checkpoint, job.task) / CARD, job.task)
        if checksum(card) != job.weights_sha256:
            raise ConfigError(
                f"checkpoint {job.checkpoint}: machine {socket.gethostname()} has one of other "
                "weights; name it by a path that is the same on all machines"
            )
        _ARENAS[job] = job.arena(job.batch_size)
    return _run_part(_ARENAS[job], targets)


def _run_part(
    arena: Arena, targets: Targets, progress: Progress = lambda periods: None
) -> Evaluation:
    """`Arena.run`, with the most memory that was taken while it ran: see `Evaluation`."""
    device = arena.planner.bundle.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # no /proc, or none that may be written
            Path("/proc/self/clear_refs").write_text("5")  # forgets what was taken before
    evaluation = arena.run(targets, progress)
    if device.type == "cuda":
        evaluation.memory_mib = torch.cuda.max_memory_allocated(device) / MIB
    else:
        evaluation.memory_mib = _peak_mib()
    return evaluation


def _peak_mib() -> float:
    """Most memory that this process had since its peak was forgotten; if it cannot be, ever."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024
