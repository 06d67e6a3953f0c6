"""Which kind of data set lies at a path."""

from __future__ import annotations

from pathlib import Path

from wm_planner.data.dataset import Dataset
from wm_planner.errors import DatasetError

# Any of these files tells a layout; that all its files are there is the reader's business.
MARKS = {
    "store": ("meta.json",),
    "pusht": ("seq_lengths.pkl", "rel_actions.pth", "abs_actions.pth"),
    "wall": ("door_locations.pth", "wall_locations.pth"),
    "point_maze": ("seq_lengths.pth",),
    "deformable": ("000000/obses.pth",),
    "bags": ("metadata.yaml", "*.mcap", "*/metadata.yaml", "*/*.mcap"),
}


def open_dataset(path: Path | str, num_trajectories: int | None = None) -> Dataset:
    """Open a data set of any kind: our stores and bags, and the published layouts.

    Args:
        path: its directory.
        num_trajectories: take the first so many of a published set; None takes all.

    Raises:
        DatasetError: nothing known lies there, or it is damaged.
    """
    path = Path(path)
    layout = find_layout(path)
    if layout in ("store", "bags"):
        if num_trajectories is not None:
            raise DatasetError(f"{path}: num_trajectories is for the published data sets")
        from wm_planner.data import recorded  # bags need libraries that the others do without

        return recorded.StoreDataset(path) if layout == "store" else recorded.BagDataset(path)
    from wm_planner.data import dino_wm

    published = (dino_wm.PushT, dino_wm.PointMaze, dino_wm.Wall, dino_wm.Deformable)
    reader = next(reader for reader in published if reader.layout == layout)
    return reader(path, num_trajectories)


def find_layout(path: Path) -> str:
    """Key of `MARKS`.

    Raises:
        DatasetError: none fits; says what was looked for, and which folders inside would do.
    """
    if not path.is_dir():
        raise DatasetError(f"{path}: no such directory")
    layout = _match(path)
    if layout is not None:
        return layout
    inside = sorted(p.name for p in path.iterdir() if p.is_dir() and _match(p))
    if inside:
        raise DatasetError(f"{path}: holds data sets in {', '.join(inside)}; open one of them")
    looked_for = "; ".join(f"{name}: {' or '.join(marks)}" for name, marks in MARKS.items())
    raise DatasetError(f"{path}: no data set is known by these files. Looked for {looked_for}")


def _match(path: Path) -> str | None:
    for layout, marks in MARKS.items():
        if any(any(path.glob(mark)) for mark in marks):
            return layout
    return None
