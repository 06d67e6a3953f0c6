"""What lies where in a LeRobot data set: its folder ``meta`` in the versions 2.0, 2.1 and 3.0.

Version 3 packs many episodes into one parquet file and one video, and ``meta/episodes`` says which
part belongs to whom. Versions 2 have a file per episode, named by its number.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from wm_planner.data.parquet import MAX_ROWS, open_parquet, read_numbers, read_rows
from wm_planner.data.video import advice, readable
from wm_planner.errors import DatasetError, raised_as
from wm_planner.files import parse_json

INFO = "meta/info.json"
PATHS = {  # of the data and of the videos, where info.json does not say otherwise
    2: (
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    ),
    3: (
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    ),
}
PICTURES = ("image", "video")
# Far above any real data set.
MAX_TEXT = 2**28  # bytes of a JSON file
MAX_ENTRIES = 4096  # of a state or an action


@dataclass(frozen=True)
class Feature:
    """One column of a data set.

    Attributes:
        key: for example 'observation.state'.
        dtype: 'float32', 'image', 'video', ...
        size: entries; of a picture, its pixels times its channels.
        names: of the entries; empty where the data set gives none, or another number of them.
        is_depth: whether a picture holds distances.
    """

    key: str
    dtype: str
    size: int
    names: tuple[str, ...]
    is_depth: bool

    @property
    def is_picture(self) -> bool:
        """Whether a camera made it."""
        return self.dtype in PICTURES


@dataclass(frozen=True)
class EpisodeEntry:
    """Where an episode lies.

    Attributes:
        number: its 'episode_index'.
        length: frames.
        file: parquet file with its rows, among others'.
        videos: by feature, the video and the second of it at which the episode begins.
        tasks: in words.
    """

    number: int
    length: int
    file: Path
    videos: dict[str, tuple[Path, float]]
    tasks: tuple[str, ...]


class Meta:
    """Everything below ``meta``, read and checked.

    Args:
        root: the data set's folder.

    Attributes:
        root: as given.
        version: 2 or 3.
        fps: frames per second.
        features: by key.
        episodes: in the order of their numbers.

    Raises:
        DatasetError: a file is missing or damaged, or says what cannot be.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        file = root / INFO
        info = read_meta(file)
        if not isinstance(info, dict):
            raise DatasetError(f"{file}: expected a mapping, got {type(info).__name__}")
        self._info = info
        self.version = self._version()
        self.fps = self._number("fps")
        self._chunks_size = int(self._number("chunks_size", 1000))
        self.features = self._features()
        entries = self._episodes_v3() if self.version == 3 else self._episodes_v2()
        self.episodes = sorted(entries, key=lambda entry: entry.number)
        if not self.episodes:
            raise DatasetError(f"{root}: holds no episode; was the recording finished?")
        for one, other in zip(self.episodes, self.episodes[1:], strict=False):
            if one.number == other.number:
                raise DatasetError(f"{root}/meta: lists episode {one.number} twice; restore it")
        self._require_files()

    def feature(self, key: str, source: str) -> Feature:
        """The feature of that key; `source` says in the error who asked for it."""
        if key not in self.features:
            raise DatasetError(
                f"{self.root / INFO}: no feature '{key}' ({source}); it has "
                f"{', '.join(self.features)}"
            )
        return self.features[key]

    def ranges(self, feature: Feature) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest values (size,) of a feature: as ``meta`` says, else of the data.

        Raises:
            DatasetError: a file is damaged, or holds no finite value of an entry.
        """
        found = [_ranges(stats, feature) for stats in self._stats]
        if not found or not np.isfinite(found).all():
            found = []
            for file in dict.fromkeys(entry.file for entry in self.episodes):
                column = read_numbers(file, {feature.key: feature.size})[feature.key]
                low = np.fmin.reduce(column.astype(float), axis=0, initial=np.inf)
                found.append([low, np.fmax.reduce(column.astype(float), axis=0, initial=-np.inf)])
        lows, highs = zip(*found, strict=True)
        low, high = np.min(lows, axis=0), np.max(highs, axis=0)
        if not np.isfinite([low, high]).all():
            raise DatasetError(
                f"{self.root}: feature '{feature.key}' has an entry without a finite value; record "
                "again, or map another feature in the robot file (lerobot: action: ...)"
            )
        return low, high

    @cached_property
    def _stats(self) -> list[Any]:
        whole, parts = self.root / "meta/stats.json", self.root / "meta/episodes_stats.jsonl"
        if whole.is_file():
            return [read_meta(whole)]
        if parts.is_file():
            return [line.get("stats") for _, line in _read_lines(parts)]
        return []

    def _version(self) -> int:
        version = str(self._info.get("codebase_version", "missing"))
        if version.startswith("v3.") or version in ("v2.0", "v2.1"):
            return int(version[1])
        raise DatasetError(
            f"{self.root / INFO}: codebase_version is {version}; v2.0, v2.1 and v3.0 can be read. "
            "Convert the data set with the scripts of LeRobot"
        )

    def _number(self, key: str, default: float | None = None) -> float:
        value = self._info.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
            raise DatasetError(f"{self.root / INFO}: {key}: expected a number above 0, got {value}")
        return float(value)

    def _features(self) -> dict[str, Feature]:
        file = self.root / INFO
        features = self._info.get("features")
        if not isinstance(features, dict) or not features:
            raise DatasetError(f"{file}: features: expected a mapping, got {features!r}")
        result = {}
        for key, values in features.items():
            where = f"{file}: features: {key}"
            if not isinstance(values, dict) or not isinstance(values.get("dtype"), str):
                raise DatasetError(f"{where}: expected dtype and shape, got {values!r}")
            shape = values.get("shape", (1,))
            whole = isinstance(shape, (list, tuple)) and all(
                isinstance(x, int) and not isinstance(x, bool) and 0 < x <= 2**20 for x in shape
            )
            if not whole:
                raise DatasetError(f"{where}: shape: expected whole numbers, got {shape!r}")
            size, names = math.prod(shape), tuple(_flat(values.get("names")))
            described = {**(values.get("video_info") or {}), **(values.get("info") or {})}
            result[key] = Feature(
                key=key,
                dtype=values["dtype"],
                size=size,
                names=names if len(names) == size and all(names) else (),
                is_depth=bool(described.get("is_depth_map") or described.get("video.is_depth_map")),
            )
        return result

    @property
    def _video_keys(self) -> list[str]:
        return [key for key, feature in self.features.items() if feature.dtype == "video"]

    def _episodes_v2(self) -> Iterator[EpisodeEntry]:
        file = self.root / "meta/episodes.jsonl"
        for where, row in _read_lines(file):
            index = _whole(row, "episode_index", where, 0)
            known = {"episode_chunk": index // self._chunks_size, "episode_index": index}
            videos = {key: (self._file(1, video_key=key, **known), 0.0) for key in self._video_keys}
            yield _entry(row, index, where, self._file(0, **known), videos)

    def _episodes_v3(self) -> Iterator[EpisodeEntry]:
        folder = self.root / "meta/episodes"
        files = sorted(folder.glob("*/*.parquet"))
        if not files:
            raise DatasetError(
                f"{folder}: no parquet file in it; download the data set again, or, where you "
                "recorded it, call finalize() of LeRobotDataset"
            )
        places = [f"videos/{key}/" for key in self._video_keys]
        for file in files:
            with open_parquet(file) as parquet:
                there = parquet.schema_arrow.names
            needed = {"episode_index", "length", "tasks", "data/chunk_index", "data/file_index"}
            columns = [name for name in there if name in needed or name.startswith(tuple(places))]
            for row in read_rows(file, columns):
                yield self._episode_v3(row, str(file))

    def _episode_v3(self, row: dict[str, Any], file: str) -> EpisodeEntry:
        number = _whole(row, "episode_index", file, 0)
        where = f"{file}: episode {number}"

        def place(prefix: str) -> dict[str, int]:
            names = ("chunk_index", "file_index")
            return {name: _whole(row, f"{prefix}/{name}", where, 0) for name in names}

        videos = {}
        for key in self._video_keys:
            start = row.get(f"videos/{key}/from_timestamp")
            if not isinstance(start, (int, float)) or not 0 <= start < 1e9:
                raise DatasetError(
                    f"{where}: videos/{key}/from_timestamp: expected seconds, got {start}; restore "
                    "the file"
                )
            videos[key] = self._file(1, video_key=key, **place(f"videos/{key}")), float(start)
        return _entry(row, number, where, self._file(0, **place("data")), videos)

    def _file(self, which: int, **known: int | str) -> Path:
        """A file by info.json's pattern of its name: 0 of the data, 1 of the videos."""
        key = ("data_path", "video_path")[which]
        pattern = self._info.get(key) or PATHS[self.version][which]
        where = f"{self.root / INFO}: {key}: '{pattern}'"
        try:
            parts = list(string.Formatter().parse(pattern))
        except (ValueError, TypeError) as error:
            raise DatasetError(f"{where}: not a pattern of a file name") from error
        for _, part, spec, conversion in parts:
            simple = not spec or (spec.rstrip("d").isdigit() and len(spec) <= 3)
            if part is not None and (part not in known or conversion or not simple):
                raise DatasetError(
                    f"{where}: '{part}:{spec}' cannot be filled in; version {self.version} knows "
                    f"{', '.join(known)}"
                )
        with raised_as(DatasetError, ValueError, before=f"{where}: cannot be filled in: "):
            name = pattern.format(**known)
        return inside(self.root, name, where)

    def _require_files(self) -> None:
        needed = {entry.file: entry for entry in reversed(self.episodes)}
        for entry in reversed(self.episodes):
            needed |= {file: entry for file, _ in entry.videos.values()}
        for file, entry in needed.items():
            if not file.is_file():
                raise DatasetError(
                    f"{file}: missing; episode {entry.number} needs it. Download the data set "
                    "again, with its videos"
                )


