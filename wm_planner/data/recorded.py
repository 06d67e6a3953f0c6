"""Our own trajectories, collected or recorded, as a `Dataset`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from wm_planner.data.bags import Bag, bags_in
from wm_planner.data.dataset import Dataset, finite
from wm_planner.data.image_message import image_array
from wm_planner.data.layouts import DROPPED
from wm_planner.data.recording import Piece, Recording, read_recording, recorded_embodiment
from wm_planner.data.store import TrajectoryStore
from wm_planner.data.streams import is_goal_picture
from wm_planner.embodiment import Embodiment
from wm_planner.errors import DatasetError, ImageSourceError, raised_as
from wm_planner.robot import RobotFile

SHOWN = 5  # bags that an error names


class StoreDataset(Dataset):
    """A `TrajectoryStore`: one frame per model step."""

    def __init__(self, path: Path | str) -> None:
        self.store = TrajectoryStore.open(path)
        count, frames = self.store.images.shape[:2]
        super().__init__(
            path=self.store.directory,
            embodiment=self.store.embodiment,
            lengths=np.full(count, frames),
            frame_skip=self.store.embodiment.frame_skip,
        )

    def proprio(self, index: int) -> np.ndarray:
        return self._finite("proprio", index)

    def actions(self, index: int) -> np.ndarray:
        return self._finite("actions", index)

    def states(self, index: int) -> np.ndarray | None:
        return self._finite("states", index) if self.store.states.shape[-1] else None

    def info(self, index: int) -> dict[str, Any]:
        """Where a row came from: 'bag', 'start_s' and 'outcome', where its maker said so."""
        rows = self.store.meta.get("rows") or []
        return dict(rows[index]) if index < len(rows) else {}

    def _finite(self, name: str, index: int) -> np.ndarray:
        values = np.array(getattr(self.store, name)[index])
        return finite(values, f"{self.path / name}.npy: trajectory {index}")

    def read_frames(self, index: int, rows: range) -> np.ndarray:
        return np.array(self.store.images[index, rows.start : rows.stop : rows.step])


@dataclass(frozen=True)
class _Part:
    """A piece of a recording, its pictures on disk."""

    recording: Recording
    piece: Piece
    first_frame: int


class BagDataset(Dataset):
    """The recordings of one robot: a bag, or a directory of them; those in `dropped/` are not read.

    A trajectory is a piece of a recording without a hole, a frame per model step (see
    `recording.read_recording`). States are unknown. A bag that cannot be used is left out and
    stands in `left_out`, and so does one of another robot than most. Opening reads every bag; its
    pictures are kept in a temporary file.

    Args:
        path: of the bag or the directory.
        robot: of recordings that do not explain themselves; those of another robot are left out.
        strict: nothing may be left out or damaged.
        frame_skip: raw actions per model step; None: the robot's.

    Attributes:
        recordings: those that are read.
        left_out: (path, reason) of those that are not.
        num_dropped: bags that a person has dropped.

    Raises:
        DatasetError: no bag can be used, or as many are of another robot; `strict`: any cannot.
    """

    def __init__(
        self,
        path: Path | str,
        robot: RobotFile | None = None,
        strict: bool = False,
        frame_skip: int | None = None,
    ) -> None:
        path = Path(path)
        self.recordings: list[Recording] = []
        self.left_out: list[tuple[Path, str]] = []
        dropped = path / DROPPED
        self.num_dropped = len(bags_in(dropped)) if dropped.is_dir() else 0
        self._parts: list[_Part] = []
        self._pictures = _Pictures()
        bags = bags_in(path)
        for bag in self._of_one_robot(bags) if robot is None and len(bags) > 1 else bags:
            try:
                recording = read_recording(bag, robot=robot, frame_skip=frame_skip)
                for first in self.recordings[:1]:
                    if reason := _other_robot(recording.embodiment, first.embodiment, first.path):
                        raise DatasetError(reason)
            except DatasetError as error:
                self._leave_out(bag, error)
            else:
                self._keep(recording)
        if strict:
            self._refuse_damage()
        if not self.recordings:
            reasons = [f"{bag.name}: {reason}" for bag, reason in self.left_out[:SHOWN]]
            more = len(self.left_out) - len(reasons)
            reasons += [f"and {more} more"] if more else []
            raise DatasetError(f"{path}: no bag can be used. {'; '.join(reasons)}")
        body = self.recordings[0].embodiment
        lengths = np.array([len(part.piece.proprio) for part in self._parts])
        super().__init__(path, body, lengths, body.frame_skip)

    def proprio(self, index: int) -> np.ndarray:
        return self._parts[index].piece.proprio

    def actions(self, index: int) -> np.ndarray:
        return self._parts[index].piece.actions

    def info(self, index: int) -> dict[str, Any]:
        """'bag', 'start_s' (seconds from the bag's first sample), 'outcome', and what the events
        said (seed, ...), as text.
        """
        part = self._parts[index]
        recording = part.recording
        start_s = int(part.piece.stamps_ns[0] - recording.start_ns) * 1e-9
        return {
            **recording.events,
            "bag": str(recording.path),
            "start_s": round(start_s, 3),
            "outcome": recording.outcome,
        }

    def goal(self, index: int) -> np.ndarray | None:
        """The newest goal of the bag that is a picture: one without rows clears a goal."""
        found = None
        for message in Bag(self._parts[index].recording.path).messages():
            if is_goal_picture(message):
                with suppress(DatasetError, ImageSourceError):  # one that is damaged is no goal
                    goal = message.decode()
                    found = image_array(goal) if goal.height else found
        return found

    def _refuse_damage(self) -> None:
        problems = [f"{bag}: {reason}" for bag, reason in self.left_out]
        for recording in self.recordings:
            damage = recording.account.damage
            problems += [f"{recording.path}: {'; '.join(damage)}"] if damage else []
        if problems:
            more = f" (and {len(problems) - 1} more bags)" if len(problems) > 1 else ""
            raise DatasetError(f"{problems[0]}{more}")

    def _leave_out(self, bag: Path, error: DatasetError) -> None:
        self.left_out.append((bag, str(error).removeprefix(f"{bag}: ")))

    def _of_one_robot(self, bags: Sequence[Path]) -> list[Path]:
        """The bags of the robot that most are of; the others are left out.

        Raises:
            DatasetError: there are as many of another robot.
        """
        groups: list[tuple[Embodiment, list[Path]]] = []
        for bag in bags:
            try:
                body = recorded_embodiment(bag)
            except DatasetError as error:
                self._leave_out(bag, error)
                continue
            fitting = [group for robot, group in groups if robot.difference(body) is None]
            if fitting:
                fitting[0].append(bag)
            else:
                groups.append((body, [bag]))
        groups.sort(key=lambda group: -len(group[1]))
        for body, others in groups[1:]:
            reason = _other_robot(body, groups[0][0], groups[0][1][0])
            if len(others) == len(groups[0][1]):
                raise DatasetError(
                    f"{others[0]}: {reason}. Keep the bags of each robot in a directory of their "
                    "own, or name the robot by --robot"
                )
            self.left_out += [(bag, reason) for bag in others]
        return groups[0][1] if groups else []

    def _keep(self, recording: Recording) -> None:
        """Move the pictures out of the memory."""
        first = [self._pictures.append(piece.images) for piece in recording.pieces]
        pieces = tuple(replace(piece, images=piece.images[:0].copy()) for piece in recording.pieces)
        recording = replace(recording, pieces=pieces)
        self._parts += [_Part(recording, *pair) for pair in zip(pieces, first, strict=True)]
        self.recordings.append(recording)

    def read_frames(self, index: int, rows: range) -> np.ndarray:
        part = self._parts[index]
        shape = part.piece.images.shape[1:]
        return self._pictures.read([part.first_frame + row for row in rows], shape)


def _other_robot(body: Embodiment, other: Embodiment, of: Path) -> str:
    """What differs, in words; '' where both are the same robot."""
    difference = other.difference(body)
    if difference is None:
        return ""
    return f"is of another robot ('{body.name}') than {of} ('{other.name}'): {difference}"


class _Pictures:
    """Pictures of one size in a file that is gone when nobody needs it any more."""

    def __init__(self) -> None:
        self._file = TemporaryFile(prefix="wm_planner_pictures_")  # noqa: SIM115 - lives as long as this
        self._count = 0

    def append(self, images: np.ndarray) -> int:
        """Add (N, H, W, 3) uint8; returns the number of the first."""
        first, self._count = self._count, self._count + len(images)
        before = "pictures cannot be kept in a temporary file ("
        after = "); set TMPDIR to a folder with more room"
        with raised_as(DatasetError, OSError, before=before, after=after):
            self._file.write(np.ascontiguousarray(images).data)
            self._file.flush()
        return first

    def read(self, numbers: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
        """(len(numbers), *shape) uint8."""
        size = int(np.prod(shape))
        rows = [os.pread(self._file.fileno(), size, number * size) for number in numbers]
        flat = np.frombuffer(bytearray().join(rows), np.uint8)
        return flat.reshape(len(numbers), *shape)
