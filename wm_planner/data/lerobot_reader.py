"""LeRobotDataset v3.0, v2.1 and v2.0 as a `Dataset`.

A frame of a LeRobot data set holds what was seen and the action that followed it. So the action of
the last frame leads nowhere that is known, and is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wm_planner.data.dataset import Dataset, finite
from wm_planner.data.lerobot_columns import (
    OWN_ROWS,
    Columns,
    Reading,
    View,
    derived,
    is_own,
    of_export,
    of_robot,
)
from wm_planner.data.lerobot_meta import (
    EpisodeEntry,
    Feature,
    Meta,
    column_values,
    inside,
    open_parquet,
    read_rows,
    read_table,
    readable,
)
from wm_planner.data.prepare import prepare
from wm_planner.data.video import MAX_PIXELS, Video, advice, reason
from wm_planner.errors import DatasetError, ImageSourceError
from wm_planner.robot import RobotFile

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
# Where pictures lie that are files of their own, by version.
IMAGE_FILES = (
    "images/{key}/episode-{episode:06d}/frame-{frame:06d}.png",
    "images/{key}/episode_{episode:06d}/frame_{frame:06d}.png",
)
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises
MAX_KEPT = 2**29  # bytes of prepared frames of one episode


class LeRobotDataset(Dataset):
    """Every episode is a trajectory.

    Opening reads ``meta`` and looks whether all files are there. Rows and pictures are read when
    asked for; those of the last file and of the last episode are kept.

    Args:
        path: the data set's folder.
        robot: says what is what; None: an embodiment is derived from ``meta/info.json``. A data set
            that this package exported holds its embodiment, and a robot must agree with it.
        image_size: side of each camera's picture in place of the robot file's, or of 96 pixels. An
            export's pictures stay as they are.

    Raises:
        DatasetError: a file is missing or damaged, or the data set lacks what the robot has.
    """

    def __init__(
        self, path: Path | str, robot: RobotFile | None = None, image_size: int | None = None
    ) -> None:
        path = Path(path)
        self._meta = Meta(path)
        self._own = is_own(path)
        if self._own:
            self._reading = of_export(self._meta, robot)
        elif robot is not None:
            self._reading = of_robot(self._meta, robot, image_size)
        else:
            self._reading = derived(self._meta, image_size)
        self._last = _LastFrames(self._meta, self._reading) if self._own else None
        self._rows = _Rows(self._meta, self._reading)
        self._pictures = _Pictures(self._meta, self._rows)
        self._kept: tuple[int, range, np.ndarray] | None = None
        rows = np.array([entry.length for entry in self._meta.episodes])
        lengths = (rows - 1) // self._reading.stride + 1 + (self._last is not None)
        super().__init__(path, self._reading.embodiment, lengths, self._reading.actions_per_row)

    def proprio(self, index: int) -> np.ndarray:
        entry = self._meta.episodes[index]
        values = self._vector(entry, self._reading.state)[:: self._reading.stride]
        if self._last is not None:
            values = np.vstack([values, self._last.proprio(entry)])
        return finite(values, f"{entry.file}: episode {entry.number}: state")

    def actions(self, index: int) -> np.ndarray:
        entry = self._meta.episodes[index]
        values = self._vector(entry, self._reading.action)
        where = f"{entry.file}: episode {entry.number}: action"
        if self._last is not None:
            return finite(values, where)
        steps, stride = int(self.lengths[index]) - 1, self._reading.stride
        parts = finite(values[: steps * stride], where).reshape(steps, stride, values.shape[1])
        return _combined(parts, self.embodiment.action.kind)

    def states(self, index: int) -> np.ndarray | None:
        """Those of an export of simulated trajectories; nobody knows others'."""
        return None if self._last is None else self._last.states(self._meta.episodes[index])

    def info(self, index: int) -> dict[str, Any]:
        """'episode', its number in the data set, and 'tasks', in words."""
        entry = self._meta.episodes[index]
        return {"episode": entry.number, "tasks": list(entry.tasks)}

    def _vector(self, entry: EpisodeEntry, columns: Columns) -> np.ndarray:
        parts = [self._rows.values(entry, feature) for feature in columns.features]
        return columns.pick(np.hstack(parts))

    def read_frames(self, index: int, rows: range) -> np.ndarray:
        """One frame is decoded alone. For more, the episode is decoded once, and kept."""
        kept = self._kept
        if kept is None or kept[0] != index or any(row not in kept[1] for row in rows):
            if len(rows) == 1:
                return self._frames(index, rows)
            alike = range(rows.start % rows.step, int(self.lengths[index]), rows.step)
            if len(alike) * self._frame_bytes() > MAX_KEPT:
                return self._frames(index, rows)
            kept = self._kept = index, alike, self._frames(index, alike)
        chosen = [kept[1].index(row) for row in rows]
        return kept[2][chosen]

    def _frame_bytes(self) -> int:
        return 3 * len(self._reading.views) * self.embodiment.image_size**2

    def _frames(self, index: int, rows: range) -> np.ndarray:
        """(len(rows), S, C * S, 3): the cameras side by side."""
        entry = self._meta.episodes[index]
        there = [row * self._reading.stride for row in rows]
        beyond = self._last is not None and there[-1] == entry.length
        columns = []
        for view in self._reading.views:
            pictures = list(self._views(entry, view, there[: len(there) - beyond]))
            if beyond and self._last is not None:
                pictures.append(self._last.picture(entry, view))
            if len({picture.shape for picture in pictures}) > 1:
                raise DatasetError(
                    f"{self.path}: episode {entry.number}: pictures of camera "
                    f"'{view.camera.name}' differ in size; record the episode again"
                )
            columns.append(np.stack(pictures))
        if len({column.shape for column in columns}) > 1:
            raise DatasetError(
                f"{self.path}: the cameras' pictures differ in size; export it again"
            )
        return np.concatenate(columns, axis=2)

    def _views(self, entry: EpisodeEntry, view: View, rows: list[int]) -> Iterator[np.ndarray]:
        size = view.camera.size
        if view.feature is None:
            yield from np.zeros((len(rows), size, size, 3), np.uint8)
            return
        if not rows:
            return
        for picture in self._pictures.read(entry, view.feature, rows):
            if view.prepared:
                yield picture
                continue
            try:
                yield prepare(picture, view.camera.crop, size)
            except ImageSourceError as error:
                raise DatasetError(
                    f"{self.path}: episode {entry.number}, feature '{view.feature.key}': {error}; "
                    f"the crop of camera '{view.camera.name}' in the robot file must fit these "
                    "pictures"
                ) from error


