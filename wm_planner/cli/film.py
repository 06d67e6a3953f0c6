"""Pictures of a run: a film of the first episodes, and the key frames of the last one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import imageio.v2 as imageio
import numpy as np

from wm_planner.cli.run_record import FILMED, EpisodeRecord, Frame
from wm_planner.files import write_bytes, written_aside

PANEL, CAPTION = 256, 24  # pixels: side of a panel, height of the line above it
FILM_HZ = 5
HOLD = 3  # times the last frame of an episode is shown


def write_film(path: Path, episodes: Sequence[EpisodeRecord]) -> Path | None:
    """Camera, goal and imagination side by side as mp4.

    Returns:
        `path`; None when no episode has a frame.
    """
    filmed = [episode for episode in episodes[:FILMED] if episode.frames]
    if not filmed:
        return None
    imagined = _any_imagined(filmed)  # all frames of a film are of one size

    def pictures() -> Iterator[np.ndarray]:
        for episode in filmed:
            for picture in _pictures(episode, imagined):
                yield picture
            yield from [picture] * (HOLD - 1)

    return write_mp4(path, pictures(), FILM_HZ)


def write_mp4(path: Path, pictures: Iterable[np.ndarray], rate_hz: float) -> Path:
    """Write pictures (H, W, 3) uint8, all of one size; returns `path`.

    Raises:
        WriteError: the film cannot be written.
    """
    with written_aside(path) as part:
        writer = imageio.get_writer(
            part, fps=rate_hz, macro_block_size=8, codec="libx264", ffmpeg_log_level="quiet"
        )
        try:
            for picture in pictures:
                writer.append_data(picture)
        finally:
            writer.close()
        if not cv2.VideoCapture(str(part)).isOpened():  # a full disk, which imageio says nothing of
            raise OSError("the encoder has not finished the film")
    return path


def write_key_frames(path: Path, episode: EpisodeRecord) -> Path | None:
    """Camera, goal and imagination of the first, every second, and the last frame, as png.

    Returns:
        `path`; None when the episode has no frame.
    """
    if not episode.frames:
        return None
    last = len(episode.frames) - 1
    imagined = _any_imagined([episode])
    rows = [p for i, p in enumerate(_pictures(episode, imagined)) if i % 2 == 0 or i == last]
    write_picture(path, np.vstack(rows))
    return path


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) uint8 as png.

    Raises:
        WriteError: it cannot be written.
    """
    write_bytes(path, imageio.imwrite("<bytes>", picture, format="png"))


def panel(
    image: np.ndarray | None,
    caption: str,
    side: int = PANEL,
    enlarge: int = cv2.INTER_NEAREST,
    font: float = 0.5,
) -> np.ndarray:
    """An image (S, S, 3), black for None, under a caption.

    Args:
        image: uint8.
        caption: one line.
        side: of the image as shown, pixels.
        enlarge: OpenCV's interpolation of a smaller image; the usual one does not blur.
        font: scale of the caption.

    Returns:
        (CAPTION + side, side, 3) uint8.
    """
    if image is None:
        image = np.zeros((1, 1, 3), np.uint8)
    method = cv2.INTER_AREA if image.shape[0] > side else enlarge
    large = cv2.resize(image, (side, side), interpolation=method)
    line = np.full((CAPTION, side, 3), 255, np.uint8)
    style = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(line, caption, (6, 17), style, font, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([line, large])


def _pictures(episode: EpisodeRecord, imagined: bool) -> Iterator[np.ndarray]:
    for step, frame in enumerate(episode.frames):
        panels = [
            panel(frame.camera, f"episode {episode.episode}  step {step}{_result(episode, frame)}"),
            panel(episode.goal, "goal"),
        ]
        if imagined:
            panels.append(panel(frame.imagined, "imagined end of plan"))
        yield np.hstack(panels)


def _result(episode: EpisodeRecord, frame: Frame) -> str:
    if frame is not episode.frames[-1] or episode.success is None:
        return ""
    return "  reached" if episode.success else "  not reached"


def _any_imagined(episodes: Sequence[EpisodeRecord]) -> bool:
    return any(frame.imagined is not None for e in episodes for frame in e.frames)
