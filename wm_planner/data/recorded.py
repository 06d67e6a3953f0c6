"""Our own trajectories, collected or recorded, as a `Dataset`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.data.bags import EPISODE_TOPIC, TYPES, read_episode, read_messages
from wm_planner.data.dataset import Dataset, finite
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError
from wm_planner.tasks import get_task
from wm_planner.types import Episode

EPISODE_TYPE = TYPES[EPISODE_TOPIC]


class StoreDataset(Dataset):
    """A `TrajectoryStore`: one frame per model step."""

    layout = "store"

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

    def _finite(self, name: str, index: int) -> np.ndarray:
        values = np.array(getattr(self.store, name)[index])
        return finite(values, f"{self.path / name}.npy: trajectory {index}")

    def _read_frames(self, index: int, rows: range) -> np.ndarray:
        return np.array(self.store.images[index, rows.start : rows.stop : rows.step])


@dataclass(frozen=True)
class _Piece:
    """Part of an episode with an image every `frame_skip` rows, without a gap."""

    bag: Path
    first_image: int
    proprio: np.ndarray
    actions: np.ndarray
    event: dict[str, str]


class BagDataset(Dataset):
    """Bags of one task, one per episode: a bag, or a directory of them.

    A frame is a control period with an image. Where images are lost a trajectory ends and the
    next begins, so that every trajectory has its frames equally far apart: `frame_skip` control
    periods, the commonest distance. States are unknown.

    Opening reads each bag once and keeps proprioception and actions; images are read again,
    a whole bag at a time, and the last bag's are kept.

    Raises:
        DatasetError: a bag cannot be read, names no known task, or another than the others.
    """

    layout = "bags"

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        bags = [path] if is_bag(path) else sorted(p for p in path.iterdir() if is_bag(p))
        names = {bag: _task_of(bag) for bag in bags}
        task, *others = sorted(set(names.values()))
        if others:
            raise DatasetError(
                f"{path}: holds bags of the tasks {', '.join([task, *others])}; keep each task's "
                "bags in a directory of their own"
            )
        self._spec = get_task(task).embodiment
        self._last: tuple[Path, np.ndarray] | None = None
        episodes = {bag: self._read_without_images(bag) for bag in bags}
        gaps = np.concatenate([np.diff(e.info["image_rows"]) for e in episodes.values()])
        if not len(gaps):
            raise DatasetError(f"{path}: no episode has two images; was the camera running?")
        frame_skip = int(np.bincount(gaps).argmax())
        self._pieces = [p for bag, e in episodes.items() for p in _pieces(bag, e, frame_skip)]
        lengths = np.array([len(piece.proprio) for piece in self._pieces])
        super().__init__(path, self._spec, lengths, frame_skip)

    def proprio(self, index: int) -> np.ndarray:
        return self._pieces[index].proprio

    def actions(self, index: int) -> np.ndarray:
        return self._pieces[index].actions

    def states(self, index: int) -> None:
        return None

    def info(self, index: int) -> dict[str, Any]:
        """'bag' and what the episode's events said (seed, success, ...), as text."""
        piece = self._pieces[index]
        return {"bag": str(piece.bag), **piece.event}

    def _read_without_images(self, bag: Path) -> Episode:
        episode = read_episode(bag, self._spec)
        return replace(episode, images=np.zeros((0, *episode.images.shape[1:]), np.uint8))

    def _read_frames(self, index: int, rows: range) -> np.ndarray:
        piece = self._pieces[index]
        if self._last is None or self._last[0] != piece.bag:
            self._last = piece.bag, read_episode(piece.bag, self._spec).images
        images = self._last[1][piece.first_image :]
        return images[rows.start : rows.stop : rows.step].copy()


def is_bag(path: Path) -> bool:
    """True for a rosbag2 directory, a cut-off one too."""
    return path.is_dir() and ((path / "metadata.yaml").is_file() or any(path.glob("*.mcap")))


def _pieces(bag: Path, episode: Episode, frame_skip: int) -> list[_Piece]:
    """The runs of images `frame_skip` rows apart."""
    rows = episode.info["image_rows"]
    breaks = np.flatnonzero(np.diff(rows) != frame_skip) + 1
    pieces = []
    for run in np.split(np.arange(len(rows)), breaks):
        if len(run) < 2:
            continue
        actions = episode.actions[rows[run[0]] : rows[run[-1]]].reshape(len(run) - 1, -1)
        pieces.append(
            _Piece(
                bag=bag,
                first_image=int(run[0]),
                proprio=finite(episode.proprio[rows[run]], f"{bag}: proprioception"),
                actions=finite(actions, f"{bag}: commands"),
                event=episode.info["episode"],
            )
        )
    return pieces


def _task_of(bag: Path) -> str:
    """The task that the bag's episode events name."""
    for message in read_messages(bag):
        if message.topic.rpartition("/")[2] == EPISODE_TOPIC and message.msgtype == EPISODE_TYPE:
            for item in message.decode().values:
                if item.key == "task":
                    return item.value
    raise DatasetError(
        f"{bag}: no event on topic '{EPISODE_TOPIC}' names the task; record that topic, or read "
        "the bag with wm_planner.data.bags.read_episode, which takes the task"
    )