class _Rows:
    """The rows of an episode in its parquet file; the last file's numbers are kept."""

    def __init__(self, meta: Meta, reading: Reading) -> None:
        self._meta = meta
        features = (*reading.state.features, *reading.action.features)
        self._features = {feature.key: feature for feature in features}
        self._file: Path | None = None
        self._columns: dict[str, np.ndarray] = {}

    def values(self, entry: EpisodeEntry, feature: Feature) -> np.ndarray:
        """(T, D) of the episode."""
        rows = self.numbers(entry)
        array: np.ndarray = self._columns[feature.key][rows]
        return array

    def times(self, entry: EpisodeEntry) -> np.ndarray:
        """(T,) seconds since the episode's begin."""
        rows = self.numbers(entry)
        if "timestamp" not in self._columns:
            return np.arange(entry.length) / self._meta.fps
        times: np.ndarray = self._columns["timestamp"][rows, 0].astype(float)
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise DatasetError(
                f"{entry.file}: episode {entry.number}: column 'timestamp' does not ascend; record "
                "the episode again"
            )
        return times

    def numbers(self, entry: EpisodeEntry) -> np.ndarray:
        """(T,) numbers of the episode's rows in its file, in the order of time.

        Raises:
            DatasetError: the file has others than ``meta`` says.
        """
        self._read(entry.file)
        rows = np.flatnonzero(self._columns["episode_index"][:, 0] == entry.number)
        frames = self._columns["frame_index"][rows, 0]
        rows = rows[np.argsort(frames, kind="stable")]
        if not np.array_equal(np.sort(frames), np.arange(entry.length)):
            raise DatasetError(
                f"{entry.file}: has {len(rows)} rows of episode {entry.number}, not frames 0 to "
                f"{entry.length - 1} as the folder meta says; download the data set again"
            )
        return rows

    def _read(self, file: Path) -> None:
        if self._file == file:
            return
        sizes = {key: feature.size for key, feature in self._features.items()}
        sizes |= {"episode_index": 1, "frame_index": 1}
        with open_parquet(file) as parquet:
            if "timestamp" in parquet.schema_arrow.names:
                sizes["timestamp"] = 1
        table = read_table(file, list(sizes))
        self._columns = {
            key: column_values(table, key, size, str(file)) for key, size in sizes.items()
        }
        self._file = file


