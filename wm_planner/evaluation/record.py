"""The record of an evaluation: a directory with its settings, and a line per finished batch."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_planner.config import flat, from_dict, to_dict
from wm_planner.errors import ConfigError
from wm_planner.evaluation.episode import Episode, Evaluation
from wm_planner.files import append_line, read_json, write_json

if TYPE_CHECKING:
    from wm_planner.evaluation.job import Job

logger = logging.getLogger(__name__)
CONFIG, BATCHES, TARGETS = "config.json", "batches.jsonl", "targets.npz"


@dataclass(frozen=True)
class _Batch:
    """A line of the file of batches.

    Attributes:
        problems: checksum of its targets.
        episodes, plan_seconds, plan_evaluations, memory_mib: as in `Evaluation`.
        commit: of the package that ran it; None when it is not known.
        written: when, UTC.
    """

    problems: str
    episodes: tuple[Episode, ...]
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


class Record:
    """What an evaluation has found so far, on disk.

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
        """Batches by the checksum of their targets; a line cut short by a crash is left out.

        Raises:
            ConfigError: a line that cannot be read.
        """
        lines = self._batches.read_bytes().splitlines() if self._batches.is_file() else []
        batches = []
        for number, line in enumerate(lines, start=1):
            try:
                values = json.loads(line)  # not `parse_json`: a line that was cut is told apart
                if not isinstance(values, dict):
                    raise ConfigError(f"expected a mapping, got {values!r}")
                batches.append(from_dict(_Batch, values, "batch"))
            except (ValueError, RecursionError, ConfigError) as error:
                if isinstance(error, ValueError) and number == len(lines):
                    break
                raise ConfigError(
                    f"{self._batches}, line {number}: cannot be read ({error}); remove the line to "
                    "run its episodes again"
                ) from error
        commits = {batch.commit for batch in batches} - {None, self._commit}
        if self._commit is not None and commits:
            logger.warning(
                "%s: holds batches of commit %s, this is %s",
                self.directory,
                ", ".join(sorted(map(str, commits))),
                self._commit,
            )
        return {batch.problems: batch.evaluation() for batch in batches}

    def add(self, targets: str, evaluation: Evaluation) -> None:
        """Append one batch, by the checksum of its targets."""
        written = datetime.now(timezone.utc).isoformat(timespec="seconds")
        origin = {"commit": self._commit, "written": written}
        line = json.dumps({"problems": targets, **asdict(evaluation), **origin})
        if self._batches.is_file():
            whole = self._batches.read_bytes().rfind(b"\n") + 1
            os.truncate(self._batches, whole)  # what a crash has left of a line
        append_line(self._batches, line)

    def _compare(self, config: Path, settings: dict[str, Any]) -> None:
        there = read_json(config)
        if not isinstance(there, dict):
            raise ConfigError(
                f"{config}: holds no settings of an evaluation, but {there!r}; choose another "
                "directory"
            )
        there = flat(there)
        for key, here in flat(settings).items():
            if (value := there.get(key)) != here:
                raise ConfigError(
                    f"--output {self.directory}: holds an evaluation with {key} {value}, this "
                    f"one has {here}; choose another directory"
                )
