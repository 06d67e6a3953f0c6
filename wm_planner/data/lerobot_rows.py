"""The files of a LeRobot data set: numbers and pictures of an episode, and what exports add."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wm_planner.data.dataset import finite
from wm_planner.data.lerobot_columns import OWN_ROWS, Reading, View
from wm_planner.data.lerobot_meta import EpisodeEntry, Feature, Meta, inside
from wm_planner.data.parquet import (
    open_parquet,
    read_numbers,
    read_rows,
    read_table,
    readable_parquet,
)
from wm_planner.data.video import MAX_PIXELS, Video, readable, reason
from wm_planner.errors import DatasetError

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
# Where pictures lie that are files of their own, by version.
IMAGE_FILES = (
    "images/{key}/episode-{episode:06d}/frame-{frame:06d}.png",
    "images/{key}/episode_{episode:06d}/frame_{frame:06d}.png",
)
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises


class Rows:
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
        self._columns = read_numbers(file, sizes)
        self._file = file


class Pictures:
    """Pictures of a feature: in a video, in the parquet file, or in files of their own."""

    def __init__(self, meta: Meta, rows: Rows) -> None:
        self._meta = meta
        self._rows = rows
        self._videos: dict[Path, Video] = {}
        self._columns: dict[str, tuple[Path, int, pa.ChunkedArray]] = {}
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
            yield from video.pictures([before + row for row in rows])
            return
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
        # Some more than once: a video may be slower than the data.
        different, counts = np.unique(numbers, return_counts=True)
        for picture, count in zip(video.pictures(different.tolist()), counts, strict=True):
            yield from itertools.repeat(picture, count)

    def _from_images(self, entry: EpisodeEntry, key: str, rows: list[int]) -> Iterator[np.ndarray]:
        places = self._rows.numbers(entry)[rows]
        with open_parquet(entry.file) as parquet:
            stored = key in parquet.schema_arrow.names
            counts = [
                parquet.metadata.row_group(group).num_rows
                for group in range(parquet.metadata.num_row_groups)
            ]
        ends = np.cumsum(counts)
        for row, place in zip(rows, places.tolist(), strict=True):
            cell = self._cell(entry.file, key, place, ends) if stored else None
            where = f"{entry.file}: episode {entry.number}, frame {row}, feature '{key}'"
            content = cell.get("bytes") if isinstance(cell, dict) else cell
            if isinstance(content, bytes):
                yield decoded_image(content, where)
                continue
            if cell is not None and not isinstance(cell, (dict, str)):
                raise DatasetError(f"{where}: expected a picture, got {type(cell).__name__}")
            named = cell.get("path") if isinstance(cell, dict) else cell
            file = self._image_file(named, key, entry.number, row, where)
            with readable(file, "cannot be read", OSError):
                content = file.read_bytes()
            yield decoded_image(content, str(file))

    def _cell(self, file: Path, key: str, place: int, ends: np.ndarray) -> Any:
        """What a row holds; its group of rows, which ends at one of `ends`, is kept."""
        group = int(np.searchsorted(ends, place, side="right"))
        known = self._columns.get(key)
        if known is None or known[:2] != (file, group):
            column = read_table(file, [key], [group]).column(key)
            known = self._columns[key] = file, group, column
        with readable_parquet(file):
            return known[2][place - int(ends[group])].as_py()  # counted from the group's end

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


class LastFrames:
    """What an export holds besides: each trajectory's last frame, and the simulator's states."""

    def __init__(self, meta: Meta, reading: Reading) -> None:
        self._file = meta.root / OWN_ROWS
        keys = [view.feature.key for view in reading.views if view.feature is not None]
        names = ["episode_index", "proprio", "states", *keys]
        rows = read_rows(self._file, names)
        self._by_number = {row["episode_index"]: row for row in rows}
        for entry in meta.episodes:
            row = self._by_number.get(entry.number, {})
            lacks = any(row.get(name) is None for name in names)
            if lacks or len(row["proprio"]) != len(reading.embodiment.proprio):
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
