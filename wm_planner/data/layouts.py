"""Which reader opens a path: each is an entry point.

A reader of another package is a `Reader` like ours, under a name in the group
'wm_planner.readers'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from wm_planner.data.dataset import Dataset
from wm_planner.errors import DatasetError
from wm_planner.registry import Registry
from wm_planner.robot import RobotFile

BAG_METADATA = "metadata.yaml"
BAG_ENDINGS = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
DROPPED = "dropped"  # folder of the bags that nobody wants, beside the others
OPTIONS = ("num_trajectories", "robot", "image_size", "strict", "frame_skip")


@dataclass(frozen=True)
class Reader:
    """One kind of data set.

    Attributes:
        open: a class derived from `Dataset`, or a function; called with the path, and with
            arguments of `open_dataset` by name: those that `takes` names.
        marks: files of a directory, any of which tells the kind, as patterns of `Path.glob`. That
            all its files are there is the business of `open`.
        endings: of a file that is such a data set.
        rank: where several readers fit, the one of the lowest rank opens.
    """

    open: Callable[..., Dataset]
    marks: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    rank: int = 100

    def __post_init__(self) -> None:
        if unknown := set(self.takes) - set(OPTIONS):
            raise ValueError(f"takes: {min(unknown)} is not one of {', '.join(OPTIONS)}")

    def fits(self, path: Path) -> bool:
        """Whether the path is a data set of this kind."""
        if path.is_file():
            return path.name.endswith(self.endings)
        return any(
            found.parent.name != DROPPED or found.parent == path
            for mark in self.marks
            for found in path.glob(mark)
        )


def _complaint(_name: str, found: object) -> str:
    if isinstance(found, Reader):
        return ""
    return f"must be a wm_planner.data.layouts.Reader, got {found!r}"


READERS: Registry[Reader] = Registry(
    "wm_planner.readers", "reader", _complaint, DatasetError, "train"
)


def open_dataset(
    path: Path | str,
    num_trajectories: int | None = None,
    robot: RobotFile | None = None,
    image_size: int | None = None,
    strict: bool = False,
    frame_skip: int | None = None,
    reader: str | None = None,
) -> Dataset:
    """Open a data set of any kind: our stores and bags, LeRobot's and HDF5, the published layouts.

    Args:
        path: its directory, or its file.
        num_trajectories: take the first so many of a published set; None takes all.
        robot: of recordings that do not say of which robot they are.
        image_size: side of each camera's picture, pixels, where the data set leaves it open.
        strict: refuse bags of which something must be left out.
        frame_skip: raw actions per model step that bags are read with; None: the robot's.
        reader: name of the reader; None: found by the files.

    Raises:
        DatasetError: nothing known lies there, it is damaged, or there is no such reader.
    """
    path = Path(path)
    name = find_layout(path) if reader is None else reader
    options = (num_trajectories, robot, image_size, strict, frame_skip)
    given: dict[str, Any] = dict(zip(OPTIONS, options, strict=True))
    takes = READERS[name].takes
    if num_trajectories is not None and "num_trajectories" not in takes:
        raise DatasetError(
            f"{path}: num_trajectories is for the published data sets; the reader '{name}' takes "
            "all trajectories"
        )
    dataset = READERS[name].open(path, **{key: given[key] for key in takes})
    dataset.layout = name
    return dataset


def find_layout(path: Path) -> str:
    """Name of the reader that fits.

    Raises:
        DatasetError: none fits, or several of one rank; says what was looked for, and which folders
            inside would do.
    """
    if path.is_dir():
        _check_not_empty(path)
    found = _match(path)
    if len(found) > 1:
        raise DatasetError(f"{path}: fits the readers {', '.join(found)}; name one by --reader")
    if found:
        return found[0]
    if not path.is_dir():
        raise DatasetError(f"{path}: no such directory")
    inside = sorted(p.name for p in path.iterdir() if p.is_dir() and _match(p))
    if inside:
        raise DatasetError(f"{path}: holds data sets in {', '.join(inside)}; open one of them")
    readers, broken = _installed()
    looked_for = [f"{name}: {' or '.join(reader.marks)}" for name, reader in readers.items()]
    raise DatasetError(
        f"{path}: no data set is known by these files. Looked for "
        + "; ".join([*looked_for, *broken])
    )


def _installed() -> tuple[dict[str, Reader], list[str]]:
    """The readers by rank, and what is wrong with those that cannot be used: others still can."""
    readers, broken = {}, []
    for name in READERS.names() or ["store"]:
        try:
            readers[name] = READERS[name]
        except DatasetError as error:
            broken.append(str(error))
    return dict(sorted(readers.items(), key=lambda item: item[1].rank)), broken


def _match(path: Path) -> list[str]:
    """The readers of lowest rank that fit."""
    readers, _ = _installed()
    ranks = {name: reader.rank for name, reader in readers.items() if reader.fits(path)}
    return [name for name, rank in ranks.items() if rank == min(ranks.values())]


def _check_not_empty(path: Path) -> None:
    """A directory in which nothing was recorded yet, or of which everything was dropped."""
    inside = {p.name for p in path.iterdir() if not p.name.startswith(".")}
    if inside - {DROPPED}:
        return
    way_out = "'wm-planner robot record FILE --output DIR' records what you drive a robot through"
    if not inside:
        raise DatasetError(f"{path}: nothing is recorded here; {way_out}")
    count = len(list((path / DROPPED).iterdir()))
    raise DatasetError(
        f"{path}: all {count} recordings were dropped; move those that you want out of "
        f"{path / DROPPED}, or record others: {way_out}"
    )


def _later(name: str) -> Callable[..., Dataset]:
    """A class of this folder, imported when it opens: each needs libraries of its own."""

    def opened(path: Path, **options: Any) -> Dataset:
        dataset: Dataset = resolve_name(f"{__package__}.{name}")(path, **options)
        return dataset

    return opened


_BAG_FILES = (BAG_METADATA, *(f"*{ending}" for ending in BAG_ENDINGS))
STORE = Reader(_later("recorded:StoreDataset"), marks=("meta.json",), rank=0)
LEROBOT = Reader(
    _later("lerobot_reader:LeRobotDataset"),
    ("meta/info.json",),
    takes=("robot", "image_size"),
    rank=1,
)
HDF5 = Reader(
    _later("hdf5:Hdf5Dataset"), ("data.hdf5",), (".hdf5", ".h5"), takes=("image_size",), rank=2
)
BAGS = Reader(
    _later("recorded:BagDataset"),
    marks=(*_BAG_FILES, *(f"*/{file}" for file in _BAG_FILES)),
    endings=BAG_ENDINGS,
    takes=("robot", "strict", "frame_skip"),
    rank=7,
)
