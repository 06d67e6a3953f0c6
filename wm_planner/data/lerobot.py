"""Export to LeRobotDataset v3.0, which LeRobot's policies and viewers read.

``data/chunk-000/file-*.parquet`` holds a row per frame, its pictures as PNG in it, so that nothing
is lost to a video codec; ``meta`` holds what the library looks up before it reads those. Two files
in ``meta`` that LeRobot does not know keep the rest, so that the store can be read back as it was:
the embodiment, the last frame of every trajectory, and the simulator's states.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wm_planner.data.lerobot_columns import ACTION, OWN, OWN_ROWS, OWN_SCHEMA, STATE
from wm_planner.data.lerobot_names import VIEWS
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError
from wm_planner.files import write_json, written_aside

EPISODES_PER_FILE = 500
INDICES = ("frame_index", "episode_index", "index", "task_index")
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES, TASKS = "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet"
MAX_PICTURES = 1000  # that statistics are taken over


def export_lerobot(store: TrajectoryStore, directory: Path | str) -> None:
    """Write a store as a LeRobot data set of one frame per model step.

    Each camera is a feature 'observation.images.<name>'; the action of a frame are the `frame_skip`
    raw actions until the next one, named '<joint>[0]', '<joint>[1]', ... where there are several.

    Args:
        store: every trajectory becomes an episode of T frames: each has the action (f * a,) that
            followed it, so the last frame, which none follows, is not among them.
        directory: must not exist. ``LeRobotDataset(repo_id, root=directory)`` opens it.

    Raises:
        DatasetError: the directory exists; or the pictures are not those of the embodiment's
            cameras side by side.
        WriteError: it cannot be written.
    """
    directory = Path(directory)
    if directory.exists():
        raise DatasetError(f"{directory}: cannot be written: it exists; choose another directory")
    fps = 1 / store.embodiment.model_dt_s
    views = _views(store)
    with written_aside(directory) as part:
        part.mkdir()
        _write(store, views, part, fps)


def _views(store: TrajectoryStore) -> dict[str, slice]:
    """Features of the cameras, and the columns of the picture that belong to each."""
    cameras = store.embodiment.cameras
    width, rest = divmod(store.images.shape[3], len(cameras))
    if rest or (len(cameras) > 1 and width != store.images.shape[2]):
        raise DatasetError(
            f"{store.directory}: pictures of {store.images.shape[2:4]} pixels are not "
            f"{len(cameras)} square ones side by side, as the embodiment has cameras"
        )
    return {
        VIEWS + camera.name: slice(number * width, (number + 1) * width)
        for number, camera in enumerate(cameras)
    }


def _write(store: TrajectoryStore, views: dict[str, slice], directory: Path, fps: float) -> None:
    count, steps = store.actions.shape[:2]
    info = {
        "codebase_version": "v3.0",
        "robot_type": store.embodiment.name,
        "total_episodes": count,
        "total_frames": count * steps,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": int(fps) if fps.is_integer() else fps,
        "splits": {"train": f"0:{count}"},
        "data_path": DATA,
        "video_path": None,
        "features": _features(store, views),
    }
    body = store.embodiment.to_json()
    own = {"schema": OWN_SCHEMA, "embodiment": body, "store": store.meta}
    for path in (DATA.format(chunk_index=0, file_index=0), EPISODES):
        (directory / path).parent.mkdir(parents=True)
    stats = _stats(store, views)
    for name, content in (("meta/info.json", info), ("meta/stats.json", stats), (OWN, own)):
        write_json(directory / name, content)
    pq.write_table(_episodes(store), directory / EPISODES)
    pq.write_table(_tasks(store.embodiment.name), directory / TASKS)
    with pq.ParquetWriter(directory / OWN_ROWS, _own_schema(views)) as writer:
        for episode in range(count):
            writer.write_table(_own_row(store, views, episode))
    for file, first in enumerate(range(0, count, EPISODES_PER_FILE)):
        name = DATA.format(chunk_index=0, file_index=file)
        with pq.ParquetWriter(directory / name, _schema(store, views)) as writer:
            for episode in range(first, min(first + EPISODES_PER_FILE, count)):
                writer.write_table(_frames(store, views, episode, fps))


def _features(store: TrajectoryStore, views: dict[str, slice]) -> dict[str, Any]:
    def feature(dtype: str, shape: Any, names: Any = None) -> dict[str, Any]:
        return {"dtype": dtype, "shape": list(shape), "names": names}

    height, width, channels = store.images.shape[2:]
    picture = feature(
        "image", (height, width // len(views), channels), ["height", "width", "channels"]
    )
    return {
        **dict.fromkeys(views, picture),
        STATE: feature("float32", store.proprio.shape[2:], list(store.embodiment.proprio)),
        ACTION: feature("float32", store.actions.shape[2:], _action_names(store)),
        "timestamp": feature("float32", (1,)),
        **{name: feature("int64", (1,)) for name in INDICES},
    }


def _action_names(store: TrajectoryStore) -> list[str]:
    embodiment = store.embodiment
    if embodiment.frame_skip == 1:
        return list(embodiment.action.names)
    numbers = range(embodiment.frame_skip)
    return [f"{name}[{number}]" for number in numbers for name in embodiment.action.names]


def _schema(store: TrajectoryStore, views: dict[str, slice]) -> pa.Schema:
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.schema(
        {
            **dict.fromkeys(views, picture),
            STATE: pa.list_(pa.float32(), store.proprio.shape[2]),
            ACTION: pa.list_(pa.float32(), store.actions.shape[2]),
            "timestamp": pa.float32(),
            **dict.fromkeys(INDICES, pa.int64()),
        }
    )


def _frames(store: TrajectoryStore, views: dict[str, slice], episode: int, fps: float) -> pa.Table:
    steps = store.actions.shape[1]
    number = np.arange(steps)
    columns = {
        **{
            key: [{"bytes": _png(i[:, place]), "path": None} for i in store.images[episode, :-1]]
            for key, place in views.items()
        },
        STATE: list(store.proprio[episode, :-1]),
        ACTION: list(store.actions[episode]),
        "timestamp": np.float32(number / fps),
        "frame_index": number,
        "episode_index": np.full(steps, episode),
        "index": episode * steps + number,
        "task_index": np.zeros(steps, np.int64),
    }
    return pa.table(columns, _schema(store, views))


def _own_schema(views: dict[str, slice]) -> pa.Schema:
    return pa.schema(
        {
            "episode_index": pa.int64(),
            "proprio": pa.list_(pa.float32()),
            "states": pa.list_(pa.list_(pa.float64())),
            **dict.fromkeys(views, pa.binary()),
        }
    )


def _own_row(store: TrajectoryStore, views: dict[str, slice], episode: int) -> pa.Table:
    """The last frame of a trajectory, and its states where they are known."""
    states = store.states[episode].tolist() if store.states.shape[-1] else []
    last = store.images[episode, -1]
    columns = {
        "episode_index": [episode],
        "proprio": [store.proprio[episode, -1].tolist()],
        "states": [states],
        **{key: [_png(last[:, place])] for key, place in views.items()},
    }
    return pa.table(columns, _own_schema(views))


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def _episodes(store: TrajectoryStore) -> pa.Table:
    count, steps = store.actions.shape[:2]
    number, zeros = np.arange(count), np.zeros(count, np.int64)
    columns = {
        "episode_index": number,
        "tasks": [[store.embodiment.name]] * count,
        "length": np.full(count, steps),
        "dataset_from_index": number * steps,
        "dataset_to_index": (number + 1) * steps,
        "data/chunk_index": zeros,
        "data/file_index": number // EPISODES_PER_FILE,
        "meta/episodes/chunk_index": zeros,
        "meta/episodes/file_index": zeros,
    }
    return pa.table(columns)


def _tasks(task: str) -> pa.Table:
    """A pandas table whose index is the task's name, without pandas."""
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    columns = [
        {"name": name, "field_name": name, "pandas_type": a, "numpy_type": b, "metadata": None}
        for name, (a, b) in kinds.items()
    ]
    names = {"index_columns": ["task"], "column_indexes": [], "columns": columns}
    table = pa.table({"task_index": [0], "task": [task]})
    return table.replace_schema_metadata({"pandas": json.dumps(names)})


def _stats(store: TrajectoryStore, views: dict[str, slice]) -> dict[str, Any]:
    """Over all frames, of pictures over some; these (3, 1, 1), in [0, 1], as they are loaded."""
    rows = np.unique(np.linspace(0, len(store.images) - 1, MAX_PICTURES).astype(int))
    first = store.images[rows, 0]
    values = {
        **{
            key: (first[:, :, place].reshape(-1, 3) / 255.0, (3, 1, 1))
            for key, place in views.items()
        },
        STATE: (store.proprio[:, :-1].reshape(-1, store.proprio.shape[2]), (-1,)),
        ACTION: (store.actions.reshape(-1, store.actions.shape[2]), (-1,)),
    }
    return {
        name: {
            "min": x.min(axis=0).reshape(shape).tolist(),
            "max": x.max(axis=0).reshape(shape).tolist(),
            "mean": x.mean(axis=0, dtype=np.float64).reshape(shape).tolist(),
            "std": x.std(axis=0, dtype=np.float64).reshape(shape).tolist(),
            "count": [len(x)],
        }
        for name, (x, shape) in values.items()
    }
