"""One view of all recorded trajectories, and windows of history + horizon out of them.

Legend: T = frames of a trajectory, P = proprioception entries, a = raw action size,
A = frame_skip * a, S = state entries, L = frames of a window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wm_planner.embodiment import Embodiment
from wm_planner.errors import DatasetError

Stats = dict[str, tuple[float, ...]]


class Dataset(ABC):
    """N trajectories on disk; images are read when asked for.

    Between two frames of a trajectory lie `frame_skip` raw actions: 1 where every control period
    was photographed. `layout` is the name of the reader that has opened it. Class attributes:
    `stats_rule` says where `stats` come from, `action_after_last` whether the action after the last
    frame was kept.

    Args:
        path: where it lies.
        embodiment: of the robot; its `frame_skip` is what its model steps have by default.
        lengths: frames T of each trajectory.
        frame_skip: see above.
    """

    layout: str = ""
    stats_rule: ClassVar[str] = "computed over every step, unbiased"
    action_after_last: ClassVar[bool] = False

    def __init__(
        self, path: Path, embodiment: Embodiment, lengths: np.ndarray, frame_skip: int = 1
    ) -> None:
        self.path = path
        self.embodiment = embodiment
        self.lengths = np.asarray(lengths, np.int64)
        self.frame_skip = frame_skip
        if not len(self.lengths):
            raise DatasetError(f"{path}: holds no trajectory")

    @property
    def name(self) -> str:
        """Name of the embodiment: of the task, where the robot is simulated."""
        return self.embodiment.name

    def __len__(self) -> int:
        return len(self.lengths)

    @abstractmethod
    def proprio(self, index: int) -> np.ndarray:
        """(T, P) float32, physical units."""

    @abstractmethod
    def actions(self, index: int) -> np.ndarray:
        """(T - 1, A) float32, physical units: row t leads from frame t to frame t + 1.

        (T, A) where `action_after_last`.

        Raises:
            DatasetError: a value is not finite, here and in `proprio` and `states`.
        """

    @abstractmethod
    def read_frames(self, index: int, rows: range) -> np.ndarray:
        """As `frames`; the rows exist."""

    def states(self, index: int) -> np.ndarray | None:
        """(T, S) float64 full simulator states; None where nobody knows them."""
        return None

    def info(self, index: int) -> dict[str, Any]:
        """What else is known of a trajectory: layout of the walls, shape, episode event, ...

        'outcome' is 'success' or 'failure'. A store says where a trajectory came from if 'bag'
        names the recording; 'start_s' is then where in it the trajectory begins, seconds.
        """
        return {}

    def goal(self, index: int) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB, the picture that the robot was sent to; None: nobody knows it."""
        return None

    def frames(self, index: int, rows: range | None = None) -> np.ndarray:
        """(len(rows), H, W, 3) uint8 RGB; all rows by default.

        Raises:
            IndexError: no such trajectory or row.
            DatasetError: the file is missing, truncated, or holds no such images.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: trajectory {index} of {len(self)}")
        length = int(self.lengths[index])
        rows = range(length) if rows is None else rows
        if not rows or rows.step < 1 or rows[0] < 0 or rows[-1] >= length:
            raise IndexError(f"{self.path}: trajectory {index} has {length} frames, asked: {rows}")
        return self.read_frames(index, rows)

    def stats(self) -> Stats:
        """Mean and unbiased standard deviation of one raw action, of proprioception and of state.

        Keys 'action_mean', 'action_std', 'proprio_mean', ...; those of the state are missing where
        it is unknown. Computed in float64 over every step of every trajectory, held-out ones
        included, as the published code does; that works in float32, which differs by about 1e-6.
        """
        raw_size = self.actions(0).shape[1] // self.frame_skip
        result = self._moments("action", lambda i: self.actions(i).reshape(-1, raw_size))
        result |= self._moments("proprio", self.proprio)
        return result if self.states(0) is None else result | self._moments("state", self.states)

    def windows(self, history: int, horizon: int, frame_skip: int | None = None) -> Windows:
        """All windows of `history` + `horizon` frames; see `Windows`."""
        return Windows(self, history, horizon, frame_skip)

    def _moments(self, name: str, read: Callable[[int], Any]) -> Stats:
        count, mean, squares = 0, np.zeros(1), np.zeros(1)
        for index in range(len(self)):  # a data set may be larger than the memory
            values = np.asarray(read(index), np.float64)
            if not len(values):
                continue
            total = count + len(values)
            off = values.mean(axis=0) - mean
            squares = squares + ((values - values.mean(axis=0)) ** 2).sum(axis=0)
            squares = squares + off**2 * (count * len(values) / total)
            mean = mean + off * (len(values) / total)
            count = total
        if count < 2:
            raise DatasetError(f"{self.path}: {count} step(s) of {name} have no standard deviation")
        std = np.sqrt(squares / (count - 1))
        return {f"{name}_mean": tuple(mean.tolist()), f"{name}_std": tuple(std.tolist())}


@dataclass(frozen=True)
class Window:
    """L frames of one trajectory, one per model step.

    Attributes:
        images: (L, H, W, 3) uint8 RGB.
        proprio: (L, P) float32, physical units.
        actions: (L - 1, A) float32, physical units, from frame to frame.
        states: (L, S) float64, or None.
        trajectory, start: which trajectory, and the row of its first frame there.
    """

    images: np.ndarray
    proprio: np.ndarray
    actions: np.ndarray
    states: np.ndarray | None
    trajectory: int
    start: int


class Windows:
    """Windows of L = history + horizon frames, `frame_skip` raw actions apart, in order.

    A window starts at every frame from which L frames fit. Where the action after the last frame
    was kept, as in all published sets, the raw actions of one more model step must fit behind
    them (start + L * frame_skip <= T), though nothing uses them: so does the published code, and
    an epoch has the published number of windows. Training from a history of K frames takes
    ``history=K, horizon=1``; a published fine-tuning segment of N overlapping such windows is
    ``history=K, horizon=N``.

    Has a length and an index, which is all that a torch DataLoader asks of a data set.

    Args:
        dataset: where from.
        history, horizon: frames, each at least 1.
        frame_skip: raw actions per model step, a multiple of the data set's (the default).

    Raises:
        ValueError: `history` or `horizon` below 1.
        DatasetError: the frames are too rare, or no trajectory is long enough.
    """

    def __init__(
        self, dataset: Dataset, history: int, horizon: int, frame_skip: int | None = None
    ) -> None:
        if history < 1 or horizon < 1:
            raise ValueError(f"history and horizon must be at least 1, got {history}, {horizon}")
        frame_skip = dataset.frame_skip if frame_skip is None else frame_skip
        stride, rest = divmod(frame_skip, dataset.frame_skip)
        if stride < 1 or rest:
            raise DatasetError(
                f"{dataset.path}: has a frame every {dataset.frame_skip} raw actions; frame_skip "
                f"must be a multiple of that, got {frame_skip}"
            )
        self.dataset = dataset
        self.num_frames = history + horizon
        self.stride = stride
        steps = (self.num_frames - 1) * stride
        needed = steps + (stride if dataset.action_after_last else 1)
        counts = np.maximum(dataset.lengths - needed + 1, 0)
        self._ends = np.cumsum(counts)
        if not self._ends[-1]:
            raise DatasetError(
                f"{dataset.path}: a window of {self.num_frames} frames with frame_skip "
                f"{frame_skip} needs {needed} frames, the longest trajectory has "
                f"{dataset.lengths.max()}"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def of(self, trajectory: int) -> tuple[int, int]:
        """(number of the first, how many) of the windows of one trajectory."""
        first = int(self._ends[trajectory - 1]) if trajectory else 0
        return first, int(self._ends[trajectory]) - first

    def locate(self, number: int) -> tuple[int, int]:
        """(trajectory, row of the first frame) of a window.

        Raises:
            IndexError: no such window.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"window {number} of {len(self)}")
        trajectory = int(np.searchsorted(self._ends, number, side="right"))
        before = int(self._ends[trajectory - 1]) if trajectory else 0
        return trajectory, number - before

    def __getitem__(self, number: int) -> Window:
        trajectory, start = self.locate(number)
        last = start + (self.num_frames - 1) * self.stride
        rows = range(start, last + 1, self.stride)
        actions = self.dataset.actions(trajectory)[start:last]
        states = self.dataset.states(trajectory)
        return Window(
            images=self.dataset.frames(trajectory, rows),
            proprio=self.dataset.proprio(trajectory)[start : last + 1 : self.stride],
            actions=actions.reshape(self.num_frames - 1, -1),
            states=None if states is None else states[start : last + 1 : self.stride],
            trajectory=trajectory,
            start=start,
        )


def finite(values: np.ndarray, where: str) -> np.ndarray:
    """The (T, D) values; a DatasetError naming `where`, step and column if one is NaN or inf."""
    good = np.isfinite(values)
    if not good.all():
        step, column = np.argwhere(~good)[0]
        raise DatasetError(
            f"{where}, step {step}, column {column}: {values[step, column]}; restore the file, or "
            "record the trajectory again"
        )
    return values
