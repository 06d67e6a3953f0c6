"""Frames out of one trajectory's file of images: a video or a tensor. Only what is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wm_planner.data.pickled_values import load_pth
from wm_planner.errors import DatasetError


def video_frames(file: Path, rows: range, length: int) -> np.ndarray:
    """Rows of a video; it is decoded up to the last of them, since seeking is not always exact.

    Args:
        file: anything that OpenCV reads.
        rows: which frames, ascending.
        length: frames that the video must have at least.

    Returns:
        (len(rows), H, W, 3) uint8 RGB.

    Raises:
        DatasetError: the video is missing, too short or damaged.
    """
    import cv2  # here alone: the other layouts do without it

    video = cv2.VideoCapture(str(file))
    try:
        if not video.isOpened():
            raise DatasetError(f"{file}: not a readable video; copy the file again")
        _check_length(file, round(video.get(cv2.CAP_PROP_FRAME_COUNT)), length)
        frames = []
        for row in range(rows[-1] + 1):
            ok = video.grab()
            if ok and row in rows:
                ok, frame = video.retrieve()
                frames.append(frame)
            if not ok:
                raise DatasetError(f"{file}: frame {row} cannot be decoded; copy the file again")
    finally:
        video.release()
    return np.ascontiguousarray(np.stack(frames)[..., ::-1])


def tensor_frames(file: Path, rows: range, length: int) -> np.ndarray:
    """Rows of a tensor of images, (T, H, W, 3) or (T, 3, H, W), of any kind of number 0 .. 255.

    Args and errors: as `video_frames`; what is not whole is rounded.

    Returns:
        (len(rows), H, W, 3) uint8 RGB.
    """
    images = load_pth(file)
    if not isinstance(images, np.ndarray) or images.ndim != 4 or 3 not in images.shape[1::2]:
        what = getattr(images, "shape", type(images).__name__)
        raise DatasetError(f"{file}: expected (T, H, W, 3) or (T, 3, H, W), got {what}")
    _check_length(file, len(images), length)
    chosen = images[rows.start : rows.stop : rows.step]
    if chosen.shape[-1] != 3:
        chosen = np.moveaxis(chosen, 1, -1)
    if chosen.dtype != np.uint8:
        low, high = float(chosen.min()), float(chosen.max())
        if not (low >= 0 and high <= 255):  # so that NaN is refused too
            raise DatasetError(f"{file}: values from {low} to {high}, expected 0 to 255")
        chosen = np.rint(chosen).astype(np.uint8)
    return np.array(chosen, order="C")


def _check_length(file: Path, found: int, length: int) -> None:
    if found < length:
        raise DatasetError(
            f"{file}: has {found} frames, the trajectory {length}; copy the file again"
        )
