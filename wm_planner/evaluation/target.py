"""Targets: where episodes start and where they shall end; how they are drawn, kept and read.

Target i is drawn from (seed, i): a longer set begins with the shorter one. A pair that starts
solved is drawn again from the same generator, and counted.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy

from wm_planner.data.dataset import Dataset
from wm_planner.errors import DatasetError, TaskError, raised_as
from wm_planner.evaluation.episode import Env
from wm_planner.files import check_regular, write_bytes
from wm_planner.tasks import get_task

MAX_DRAWS = 100  # of one target
MAX_BYTES = 1 << 30  # of a file of targets, unpacked
# What numpy raises of a damaged archive, and ours of what it holds.
UNREADABLE = (
    *(OSError, KeyError, ValueError, EOFError, TypeError, OverflowError, MemoryError),
    *(SyntaxError, RecursionError, TokenError, zipfile.BadZipFile, zlib.error, TaskError),
)
Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Targets:
    """Targets of one task.

    Attributes:
        task: task name.
        starts, goals: (N, S) float64 full simulator states.
        goal_images: (N, H, W, 3) uint8, what the planner is shown of the goals, and all it is
            shown; None for the simulator's picture and proprioception of the goal state.
        dropped: targets that were left out, or drawn again, because they start solved.
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

    def part(self, index: slice | np.ndarray) -> Targets:
        """Some of the targets."""
        images = None if self.goal_images is None else self.goal_images[index]
        return replace(self, starts=self.starts[index], goals=self.goals[index], goal_images=images)

    def without_solved(self) -> Targets:
        """The targets that do not start within the task's success test, the others counted."""
        task = get_task(self.task)
        pairs = zip(self.starts, self.goals, strict=True)
        solved = np.array([task.is_success(start, goal) for start, goal in pairs], bool)
        return replace(self.part(~solved), dropped=self.dropped + int(solved.sum()))

    def sha256(self) -> str:
        """Equal for equal targets: what may be compared pair by pair."""
        digest = hashlib.sha256(self.task.encode())
        for array in (self.starts, self.goals, self.goal_images):
            if array is not None:
                digest.update(array.tobytes())
        return digest.hexdigest()

    def save(self, file: Path) -> None:
        """Write an .npz file.

        Raises:
            WriteError: it cannot be written.
        """
        arrays: dict[str, Any] = {"starts": self.starts, "goals": self.goals}
        if self.goal_images is not None:
            arrays["goal_images"] = self.goal_images
        stream = io.BytesIO()
        np.savez(stream, task=self.task, dropped=self.dropped, **arrays)
        write_bytes(file, stream.getbuffer())

    @classmethod
    def load(cls, file: Path, task: str) -> Targets:
        """Read what `save` wrote.

        Raises:
            DatasetError: it cannot be read, or is of another task.
        """
        with raised_as(DatasetError, *UNREADABLE, before=f"{file}: is no file of targets: "):
            with _opened(file) as arrays:
                dropped = arrays["dropped"] if "dropped" in arrays else np.array(0)
                if dropped.shape or dropped.dtype.kind not in "iu":
                    raise ValueError(f"dropped must be one whole number, got {dropped!r}")
                targets = cls(
                    str(arrays["task"]),
                    arrays["starts"],
                    arrays["goals"],
                    arrays.get("goal_images"),
                    int(dropped),
                )
        if targets.task != task:
            raise DatasetError(f"{file}: holds targets of task '{targets.task}', not of '{task}'")
        return targets


def _opened(file: Path) -> Any:
    """An archive of arrays, each of them as long as its header says, and all of them bounded.

    Raises:
        ValueError: it is none; a header that promises much is refused before memory is taken.
    """
    check_regular(file, DatasetError)
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no archive of arrays (numpy.savez)")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_BYTES:
            raise ValueError(f"its arrays have more than {MAX_BYTES} bytes")
        for member in members:
            with archive.open(member) as stream:
                version = npy.read_magic(stream)
                first = version == (1, 0)
                read = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
                shape, _, dtype = read(stream)
                if math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
                    raise ValueError(f"{member.filename}: its header promises {shape} {dtype}")
    return np.load(file, allow_pickle=False)


def sample_targets(env: Env, seed: int, count: int) -> Targets:
    """Random start and goal states, as the task's environment draws them.

    The simulator's bridge draws the same ones.

    Raises:
        TaskError: nearly all pairs start solved.
    """
    return _draw(env.task.name, env.sample_target, seed, count)


def image_targets(
    env: Env, image: np.ndarray, goal_state: np.ndarray, seed: int, count: int
) -> Targets:
    """Random starts towards one picture, the only thing that the planner is told of its goal.

    Args:
        env: environment of the task.
        image: (H, W, 3) uint8.
        goal_state: (S,) what the picture shows, for the test of success.
        seed, count: see the module.

    Raises:
        TaskError: the state does not fit the task, or nearly all starts lie at the goal.
    """
    env.set_state(goal_state)
    goal = env.get_state()
    targets = _draw(env.task.name, lambda rng: (env.sample_target(rng)[0], goal), seed, count)
    return replace(targets, goal_images=np.repeat(image[None], count, axis=0))


def explored_targets(env: Env, ahead: int, seed: int, count: int) -> Targets:
    """Random starts, and where the exploration of the training data gets from there.

    Args:
        env: environment of the task.
        ahead: raw actions from start to goal.
        seed, count: see the module.

    Raises:
        TaskError: nearly all pairs start solved.
    """

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        env.set_state(env.sample_state(rng))
        start, policy = env.get_state(), env.explore(rng)
        for _ in range(ahead):
            env.advance(policy(env.get_state()))
        return start, env.get_state()

    return _draw(env.task.name, draw, seed, count)


def dataset_targets(dataset: Dataset, task: str, horizon: int, seed: int, count: int) -> Targets:
    """Start and goal `horizon` model steps apart on a stored trajectory: goals known reachable.

    Raises:
        DatasetError: the data are of another task, hold no states or such as are not finite, are
            too short, or nearly all pairs start solved.
    """
    spec = get_task(task)
    if dataset.name != task:
        raise DatasetError(f"{dataset.path}: holds '{dataset.name}', not task '{task}'")
    states = dataset.states(0)
    size = len(spec.state_names)
    if states is None or states.shape[1] != size:
        got = "none" if states is None else f"{states.shape[1]} entries"
        raise DatasetError(
            f"{dataset.path}: goals need full simulator states of {size} entries, it has {got}; "
            "take data of 'wm-planner collect'"
        )
    windows = dataset.windows(1, horizon, spec.embodiment.frame_skip)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        trajectory, start = windows.locate(int(rng.integers(len(windows))))
        along = dataset.states(trajectory)
        assert along is not None
        return along[start], along[start + horizon * windows.stride]

    # A ValueError: states that are no numbers.
    with raised_as(DatasetError, TaskError, ValueError, before=f"{dataset.path}: "):
        targets = _draw(task, draw, seed, count)
    return targets


def _draw(task: str, draw: Draw, seed: int, count: int) -> Targets:
    spec, pairs, dropped = get_task(task), [], 0
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        for _ in range(MAX_DRAWS):
            start, goal = draw(rng)
            if not spec.is_success(start, goal):
                break
            dropped += 1
        else:
            raise TaskError(
                f"all {MAX_DRAWS} draws of target {i} start solved; choose goals further away"
            )
        pairs.append((start, goal))
    starts, goals = (np.array(states, np.float64) for states in zip(*pairs, strict=True))
    return Targets(task, starts, goals, dropped=dropped)
