"""Fixed sets of problems: where episodes start and where they shall end."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.errors import DatasetError
from wm_planner.tasks import get_task


@dataclass(frozen=True)
class Problems:
    """Problems of one task.

    Attributes:
        task: task name.
        starts, goals: (N, S) float64 full simulator states.
    """

    task: str
    starts: np.ndarray
    goals: np.ndarray

    def __post_init__(self) -> None:
        size = len(get_task(self.task).state_names)
        for name in ("starts", "goals"):
            shape = getattr(self, name).shape
            if len(shape) != 2 or shape != (len(self.starts), size):
                raise ValueError(f"{name} of task '{self.task}' must be (N, {size}), got {shape}")

    def __len__(self) -> int:
        return len(self.starts)

    def save(self, file: Path) -> None:
        """Write an .npz file."""
        with file.open("wb") as stream:
            np.savez(stream, task=self.task, starts=self.starts, goals=self.goals)

    @classmethod
    def load(cls, file: Path, task: str) -> Problems:
        """Read what `save` wrote.

        Raises:
            DatasetError: it cannot be read, or is of another task.
        """
        try:
            with np.load(file, allow_pickle=False) as arrays:
                problems = cls(str(arrays["task"]), arrays["starts"], arrays["goals"])
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{file}: is no file of targets: {error}") from error
        if problems.task != task:
            raise DatasetError(f"{file}: holds targets of task '{problems.task}', not of '{task}'")
        return problems


def sample_problems(env: Any, seed: int, count: int) -> Problems:
    """Problem i is drawn from (seed, i): a longer set begins with the shorter one.

    The simulator's bridge draws the same ones.
    """
    pairs = [env.sample_problem(np.random.default_rng([seed, i])) for i in range(count)]
    return Problems(
        env.task.name,
        np.array([start for start, _ in pairs], np.float64),
        np.array([goal for _, goal in pairs], np.float64),
    )