def inside(root: Path, name: str, where: str) -> Path:
    """A file of the data set by its relative name; what a data set names must lie in it.

    Raises:
        DatasetError: the name leads elsewhere; `where` begins the message.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DatasetError(f"{where}: leads out of the data set ({name})")
    return root / path


def read_meta(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DatasetError: missing, too large, or no JSON.
    """
    return parse_json(_text(file), str(file), DatasetError, advice(file))


def _read_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line of a file of JSON mappings, and where it stands, for errors."""
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        values = parse_json(line, where, DatasetError, advice(file))
        if not isinstance(values, dict):
            raise DatasetError(f"{where}: expected a mapping, got {line[:60]}")
        yield where, values


def _text(file: Path) -> str:
    with readable(file, "cannot be read", OSError, UnicodeDecodeError):
        if file.stat().st_size > MAX_TEXT:
            raise DatasetError(f"{file}: larger than {MAX_TEXT} bytes; it is no file of LeRobot")
        return file.read_text("utf-8")


def _ranges(stats: Any, feature: Feature) -> list[np.ndarray]:
    """Smallest and largest values by statistics; NaN where they do not say."""
    try:
        ends = (stats[feature.key][name] for name in ("min", "max"))
        return [np.asarray(end, float).reshape(feature.size) for end in ends]
    except (KeyError, TypeError, ValueError):
        return [np.full(feature.size, np.nan)] * 2


def _flat(value: Any) -> Iterator[str]:
    """Names of entries: a list, lists by kind of part, or the entry's number by its name."""
    if isinstance(value, dict) and value and all(isinstance(x, int) for x in value.values()):
        yield from map(str, sorted(value, key=lambda name: value[name]))
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _flat(part)
    elif value is not None:
        yield str(value)


def _whole(row: dict[str, Any], key: str, where: str, low: int) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= MAX_ROWS:
        raise DatasetError(
            f"{where}: {key}: expected a whole number from {low} to {MAX_ROWS}, got {value!r}; "
            "restore the file"
        )
    return value


def _entry(
    row: dict[str, Any], number: int, where: str, file: Path, videos: dict[str, tuple[Path, float]]
) -> EpisodeEntry:
    tasks = row.get("tasks")
    tasks = [tasks] if isinstance(tasks, str) else tasks
    words = tuple(map(str, tasks)) if isinstance(tasks, (list, tuple)) else ()
    return EpisodeEntry(number, _whole(row, "length", where, 1), file, videos, words)
