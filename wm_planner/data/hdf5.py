"""HDF5 in the layout of robomimic, read; `hdf5_export` writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from wm_planner.data.dataset import Dataset, finite
from wm_planner.data.prepare import prepare
from wm_planner.data.video import reason
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.errors import ConfigError, DatasetError, raised_as

FILE = "data.hdf5"  # in a folder
ENV = "env_args"
IMAGE_SIZE = 96  # pixels, where nobody says otherwise
MODEL_STEP_S = 0.5  # about the duration of a model step, where nobody says otherwise
# What h5py raises for a damaged file; a name that is no text makes a TypeError.
DAMAGED = (OSError, KeyError, RuntimeError, ValueError, MemoryError, TypeError)
# Bounds far above any real data set: a file's size says nothing of what it expands to.
MAX_VALUES, MAX_SIDE, MAX_ROWS = 2**28, 8192, 10_000_000


class Hdf5Dataset(Dataset):
    """Demonstrations of a file in robomimic's layout.

    An export of this package is read back bit for bit. Of other files, an embodiment is derived:
    its period from 'control_freq' in ``env_args``, a camera for every ``obs/*`` of pictures, and
    proprioception from the joint positions of ``obs``, or, where there are none, from everything in
    ``obs`` that is not named after an object.

    Args:
        path: the file, or a folder with ``data.hdf5``.
        image_size: side of each camera's picture, pixels; 96 by default. An export's stay as they
            are.

    Raises:
        DatasetError: missing or damaged; or nothing tells the robot's period, pictures or state.
    """

    def __init__(self, path: Path | str, image_size: int | None = None) -> None:
        path = Path(path)
        self._file = path / FILE if path.is_dir() else path
        with self._opened() as file:
            data = _member(file, "data", h5py.Group, str(self._file))
            self._demos = sorted((name for name in data if name.startswith("demo")), key=_number)
            if not self._demos:
                raise DatasetError(f"{self._file}: no group data/demo_0 in it; export it again")
            env = _env(data, self._file)
            self._own, where = "embodiment" in env, f"{self._file}: data: {ENV}"
            first = _member(data, self._demos[0], h5py.Group, str(self._file))
            if self._own:
                self._pictures, self._state = ["image"], ["proprio"]
                with raised_as(DatasetError, ConfigError):
                    embodiment = Embodiment.from_json(env["embodiment"], f"{where}: embodiment")
            else:
                self._pictures, self._state = _observations(first, self._where(0))
                embodiment = self._derived(first, env, image_size)
            lengths = [self._length(data[name], index) for index, name in enumerate(self._demos)]
        # Others keep the action after the last frame too; it leads nowhere that is known.
        super().__init__(
            path, embodiment, np.array(lengths), embodiment.frame_skip if self._own else 1
        )
        for name, said in (
            (f"obs/{self._state[0]}", len(embodiment.proprio)),
            ("actions", embodiment.action.size * self.frame_skip),
        ):
            found = self._values(0, name, np.float32).shape[1]
            if self._own and found != said:
                raise DatasetError(
                    f"{self._where(0)}/{name}: {found} entries, the embodiment in {ENV} says "
                    f"{said}; export it again"
                )

    def proprio(self, index: int) -> np.ndarray:
        parts = [self._values(index, f"obs/{name}", np.float32) for name in self._state]
        return finite(np.hstack(parts), f"{self._where(index)}/obs")

    def actions(self, index: int) -> np.ndarray:
        values = self._values(index, "actions", np.float32)[: int(self.lengths[index]) - 1]
        return finite(values, f"{self._where(index)}/actions")

    def states(self, index: int) -> np.ndarray | None:
        with self._opened() as file:
            if "states" not in file["data"][self._demos[index]]:
                return None
        values = self._values(index, "states", np.float64)
        return finite(values, f"{self._where(index)}/states")

    def info(self, index: int) -> dict[str, Any]:
        """'demo', the name of its group."""
        return {"demo": self._demos[index]}

    def read_frames(self, index: int, rows: range) -> np.ndarray:
        columns = []
        with self._opened() as file:
            demo = file["data"][self._demos[index]]
            for name in self._pictures:
                where = f"{self._where(index)}/obs/{name}"
                stored = _member(demo, f"obs/{name}", h5py.Dataset, where)
                _check_pictures(stored, where)
                images = stored[rows.start : rows.stop : rows.step]
                if not self._own:
                    size = self.embodiment.image_size
                    images = np.stack([prepare(image, None, size) for image in images])
                columns.append(images)
        return np.concatenate(columns, axis=2)

    def _values(self, index: int, name: str, kind: type) -> np.ndarray:
        """(T, D) numbers; further axes are flattened."""
        where = f"{self._where(index)}/{name}"
        with self._opened() as file:
            stored = _member(file["data"][self._demos[index]], name, h5py.Dataset, where)
            _check_numbers(stored, where)
            values = stored[()]
        wanted = int(self.lengths[index]) - (name == "actions")
        if len(values) < wanted:
            raise DatasetError(f"{where}: {len(values)} rows, expected {wanted}; export it again")
        with np.errstate(over="ignore"):  # what is too large becomes inf, and is found by `finite`
            return np.asarray(values, kind).reshape(len(values), -1)

    def _length(self, demo: Any, index: int) -> int:
        """Frames of a demonstration: as many as there are pictures, and actions between them."""
        where = self._where(index)
        frames = {
            len(_member(demo, f"obs/{name}", h5py.Dataset, where))
            for name in (*self._pictures, *self._state)
        }
        actions = len(_member(demo, "actions", h5py.Dataset, where))
        length = frames.pop()
        if frames or not 1 <= length <= MAX_ROWS or actions not in (length - 1, length):
            raise DatasetError(
                f"{where}: {actions} actions, and {sorted({length, *frames})} rows in obs; "
                "expected as many actions, or one fewer. Export it again"
            )
        return length

    def _where(self, index: int) -> str:
        return f"{self._file}: data/{self._demos[index]}"

    def _derived(self, demo: Any, env: dict[str, Any], image_size: int | None) -> Embodiment:
        where = f"{self._file}: data: {ENV}"
        given = env.get("env_kwargs")
        settings = given if isinstance(given, dict) else {}
        rate = settings.get("control_freq", env.get("control_freq"))
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.1 <= rate <= 1000:
            raise DatasetError(
                f"{where}: env_kwargs: control_freq: expected the control rate in hertz, got "
                f"{rate}; write it there (with h5py), or export the data as LeRobotDataset"
            )
        low, high, width = np.inf, -np.inf, 0
        for index, name in enumerate(self._demos):
            inner = _member(demo.parent, name, h5py.Group, where)
            stored = _member(inner, "actions", h5py.Dataset, self._where(index))
            place = f"{self._where(index)}/actions"
            _check_numbers(stored, place)
            values = finite(np.asarray(stored[()], float).reshape(len(stored), -1), place)
            if width not in (0, values.shape[1]):
                raise DatasetError(f"{place}: of another size than others")
            width = values.shape[1]
            low = np.minimum(low, values.min(axis=0, initial=np.inf))
            high = np.maximum(high, values.max(axis=0, initial=-np.inf))
        margin = np.maximum(0.05 * (high - low), 1e-3)
        controller = settings.get("controller_configs")
        absolute = isinstance(controller, dict) and controller.get("control_delta") is False
        sizes = [int(np.prod(demo[f"obs/{name}"].shape[1:], dtype=int)) for name in self._state]
        before = f"{self._file}: no embodiment can be derived: "
        with raised_as(DatasetError, ValueError, before=before):
            return Embodiment(
                name=re.sub(r"[^\w.-]+", "_", str(env.get("env_name") or self._file.stem)),
                control_dt_s=1 / rate,
                frame_skip=max(1, round(MODEL_STEP_S * rate)),
                action=ActionSpace(
                    names=tuple(f"action_{number}" for number in range(width)),
                    low=tuple(float(f"{x:.6g}") for x in low - margin),
                    high=tuple(float(f"{x:.6g}") for x in high + margin),
                    kind="position" if absolute else "position_delta",
                    unit="as in the data set",
                ),
                proprio=tuple(
                    f"{name}_{number}/position"
                    for name, size in zip(self._state, sizes, strict=True)
                    for number in range(size)
                ),
                cameras=tuple(
                    Camera(name.removesuffix("_image"), image_size or IMAGE_SIZE)
                    for name in self._pictures
                ),
            )

    @contextmanager
    def _opened(self) -> Iterator[h5py.File]:
        try:
            with h5py.File(self._file, "r") as file:
                yield file
        except DAMAGED as error:
            if not self._file.is_file():
                raise DatasetError(f"{self._file}: no such file") from error
            raise DatasetError(
                f"{self._file}: not a readable HDF5 file ({reason(error)}); copy the file again"
            ) from error


def _member(group: Any, name: str, kind: type, where: str) -> Any:
    """A member of a group by its path, which must lie in this very file."""
    here = group
    for part in name.split("/"):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            raise DatasetError(f"{where}: no '{name}' in it; it is not of robomimic's layout")
        if not isinstance(link, h5py.HardLink):
            raise DatasetError(f"{where}: '{name}' is a link to elsewhere, which is not followed")
        here = here[part]
    if not isinstance(here, kind):
        raise DatasetError(f"{where}: '{name}' is no {kind.__name__.lower()}; export it again")
    if isinstance(here, h5py.Dataset) and (here.external or here.is_virtual):
        raise DatasetError(f"{where}: '{name}' lies in other files, which are not read")
    if isinstance(here, h5py.Dataset) and not here.shape:
        raise DatasetError(f"{where}: '{name}' is a single value; export it again")
    return here


def _env(data: Any, file: Path) -> dict[str, Any]:
    text = data.attrs.get(ENV)
    try:
        env = json.loads(text) if isinstance(text, (str, bytes)) else None
    except (ValueError, RecursionError):
        env = None
    if not isinstance(env, dict):
        raise DatasetError(
            f"{file}: data: attribute {ENV}: expected JSON text with what the environment was, got "
            f"{str(text)[:60]!r}; export it again"
        )
    return env


def _observations(demo: Any, where: str) -> tuple[list[str], list[str]]:
    """Names below ``obs`` of the pictures, and of what makes the proprioception."""
    obs = _member(demo, "obs", h5py.Group, where)
    pictures, vectors = [], []
    for name in sorted(obs):
        stored = obs.get(name)
        if not isinstance(stored, h5py.Dataset):
            continue
        if stored.ndim == 4 and stored.shape[-1] == 3 and stored.dtype == np.uint8:
            pictures.append(name)
        elif stored.ndim == 2 and stored.dtype.kind == "f" and not name.startswith("object"):
            vectors.append(name)
    joints = [name for name in vectors if name.endswith(("joint_pos", "joint_positions", "qpos"))]
    if not pictures or not vectors:
        missing = "pictures (T, H, W, 3) of uint8" if not pictures else "numbers (T, D)"
        raise DatasetError(
            f"{where}/obs: holds no {missing}, only {', '.join(sorted(obs)) or 'nothing'}; "
            "robomimic's dataset_states_to_obs.py adds them"
        )
    return pictures, joints or vectors


def _check_pictures(stored: Any, where: str) -> None:
    shape = stored.shape
    good = len(shape) == 4 and shape[3] == 3 and max(shape[1:3]) <= MAX_SIDE and min(shape[1:3]) > 0
    if not good or stored.dtype != np.uint8:
        raise DatasetError(
            f"{where}: {stored.dtype} {shape}, expected (T, H, W, 3) uint8 of at most {MAX_SIDE} "
            "pixels a side"
        )


def _check_numbers(stored: Any, where: str) -> None:
    if stored.dtype.kind not in "fiub" or not stored.ndim or stored.size > MAX_VALUES:
        raise DatasetError(
            f"{where}: {stored.dtype} {stored.shape}, expected (T, D) numbers, at most {MAX_VALUES}"
        )


def _number(name: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", name)
    return (int(digits.group()) if digits else -1), name
