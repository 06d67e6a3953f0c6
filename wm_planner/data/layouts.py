"""Which kind of data set lies at a path."""

from __future__ import annotations

from pathlib import Path

from wm_planner.data.dataset import Dataset
from wm_planner.errors import DatasetError
from wm_planner.robot import RobotFile

# Any of these files tells a layout; that all its files are there is the reader's business.
MARKS = {
    "store": ("meta.json",),
    "lerobot": ("meta/info.json",),
    "hdf5": ("data.hdf5",),
    "pusht": ("seq_lengths.pkl", "rel_actions.pth", "abs_actions.pth"),
    "wall": ("door_locations.pth", "wall_locations.pth"),
    "point_maze": ("seq_lengths.pth",),
    "deformable": ("000000/obses.pth",),
    "bags": (
        *("metadata.yaml", "*.mcap", "*.db3", "*.mcap.zstd", "*.db3.zstd"),
        *("*/metadata.yaml", "*/*.mcap", "*/*.db3", "*/*.mcap.zstd", "*/*.db3.zstd"),
    ),
}
DROPPED = "dropped"  # folder of the bags that nobody wants, beside the others

HDF5_SUFFIXES = (".hdf5", ".h5")
RECORDED = ("store", "bags", "lerobot", "hdf5")  # all others are published sets


def open_dataset(
    path: Path | str,
    num_trajectories: int | None = None,
    robot: RobotFile | None = None,
    image_size: int | None = None,
    strict: bool = False,
    frame_skip: int | None = None,
) -> Dataset:
    """Open a data set of any kind: our stores and bags, LeRobot's and HDF5, the published layouts.

    Args:
        path: its directory, or an HDF5 file.
        num_trajectories: take the first so many of a published set; None takes all.
        robot: of recordings that do not say of which robot they are.
        image_size: side of each camera's picture, pixels, where the data set leaves it open.
        strict: refuse bags of which something must be left out.
        frame_skip: raw actions per model step that bags are read with; None: the robot's.

    Raises:
        DatasetError: nothing known lies there, or it is damaged.
    """
    path = Path(path)
    layout = find_layout(path)
    if layout in RECORDED:
        if num_trajectories is not None:
            raise DatasetError(f"{path}: num_trajectories is for the published data sets")
        # Each needs libraries that the others do without.
        if layout == "lerobot":
            from wm_planner.data.lerobot_reader import LeRobotDataset

            return LeRobotDataset(path, robot, image_size)
        if layout == "hdf5":
            from wm_planner.data.hdf5 import Hdf5Dataset

            return Hdf5Dataset(path, image_size)
        from wm_planner.data import recorded

        if layout == "store":
            return recorded.StoreDataset(path)
        return recorded.BagDataset(path, robot, strict, frame_skip)
    from wm_planner.data import dino_wm

    published = (dino_wm.PushT, dino_wm.PointMaze, dino_wm.Wall, dino_wm.Deformable)
    reader = next(reader for reader in published if reader.layout == layout)
    return reader(path, num_trajectories)


def find_layout(path: Path) -> str:
    """Key of `MARKS`.

    Raises:
        DatasetError: none fits; says what was looked for, and which folders inside would do.
    """
    if path.is_file() and path.suffix in HDF5_SUFFIXES:
        return "hdf5"
    if path.is_file() and path.name.endswith((".mcap", ".db3", ".mcap.zstd", ".db3.zstd")):
        return "bags"
    if not path.is_dir():
        raise DatasetError(f"{path}: no such directory")
    _check_not_empty(path)
    layout = _match(path)
    if layout is not None:
        return layout
    inside = sorted(p.name for p in path.iterdir() if p.is_dir() and _match(p))
    if inside:
        raise DatasetError(f"{path}: holds data sets in {', '.join(inside)}; open one of them")
    looked_for = "; ".join(f"{name}: {' or '.join(marks)}" for name, marks in MARKS.items())
    raise DatasetError(f"{path}: no data set is known by these files. Looked for {looked_for}")


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


def _match(path: Path) -> str | None:
    for layout, marks in MARKS.items():
        if any(_has(path, mark) for mark in marks):
            return layout
    return None


def _has(path: Path, mark: str) -> bool:
    return any(found.parent.name != DROPPED or found.parent == path for found in path.glob(mark))
