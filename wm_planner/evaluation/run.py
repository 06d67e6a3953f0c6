"""An evaluation in batches: over processes, and begun again where it was left off."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from wm_planner.config import from_dict, to_dict
from wm_planner.errors import ConfigError, WmPlannerError
from wm_planner.evaluation.arena import Arena
from wm_planner.evaluation.episodes import MEASURED, EpisodeResult, Evaluation
from wm_planner.evaluation.job import Job, run_part
from wm_planner.evaluation.problems import Problems
from wm_planner.models.bundle import Bundle

logger = logging.getLogger(__name__)
CONFIG, BATCHES, TARGETS = "config.json", "batches.jsonl", "targets.npz"

_ARENAS: dict[Job, Arena] = {}  # one per worker process


@dataclass(frozen=True)
class _Batch:
    """A line of the file of batches.

    Attributes:
        problems: checksum of its problems.
        episodes, plan_seconds, plan_evaluations, memory_mib: as in `Evaluation`.
        commit: of the package that ran it; None when it is not known.
        written: when, UTC.
    """

    problems: str
    episodes: tuple[EpisodeResult, ...]
    plan_seconds: tuple[float, ...]
    plan_evaluations: tuple[int, ...]
    memory_mib: float = 0.0
    commit: str | None = None
    written: str | None = None

    def __post_init__(self) -> None:
        for name in ("episodes", "plan_seconds", "plan_evaluations"):
            if not getattr(self, name):
                raise ValueError(f"{name}: expected at least one, got none")

    def evaluation(self) -> Evaluation:
        """What the line says."""
        seconds, rollouts = list(self.plan_seconds), list(self.plan_evaluations)
        return Evaluation(list(self.episodes), seconds, rollouts, self.memory_mib)


class RunDirectory:
    """What an evaluation has found so far, on disk: a line for each finished batch.

    Args:
        directory: made when it is not there.
        job: must be the one that the directory was made for.
        origin: command and commit, written down: both of the first run, the commit with each batch.

    Raises:
        ConfigError: the directory holds something else, or an evaluation of other settings.
    """

    def __init__(self, directory: Path, job: Job, origin: dict[str, str] | None = None) -> None:
        self.directory, self._batches = directory, directory / BATCHES
        self._commit = (origin or {}).get("commit")
        # Through JSON, so that what was read compares equal with what was not written yet.
        settings = json.loads(json.dumps(to_dict(job)))
        config = directory / CONFIG
        if config.is_file():
            self._compare(config, settings)
            return
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigError(
                f"--output {directory}: exists and holds no {CONFIG} of an evaluation; choose "
                "another directory"
            )
        directory.mkdir(parents=True, exist_ok=True)
        write_json(config, {**(origin or {}), **settings})

    def finished(self) -> dict[str, Evaluation]:
        """Batches by the checksum of their problems; a line cut short by a crash is left out.

        Raises:
            ConfigError: a line that cannot be read.
        """
        lines = self._batches.read_bytes().splitlines() if self._batches.is_file() else []
        batches = []
        for number, line in enumerate(lines, start=1):
            try:
                values = json.loads(line)
            except ValueError as error:
                if number == len(lines):
                    break
                raise self._unreadable(number, error) from error
            try:
                if not isinstance(values, dict):
                    raise ConfigError(f"expected a mapping, got {values!r}")
                batches.append(from_dict(_Batch, values, "batch"))
            except ConfigError as error:
                raise self._unreadable(number, error) from error
        commits = {batch.commit for batch in batches} - {None, self._commit}
        if self._commit is not None and commits:
            logger.warning(
                "%s: holds batches of commit %s, this is %s",
                self.directory,
                ", ".join(sorted(map(str, commits))),
                self._commit,
            )
        return {batch.problems: batch.evaluation() for batch in batches}

    def add(self, problems: str, evaluation: Evaluation) -> None:
        """Append one batch."""
        written = datetime.now(timezone.utc).isoformat(timespec="seconds")
        origin = {"commit": self._commit, "written": written}
        line = json.dumps({"problems": problems, **asdict(evaluation), **origin})
        if self._batches.is_file():
            whole = self._batches.read_bytes().rfind(b"\n") + 1
            os.truncate(self._batches, whole)  # what a crash has left of a line
        with self._batches.open("a") as stream:
            stream.write(line + "\n")

    def _unreadable(self, number: int, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self._batches}, line {number}: cannot be read ({error}); remove the line to run its "
            "episodes again"
        )

    def _compare(self, config: Path, settings: dict[str, Any]) -> None:
        try:
            there = json.loads(config.read_text())
        except ValueError as error:
            raise ConfigError(f"{config}: not valid JSON: {error}") from error
        if not isinstance(there, dict):
            raise ConfigError(
                f"{config}: holds no settings of an evaluation, but {there!r}; choose another "
                "directory"
            )
        for key, here in _flat(settings).items():
            if (value := _flat(there).get(key)) != here:
                raise ConfigError(
                    f"--output {self.directory}: holds an evaluation with {key} {value}, this "
                    f"one has {here}; choose another directory"
                )


def run_job(
    job: Job,
    problems: Problems,
    record: RunDirectory | None = None,
    processes: int = 1,
    bundle: Bundle | None = None,
    progress: Callable[[int], object] = lambda periods: None,
) -> Evaluation:
    """Run every problem that `record` does not know yet.

    Batches are the same whatever the number of processes, and so are results.

    Args:
        job: settings.
        problems: all of them.
        record: finished batches are taken from it, and added to it.
        processes: 1 stays in this one, as do episodes whose latency is measured: beside each other
            plans take longer.
        bundle: the job's checkpoint, where this process has loaded it already.
        progress: told the number of control periods that are done, or saved by a success.

    Raises:
        PlanningError: the model gives no finite plan.
        WmPlannerError: a process was killed; what is finished is in `record`.
    """
    size = job.batch_size
    parts = [problems.part(slice(i, i + size)) for i in range(0, len(problems), size)]
    keys = [part.sha256() for part in parts]
    finished = {} if record is None else record.finished()
    pending = [i for i, key in enumerate(keys) if key not in finished]
    waiting = [parts[i] for i in pending]
    progress(num_periods(job, problems) - sum(num_periods(job, part) for part in waiting))
    if processes > 1 and len(pending) > 1 and job.loop.latency != MEASURED:
        batches = _in_processes(job, waiting, min(processes, len(pending)), progress)
    else:
        batches = _in_turn(job, waiting, bundle, progress)
    for index, evaluation in batches:
        key = keys[pending[index]]
        finished[key] = evaluation
        if record is not None:
            record.add(key, evaluation)
    total = Evaluation()
    for key in keys:
        total.extend(finished[key])
    return total


def write_json(file: Path, content: Any) -> None:
    """Write an object, indented.

    Raises:
        OSError: it cannot be written; a full disk, too, says of which file.
    """
    try:
        file.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        error.filename = error.filename or str(file)
        raise


def num_periods(job: Job, problems: Problems) -> int:
    """Control periods that the problems take at most; a progress bar's length."""
    from wm_planner.tasks import get_task

    task = get_task(job.task)
    steps = task.max_model_steps if job.loop.mode == "mpc" else job.planner.horizon
    return steps * task.embodiment.frame_skip * len(problems)


def _in_turn(
    job: Job, parts: list[Problems], bundle: Bundle | None, progress: Callable[[int], object]
) -> Iterator[tuple[int, Evaluation]]:
    if parts:
        with job.arena(max(map(len, parts)), bundle) as arena:
            for index, part in enumerate(parts):
                yield index, run_part(arena, part, progress)


def _in_processes(
    job: Job, parts: list[Problems], processes: int, progress: Callable[[int], object]
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
                progress(num_periods(job, parts[index]))
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


def _work(job: Job, problems: Problems) -> Evaluation:
    if job not in _ARENAS:
        _ARENAS[job] = job.arena(job.batch_size)
    return run_part(_ARENAS[job], problems)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{inner}": v for inner, v in _flat(value).items()})
        else:
            flat[key] = value
    return flat
