"""Small LeRobot data sets of every version, as LeRobot and its users write them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

os.environ.setdefault("SVT_LOG", "1")  # the encoder of AV1 says only what went wrong
JOINTS = ("shoulder_pan", "shoulder_lift", "gripper")
SIDE = 64
BITS = 12  # of a frame's number, each a block of 16 pixels: four rows of four, the last row empty


def picture(number: int, camera: int = 0) -> np.ndarray:
    """(64, 64, 3): a frame whose number survives any video codec; `camera` colours its last row."""
    image = np.full((SIDE, SIDE, 3), 40, np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            row, column = divmod(bit, 4)
            image[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 220
    image[48:, :, camera] = 160
    return image


def number_of(image: np.ndarray) -> int:
    """The number of a frame, or of its picture made smaller."""
    block = image.shape[0] // 4
    bits = 0
    for bit in range(BITS):
        row, column = (block * place + block // 2 for place in divmod(bit, 4))
        bits |= int(image[row, column].mean() > 130) << bit
    return bits


def camera_of(image: np.ndarray) -> int:
    """Which camera made the picture."""
    return int(image[-image.shape[0] // 8, image.shape[1] // 2].argmax())


@dataclass
class Made:
    """What was written: a number for every frame, and rows for every episode."""

    root: Path
    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    numbers: list[np.ndarray] = field(default_factory=list)


def make(
    root: Path,
    version: str = "v3.0",
    store: str = "libx264",
    lengths: tuple[int, ...] = (9, 12, 7),
    cameras: tuple[str, ...] = ("observation.images.front",),
    fps: float = 10,
    names: Any = None,
    state_names: Any = None,
    per_file: int = 2,
    seed: int = 0,
    drift_s: float = 0.0,
    extra_frames: int = 0,
    stats: bool = True,
) -> Made:
    """Write a data set.

    Args:
        store: video codec; or 'png' and 'jpeg' (in the parquet file), 'folder' (files of their
            own).
        names, state_names: of the action and the state; None: '<joint>.pos'.
        per_file: episodes in a file, of version 3.
        drift_s: what is added to from_timestamp for every episode before in a video.
        extra_frames: at the end of every video, which belong to no episode.
    """
    rng = np.random.default_rng(seed)
    made = Made(root)
    names = [f"{joint}.pos" for joint in JOINTS] if names is None else names
    size = len(JOINTS)
    first = 1
    for length in lengths:
        made.states.append(rng.normal(size=(length, size)).astype(np.float32))
        made.actions.append(rng.normal(size=(length, size)).astype(np.float32))
        made.numbers.append(np.arange(first, first + length))
        first += length
    is_video = store not in ("png", "jpeg", "folder")
    features: dict[str, Any] = {
        "observation.state": {
            "dtype": "float32",
            "shape": [size],
            "names": names if state_names is None else state_names,
        },
        "action": {"dtype": "float32", "shape": [size], "names": names},
    }
    for key in cameras:
        features[key] = {
            "dtype": "video" if is_video else "image",
            "shape": [SIDE, SIDE, 3],
            "names": ["height", "width", "channels"],
        }
    for key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        dtype = "float32" if key == "timestamp" else "int64"
        features[key] = {"dtype": dtype, "shape": [1], "names": None}
    info = {
        "codebase_version": version,
        "robot_type": "so101_follower",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "chunks_size": 2 if version < "v3" else 1000,
        "fps": fps,
        "features": features,
    }
    if version < "v3":
        info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        info["video_path"] = (
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        )
    write(root / "meta/info.json", json.dumps(info))
    if stats:
        _write_stats(made, version)
    writer = _write_v2 if version < "v3" else _write_v3
    writer(made, store, cameras, fps, per_file, drift_s, extra_frames)
    return made


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _write_stats(made: Made, version: str) -> None:
    def stats(values: np.ndarray) -> dict[str, list[float]]:
        return {"min": values.min(0).tolist(), "max": values.max(0).tolist()}

    if version == "v2.1":
        lines = [
            {"episode_index": i, "stats": {"action": stats(x)}} for i, x in enumerate(made.actions)
        ]
        write(made.root / "meta/episodes_stats.jsonl", "\n".join(map(json.dumps, lines)))
    else:
        write(made.root / "meta/stats.json", json.dumps({"action": stats(np.vstack(made.actions))}))


def _write_v2(made, store, cameras, fps, per_file, drift_s, extra_frames) -> None:
    lines = []
    for episode, numbers in enumerate(made.numbers):
        chunk = f"chunk-{episode // 2:03d}"
        table = _table(made, [episode], store, cameras, fps)
        file = made.root / f"data/{chunk}/episode_{episode:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file)
        if store not in ("png", "jpeg", "folder"):
            for camera, key in enumerate(cameras):
                file = made.root / f"videos/{chunk}/{key}/episode_{episode:06d}.mp4"
                encode(file, [picture(n, camera) for n in numbers], fps, store)
        lines.append({"episode_index": episode, "tasks": ["stack"], "length": len(numbers)})
    write(made.root / "meta/episodes.jsonl", "\n".join(map(json.dumps, lines)) + "\n")


def _write_v3(made, store, cameras, fps, per_file, drift_s, extra_frames) -> None:
    count = len(made.numbers)
    rows: list[dict[str, Any]] = []
    start = 0
    for number, first in enumerate(range(0, count, per_file)):
        episodes = list(range(first, min(first + per_file, count)))
        file = made.root / f"data/chunk-000/file-{number:03d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_table(made, episodes, store, cameras, fps), file, row_group_size=5)
        before = 0
        for place, episode in enumerate(episodes):
            length = len(made.numbers[episode])
            row = {
                "episode_index": episode,
                "tasks": ["stack"],
                "length": length,
                "dataset_from_index": start,
                "dataset_to_index": start + length,
                "data/chunk_index": 0,
                "data/file_index": number,
                "stats/action/mean": [0.0],
            }
            for key in cameras if store not in ("png", "jpeg", "folder") else ():
                begin = before / fps + place * drift_s
                row |= {
                    f"videos/{key}/chunk_index": 0,
                    f"videos/{key}/file_index": number,
                    f"videos/{key}/from_timestamp": begin,
                    f"videos/{key}/to_timestamp": begin + length / fps,
                }
            rows.append(row)
            start += length
            before += length
        if store not in ("png", "jpeg", "folder"):
            numbers = np.concatenate([made.numbers[e] for e in episodes])
            for camera, key in enumerate(cameras):
                pictures = [picture(n, camera) for n in numbers]
                pictures += [picture(0, camera)] * extra_frames
                path = made.root / f"videos/{key}/chunk-000/file-{number:03d}.mp4"
                encode(path, pictures, fps, store)
    file = made.root / "meta/episodes/chunk-000/file-000.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def _table(made: Made, episodes: list[int], store: str, cameras, fps: float) -> pa.Table:
    columns: dict[str, Any] = {
        "observation.state": np.vstack([made.states[e] for e in episodes]).tolist(),
        "action": np.vstack([made.actions[e] for e in episodes]).tolist(),
    }
    frames = [(e, i) for e in episodes for i in range(len(made.numbers[e]))]
    columns["timestamp"] = [i / fps for _, i in frames]
    columns["frame_index"] = [i for _, i in frames]
    columns["episode_index"] = [e for e, _ in frames]
    columns["index"] = list(range(len(frames)))
    columns["task_index"] = [0] * len(frames)
    schema = {
        "observation.state": pa.list_(pa.float32()),
        "action": pa.list_(pa.float32()),
        "timestamp": pa.float32(),
        **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), pa.int64()),
    }
    for camera, key in enumerate(cameras):
        if store in ("png", "jpeg", "folder"):
            columns[key] = [
                _cell(made.root, key, e, i, picture(made.numbers[e][i], camera), store)
                for e, i in frames
            ]
            schema[key] = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.table(columns, pa.schema(schema))


def _cell(root: Path, key: str, episode: int, frame: int, image: np.ndarray, store: str) -> Any:
    content = BytesIO()
    Image.fromarray(image).save(content, "jpeg" if store == "jpeg" else "png")
    if store != "folder":
        return {"bytes": content.getvalue(), "path": None}
    file = root / f"images/{key}/episode_{episode:06d}/frame_{frame:06d}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.getvalue())
    return {"bytes": None, "path": f"/home/recorder/{file.name}"}


def encode(file: Path, pictures: Iterable[np.ndarray], fps: float, codec: str) -> None:
    """A video with few keyframes, and with frames that others are built from where they can be."""
    file.parent.mkdir(parents=True, exist_ok=True)
    options = {"libx264": {"g": "50", "bf": "2"}, "libsvtav1": {"preset": "12", "g": "20"}}
    with av.open(str(file), "w") as out:
        stream = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = options.get(codec, {})
        for image in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