class _Pictures:
    """Pictures of a feature: in a video, in the parquet file, or in files of their own."""

    def __init__(self, meta: Meta, rows: _Rows) -> None:
        self._meta = meta
        self._rows = rows
        self._videos: dict[Path, Video] = {}
        self._columns: dict[str, tuple[Path, tuple[int, ...], pa.ChunkedArray]] = {}
        # Episodes that share a video, in the order in which they lie in it.
        self._sharing: dict[tuple[str, Path], list[EpisodeEntry]] = {}
        for entry in meta.episodes:
            for key, (file, _) in entry.videos.items():
                self._sharing.setdefault((key, file), []).append(entry)
        for (key, _), entries in self._sharing.items():
            entries.sort(key=lambda entry: entry.videos[key][1])

    def read(self, entry: EpisodeEntry, feature: Feature, rows: list[int]) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 of each of the episode's rows, ascending."""
        if feature.dtype == "video":
            return self._from_video(entry, feature.key, rows)
        return self._from_images(entry, feature.key, rows)

    def _from_video(self, entry: EpisodeEntry, key: str, rows: list[int]) -> Iterator[np.ndarray]:
        file, start_s = entry.videos[key]
        if file not in self._videos:
            self._videos[file] = Video(file)
        video = self._videos[file]
        sharing = self._sharing[key, file]
        if len(video.times) == sum(other.length for other in sharing):
            # Every frame belongs to an episode, so that they can be counted. That is exact, while
            # the seconds in 'meta' were added up and may be off by a frame late in a long video.
            before = sum(other.length for other in sharing[: sharing.index(entry)])
            return video.pictures([before + row for row in rows])
        wanted = start_s + self._rows.times(entry)[rows]
        after = np.searchsorted(video.times, wanted).clip(1, max(1, len(video.times) - 1))
        pairs = np.stack([after - 1, np.minimum(after, len(video.times) - 1)])
        distances = np.abs(video.times[pairs] - wanted)
        numbers = pairs[distances.argmin(axis=0), np.arange(len(rows))]
        far = np.flatnonzero(distances.min(axis=0) > 0.5 / self._meta.fps + 1e-4)
        if len(far):
            raise DatasetError(
                f"{file}: no frame at {wanted[far[0]]:.3f} s, which frame {rows[far[0]]} of "
                f"episode {entry.number} needs; the video has {len(video.times)} frames from "
                f"{video.times[0]:.3f} to {video.times[-1]:.3f} s. Download it again"
            )
        return _repeated(video, numbers)

    def _from_images(self, entry: EpisodeEntry, key: str, rows: list[int]) -> Iterator[np.ndarray]:
        places = self._rows.numbers(entry)[rows]
        with open_parquet(entry.file) as parquet:
            stored = key in parquet.schema_arrow.names
            counts = [
                parquet.metadata.row_group(group).num_rows
                for group in range(parquet.metadata.num_row_groups)
            ]
        cells: list[Any] = [None] * len(rows)
        if stored:
            ends = np.cumsum(counts)
            groups = tuple(np.unique(np.searchsorted(ends, places, side="right")).tolist())
            known = self._columns.get(key)
            if known is None or known[:2] != (entry.file, groups):
                column = read_table(entry.file, [key], groups).column(key)
                known = self._columns[key] = entry.file, groups, column
            # Only some groups of rows were read, so the rows have other numbers in `column`.
            read = np.concatenate([np.arange(ends[g] - counts[g], ends[g]) for g in groups])
            with readable(entry.file):
                cells = known[2].take(pa.array(np.searchsorted(read, places))).to_pylist()
        for row, cell in zip(rows, cells, strict=True):
            where = f"{entry.file}: episode {entry.number}, frame {row}, feature '{key}'"
            content = cell.get("bytes") if isinstance(cell, dict) else cell
            if isinstance(content, bytes):
                yield decoded_image(content, where)
                continue
            if cell is not None and not isinstance(cell, (dict, str)):
                raise DatasetError(f"{where}: expected a picture, got {type(cell).__name__}")
            named = cell.get("path") if isinstance(cell, dict) else cell
            file = self._image_file(named, key, entry.number, row, where)
            yield decoded_image(_content(file), str(file))

    def _image_file(
        self, named: str | None, key: str, episode: int, frame: int, where: str
    ) -> Path:
        """Where the picture lies that is not in the parquet file itself."""
        root = self._meta.root
        usual = [
            inside(root, name.format(key=key, episode=episode, frame=frame), where)
            for name in IMAGE_FILES
        ]
        # The recorder often leaves a path of its own machine: then only the usual places are left.
        if named and not Path(named).is_absolute():
            usual.insert(0, inside(root, named, where))
        file = next((file for file in usual if file.is_file()), None)
        if file is None:
            raise DatasetError(f"{usual[0]}: missing; {where} needs it. Download the pictures too")
        return file


