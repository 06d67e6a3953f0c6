"""The published data sets of DINO-WM, in the layouts in which they are downloaded.

All keep one image, state and action per control period, padded to the longest trajectory:
``states.pth`` and an action file (N, Tmax, .), and the images of trajectory i in a file of its
own. Actions are in the unit of the task of the same name, states are those of its simulator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wm_planner.data.dataset import Dataset, Stats, finite
from wm_planner.data.image_files import tensor_frames, video_frames
from wm_planner.data.layouts import Reader
from wm_planner.data.pickled_values import load_pickle, load_pth
from wm_planner.embodiment import Embodiment
from wm_planner.errors import DatasetError
from wm_planner.tasks.registry import get_task, unknown_embodiment


class _Table:
    """An (N, Tmax, ...) tensor of a file, divided by `scale`; read per trajectory."""

    def __init__(self, file: Path, scale: float = 1.0) -> None:
        values = load_pth(file)
        if not isinstance(values, np.ndarray) or values.ndim < 3:
            what = getattr(values, "shape", type(values).__name__)
            raise DatasetError(f"{file}: expected a tensor (N, T, ...), got {what}")
        self.file = file
        self.values = values
        self.scale = scale

    def rows(self, index: int, length: int, dtype: type = np.float32) -> np.ndarray:
        """(length, D) of one trajectory, checked; further axes are flattened."""
        values: np.ndarray = np.asarray(self.values[index, :length], dtype).reshape(length, -1)
        return finite(values / dtype(self.scale), f"{self.file}: trajectory {index}")


class PublishedDataset(Dataset):
    """What the layouts share.

    Args:
        path: the directory with ``states.pth``.
        num_trajectories: take the first so many (the published n_rollout); None takes all.

    Raises:
        DatasetError: a file is missing, truncated, or disagrees with the others. Images are
            looked into when they are asked for.
    """

    action_after_last = True
    task: ClassVar[str]
    action_file: ClassVar[str] = "actions.pth"
    action_scale: ClassVar[float] = 1.0
    image_file: ClassVar[str] = "obses/episode_{:03d}.pth"
    length_file: ClassVar[str] = ""

    def __init__(self, path: Path | str, num_trajectories: int | None = None) -> None:
        path = Path(path)
        self._states = [_Table(path / "states.pth")]
        self._actions = _Table(path / self.action_file, self.action_scale)
        lengths = self._read_lengths(path)
        count = len(lengths) if num_trajectories is None else num_trajectories
        if not 1 <= count <= len(lengths):
            raise DatasetError(
                f"{path}: num_trajectories {count}; the data set holds {len(lengths)}"
            )
        super().__init__(path, self._embodiment(path), lengths[:count])
        self._require(self._actions)
        for index in range(count):
            if not self._image_file(index).is_file():
                raise DatasetError(
                    f"{self._image_file(index)}: missing; states.pth holds {len(lengths)} "
                    "trajectories, each needs one. Unpack the archive again, or take fewer with "
                    "num_trajectories"
                )

    def proprio(self, index: int) -> np.ndarray:
        return np.asarray(self.states(index), np.float32)

    def actions(self, index: int) -> np.ndarray:
        return self._actions.rows(index, int(self.lengths[index]))

    def states(self, index: int) -> np.ndarray:
        length = int(self.lengths[index])
        return np.hstack([table.rows(index, length, np.float64) for table in self._states])

    def _embodiment(self, path: Path) -> Embodiment:
        """That of the simulated task of the same name."""
        return get_task(self.task).embodiment

    def _read_lengths(self, path: Path) -> np.ndarray:
        """Frames of each of the N trajectories: all of Tmax, where no file says otherwise."""
        states = self._states[0]
        count, steps = states.values.shape[:2]
        if not self.length_file:
            return np.full(count, steps)
        file = path / self.length_file
        lengths = np.asarray(load_pickle(file) if file.suffix == ".pkl" else load_pth(file))
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
            raise DatasetError(
                f"{file}: expected N whole numbers, got {lengths.dtype} {lengths.shape}"
            )
        if len(lengths) != count:
            raise DatasetError(f"{file}: {len(lengths)} lengths, {states.file.name} holds {count}")
        wrong = np.flatnonzero((lengths < 1) | (lengths > steps))
        if len(wrong):
            raise DatasetError(
                f"{file}: trajectory {wrong[0]} has length {lengths[wrong[0]]}, {states.file.name} "
                f"has room for 1 to {steps}"
            )
        return lengths

    def _require(self, table: _Table) -> None:
        """The table has as many trajectories and steps as the states."""
        expected = self._states[0].values.shape[:2]
        if table.values.shape[:2] != expected:
            raise DatasetError(
                f"{table.file}: {table.values.shape[:2]} trajectories and steps, states.pth has "
                f"{expected}; both must come from the same archive"
            )

    def _image_file(self, index: int) -> Path:
        return self.path / self.image_file.format(index)

    def read_frames(self, index: int, rows: range) -> np.ndarray:
        file = self._image_file(index)
        read = video_frames if file.suffix == ".mp4" else tensor_frames
        return read(file, rows, int(self.lengths[index]))


class PushT(PublishedDataset):
    """``pusht_noise/train`` or ``pusht_noise/val``: videos, lengths in ``seq_lengths.pkl``.

    Actions are ``rel_actions.pth`` / 100. State: agent and block position, block angle, agent
    velocity (``velocities.pth``); proprioception: agent position and velocity. A video may be
    longer than its trajectory, not shorter.

    `stats` are the constants of the published code, whatever the data are: checkpoints were
    trained with them. Each is cut to the columns that are there.

    Args:
        path, num_trajectories: see `PublishedDataset`.
        velocity: False leaves the velocities out; their file may then be missing.
    """

    task = "pusht"
    stats_rule = "constants of the published code"
    action_file = "rel_actions.pth"
    action_scale = 100.0
    image_file = "obses/episode_{:03d}.mp4"
    length_file = "seq_lengths.pkl"
    CONSTANTS: ClassVar[Stats] = {
        "action_mean": (-0.0087, 0.0068),
        "action_std": (0.2019, 0.2002),
        "proprio_mean": (236.6155, 264.5674, -2.93032027, 2.54307914),
        "proprio_std": (101.1202, 87.0112, 74.84556075, 74.14009094),
        "state_mean": (
            *(236.6155, 264.5674, 255.1307, 266.3721, 1.9584),
            *(-2.93032027, 2.54307914),
        ),
        "state_std": (
            *(101.1202, 87.0112, 52.7054, 57.4971, 1.7556),
            *(74.84556075, 74.14009094),
        ),
    }

    def __init__(
        self, path: Path | str, num_trajectories: int | None = None, velocity: bool = True
    ) -> None:
        super().__init__(path, num_trajectories)
        file = self.path / "velocities.pth"
        if velocity and not file.is_file():
            raise DatasetError(
                f"{file}: missing; restore it from the archive, or open the data set with "
                "PushT(path, velocity=False) for a model without velocities"
            )
        if velocity:
            self._states.append(_Table(file))
            self._require(self._states[-1])
        shapes = self.path / "shapes.pkl"
        self._shapes = load_pickle(shapes) if shapes.is_file() else ["T"] * len(self)
        if len(self._shapes) < len(self):
            raise DatasetError(f"{shapes}: {len(self._shapes)} shapes, {len(self)} trajectories")

    def proprio(self, index: int) -> np.ndarray:
        # The agent: the first two columns, and the velocities behind the five of states.pth.
        states = self.states(index)
        return np.hstack([states[:, :2], states[:, 5:]]).astype(np.float32)

    def info(self, index: int) -> dict[str, Any]:
        """The 'shape' of the block, 'T' where ``shapes.pkl`` is missing."""
        return {"shape": self._shapes[index]}

    def stats(self) -> Stats:
        first = {"action": self.actions(0), "proprio": self.proprio(0), "state": self.states(0)}
        return {
            name: values[: first[name.partition("_")[0]].shape[1]]
            for name, values in self.CONSTANTS.items()
        }


class PointMaze(PublishedDataset):
    """``point_maze``: uint8 image tensors, lengths in ``seq_lengths.pth``; proprio is the state.

    `stats` are over the valid steps of the trajectories taken, training and validation alike, so
    that `num_trajectories` changes them, as the published n_rollout does.
    """

    task = "point_maze"
    length_file = "seq_lengths.pth"


class Wall(PublishedDataset):
    """``wall_single``: float images (T, 3, H, W) of 0 .. 255; proprio is the state, pixels.

    Images are rounded to uint8. `stats` are over all steps of the trajectories taken; the
    constants that stand in the published loader are not used by its training either.
    """

    task = "wall"

    def __init__(self, path: Path | str, num_trajectories: int | None = None) -> None:
        super().__init__(path, num_trajectories)
        self._scene = {
            name: _Table(self.path / f"{name}_locations.pth") for name in ("door", "wall")
        }
        for table in self._scene.values():
            self._require(table)

    def info(self, index: int) -> dict[str, Any]:
        """'door_location' and 'wall_location' in pixels."""
        return {
            f"{name}_location": float(table.rows(index, 1)[0, 0])
            for name, table in self._scene.items()
        }


class Deformable(PublishedDataset):
    """``deformable/rope`` or ``deformable/granular``: particles, ``NNNNNN/obses.pth``.

    State: the particles, (particles * 4) per frame. Proprioception is one constant zero. The
    standard deviations of `stats` have 1e-6 added, as in the published code: hence 1e-6 for
    proprioception, and what divides by it is zero.
    """

    stats_rule = "computed over every step, unbiased, 1e-6 added to the standard deviation"
    image_file = "{:06d}/obses.pth"

    def _embodiment(self, path: Path) -> Embodiment:
        """Nobody has described this robot: 'rope' or 'granular', as the directory is called."""
        action_size = int(self._actions.values[0, 0].size)
        return unknown_embodiment(path.resolve().name, action_size, proprio_size=1, image_size=224)

    def proprio(self, index: int) -> np.ndarray:
        return np.zeros((int(self.lengths[index]), 1), np.float32)

    def stats(self) -> Stats:
        return {
            name: tuple(x + 1e-6 for x in values) if name.endswith("_std") else values
            for name, values in super().stats().items()
        }


_FIRST = ("num_trajectories",)
PUSHT = Reader(
    PushT, marks=("seq_lengths.pkl", "rel_actions.pth", "abs_actions.pth"), takes=_FIRST, rank=3
)
WALL = Reader(Wall, marks=("door_locations.pth", "wall_locations.pth"), takes=_FIRST, rank=4)
POINT_MAZE = Reader(PointMaze, marks=("seq_lengths.pth",), takes=_FIRST, rank=5)
DEFORMABLE = Reader(Deformable, marks=("000000/obses.pth",), takes=_FIRST, rank=6)
