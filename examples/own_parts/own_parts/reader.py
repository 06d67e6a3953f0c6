"""A reader of recordings that are one .npz file each, of the robot that --robot names."""

from pathlib import Path

import numpy as np

from wm_planner.data.dataset import Dataset
from wm_planner.data.layouts import Reader
from wm_planner.errors import DatasetError
from wm_planner.robot import RobotFile


class Takes(Dataset):
    """In each file: images (T, H, W, 3) uint8, proprio (T, P), actions (T - 1, A), outcome."""

    def __init__(self, path: Path, robot: RobotFile | None) -> None:
        if robot is None:
            raise DatasetError(f"{path}: no file says which robot this is; name it by --robot")
        self.files = sorted(path.glob("take_*.npz"))
        lengths = np.array([len(np.load(file)["proprio"]) for file in self.files])
        super().__init__(path, robot.embodiment, lengths)

    def proprio(self, index: int) -> np.ndarray:
        return np.load(self.files[index])["proprio"]

    def actions(self, index: int) -> np.ndarray:
        return np.load(self.files[index])["actions"]

    def read_frames(self, index: int, rows: range) -> np.ndarray:
        return np.load(self.files[index])["images"][rows]

    def info(self, index: int) -> dict[str, str]:
        return {"outcome": str(np.load(self.files[index])["outcome"])}


TAKES = Reader(Takes, marks=("take_*.npz",), takes=("robot",))