class _LastFrames:
    """What an export holds besides: each trajectory's last frame, and the simulator's states."""

    def __init__(self, meta: Meta, reading: Reading) -> None:
        self._file = meta.root / OWN_ROWS
        self._size = len(reading.embodiment.proprio)
        keys = [view.feature.key for view in reading.views if view.feature is not None]
        names = ["episode_index", "proprio", "states", *keys]
        rows = read_rows(self._file, names)
        self._by_number = {row["episode_index"]: row for row in rows}
        for entry in meta.episodes:
            row = self._by_number.get(entry.number)
            good = row is not None and all(row[name] is not None for name in names)
            if not good or row is None or len(row["proprio"]) != self._size:
                raise DatasetError(
                    f"{self._file}: nothing usable of episode {entry.number}; export the store "
                    "again"
                )
            states = row["states"]
            if len(states) not in (0, entry.length + 1) or len({len(s or ()) for s in states}) > 1:
                raise DatasetError(
                    f"{self._file}: episode {entry.number}: {len(states)} states of "
                    f"{entry.length + 1} frames; export the store again"
                )

    def proprio(self, entry: EpisodeEntry) -> np.ndarray:
        """(P,) float32."""
        return np.array(self._by_number[entry.number]["proprio"], np.float32)

    def states(self, entry: EpisodeEntry) -> np.ndarray | None:
        """(T, S) float64."""
        states = np.array(self._by_number[entry.number]["states"], np.float64)
        if not states.size:
            return None
        return finite(states, f"{self._file}: episode {entry.number}: states")

    def picture(self, entry: EpisodeEntry, view: View) -> np.ndarray:
        """(H, W, 3) uint8."""
        assert view.feature is not None
        content = self._by_number[entry.number][view.feature.key]
        return decoded_image(content, f"{self._file}: episode {entry.number}")


def decoded_image(content: bytes, where: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file's bytes.

    Raises:
        DatasetError: damaged, larger than any camera's, or no colour picture; `where` names it.
    """
    from PIL import Image  # here alone: videos do without it

    try:
        with Image.open(BytesIO(content), formats=IMAGE_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DatasetError(
                    f"{where}: a picture of {width}x{height} pixels; make it smaller"
                )
            if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "1"):
                raise DatasetError(
                    f"{where}: a picture of mode '{image.mode}' (depth?); expected colours"
                )
            return np.array(image.convert("RGB"))
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise DatasetError(
            f"{where}: no readable picture ({reason(error)}); record or download it again"
        ) from error


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({reason(error)}); {advice(file)}") from error


def _repeated(video: Video, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Pictures by numbers that ascend, some more than once: a video may be slower than the data."""
    different, counts = np.unique(numbers, return_counts=True)
    for picture, count in zip(video.pictures(different.tolist()), counts, strict=True):
        for _ in range(count):
            yield picture


def _combined(parts: np.ndarray, kind: str) -> np.ndarray:
    """(T, A) of the (T, stride, A) actions of rows, each of which the robot had for one row."""
    if kind == "position":
        return parts[:, -1]
    total = parts.sum(axis=1, dtype=np.float64)
    row = total if kind == "position_delta" else total / parts.shape[1]
    return np.asarray(row, np.float32)
