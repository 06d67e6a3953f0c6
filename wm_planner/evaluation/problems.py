"""Fixed sets of problems: where episodes start and where they shall end."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.errors import DatasetError, TaskError
from wm_planner.tasks import get_task


@dataclass(frozen=True)
class Problems:
    """Problems of one task.

    Attributes:
        task: task name.
        starts, goals: (N, S) float64 full simulator states.
        goal_images: (N, H, W, 3) uint8, what the planner is shown of the goals, and all it is
            shown; None for the simulator's picture and proprioception of the goal state.
        dropped: problems that were left out, or drawn again, because they start solved.
    """

    task: str
    starts: np.ndarray
    goals: np.ndarray
    goal_images: np.ndarray | None = None
    dropped: int = 0

    def __post_init__(self) -> None:
        size = len(get_task(self.task).state_names)
        count = self.starts.shape[0] if self.starts.ndim else 0
        for name in ("starts", "goals"):
            states = getattr(self, name)
            if states.shape != (count, size):
                raise ValueError(
                    f"{name} of task '{self.task}' must be (N, {size}), got {states.shape}"
                )
            if states.dtype.kind not in "fiu":
                raise ValueError(f"{name} must be numbers, got {states.dtype}")
            if not (finite := np.isfinite(states).all(axis=1)).all():
                first = int(np.argmin(finite))
                raise ValueError(f"{name}[{first}] is not finite: {states[first].tolist()}")
        images = self.goal_images
        if images is None:
            return
        if images.dtype != np.uint8 or images.shape != (count, *images.shape[1:3], 3):
            raise ValueError(
                f"goal_images must be uint8 ({count}, H, W, 3), got {images.dtype} {images.shape}"
            )

    def __len__(self) -> int:
        return len(self.starts)

    def part(self, index: slice | np.ndarray) -> Problems:
        """Some of the problems."""
        images = None if self.goal_images is None else self.goal_images[index]
        return replace(self, starts=self.starts[index], goals=self.goals[index], goal_images=images)

    def without_solved(self) -> Problems:
        """The problems that do not start within the task's success test, the others counted."""
        task = get_task(self.task)
        pairs = zip(self.starts, self.goals, strict=True)
        solved = np.array([task.is_success(start, goal) for start, goal in pairs], bool)
        return replace(self.part(~solved), dropped=self.dropped + int(solved.sum()))

    def sha256(self) -> str:
        """Equal for equal problems: what may be compared pair by pair."""
        digest = hashlib.sha256(self.task.encode())
        for array in (self.starts, self.goals, self.goal_images):
            if array is not None:
                digest.update(array.tobytes())
        return digest.hexdigest()

    def save(self, file: Path) -> None:
        """Write an .npz file."""
        arrays: dict[str, Any] = {"starts": self.starts, "goals": self.goals}
        if self.goal_images is not None:
            arrays["goal_images"] = self.goal_images
        with file.open("wb") as stream:
            np.savez(stream, task=self.task, dropped=self.dropped, **arrays)

    @classmethod
    def load(cls, file: Path, task: str) -> Problems:
        """Read what `save` wrote.

        Raises:
            DatasetError: it cannot be read, or is of another task.
        """
        try:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array, not an archive of several (numpy.savez)")
            with loaded as arrays:
                dropped = arrays["dropped"] if "dropped" in arrays else np.array(0)
                if dropped.shape or dropped.dtype.kind not in "iu":
                    raise ValueError(f"dropped must be one whole number, got {dropped!r}")
                problems = cls(
                    str(arrays["task"]),
                    arrays["starts"],
                    arrays["goals"],
                    arrays["goal_images"] if "goal_images" in arrays else None,
                    int(dropped),
                )
        except (
            *(OSError, KeyError, ValueError, EOFError, TaskError),
            *(zipfile.BadZipFile, zlib.error),
        ) as error:
            raise DatasetError(f"{file}: is no file of targets: {error}") from error
        if problems.task != task:
            raise DatasetError(f"{file}: holds targets of task '{problems.task}', not of '{task}'")
        return problems
