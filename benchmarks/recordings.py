"""Small data sets in the published layouts, made for a measurement and thrown away after it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch

from wm_planner.data.dino_wm import PointMaze, PublishedDataset, PushT, Wall

# Frames of a trajectory as published: 2,336,736 frames of 18,685 trajectories, 100, and 50.
LENGTHS = {"pusht": 125, "point_maze": 100, "wall": 50}
EPISODES = 6


def record(task: str, directory: Path, image_size: int) -> PublishedDataset:
    """Write `EPISODES` trajectories of a square that wanders over a white floor, and open them.

    Raises:
        ImportError: pusht's videos need OpenCV.
    """
    rng = np.random.default_rng(0)
    length = LENGTHS[task]

    def save(name: str, size: int) -> None:
        values = rng.normal(size=(EPISODES, length, size)).astype(np.float32)
        torch.save(torch.from_numpy(values), directory / f"{name}.pth")

    (directory / "obses").mkdir(parents=True)
    videos = [_pictures(rng, length, image_size) for _ in range(EPISODES)]
    if task == "pusht":
        for name, size in (("states", 5), ("velocities", 2), ("rel_actions", 2)):
            save(name, size)
        (directory / "seq_lengths.pkl").write_bytes(pickle.dumps([length] * EPISODES))
        for index, images in enumerate(videos):
            _write_video(directory / f"obses/episode_{index:03d}.mp4", images)
        return PushT(directory)
    save("actions", 2)
    save("states", 4 if task == "point_maze" else 2)
    if task == "point_maze":
        torch.save(torch.full((EPISODES,), length), directory / "seq_lengths.pth")
    else:
        save("door_locations", 1)
        save("wall_locations", 1)
    for index, images in enumerate(videos):
        tensor = torch.from_numpy(images)
        if task == "wall":  # whole numbers, as floats
            tensor = tensor.movedim(-1, 1).float().contiguous()
        torch.save(tensor, directory / f"obses/episode_{index:03d}.pth")
    return PointMaze(directory) if task == "point_maze" else Wall(directory)


def _pictures(rng: np.random.Generator, length: int, size: int) -> np.ndarray:
    """(T, S, S, 3) uint8"""
    images = np.full((length, size, size, 3), 255, np.uint8)
    side = size // 8
    steps = rng.normal(scale=size / 50, size=(length, 2)).cumsum(axis=0) + size / 2
    for image, (y, x) in zip(images, np.clip(steps, 0, size - side).astype(int), strict=True):
        image[y : y + side, x : x + side] = (200, 30, 60)
    return images


def _write_video(file: Path, images: np.ndarray) -> None:
    import cv2

    size = images.shape[2], images.shape[1]
    video = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 10, size)
    for image in images:
        video.write(np.ascontiguousarray(image[..., ::-1]))
    video.release()
