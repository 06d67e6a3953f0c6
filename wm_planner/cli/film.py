"""Films of episodes at the speed at which they happened, and their key frames as one picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import imageio.v2 as imageio
import numpy as np
from PIL import Image

from wm_planner.cli.filmed import HOLD_S, LEAST_S, EpisodeFilm, Moment
from wm_planner.cli.pictures import (
    GREEN,
    GREY,
    INK,
    ORANGE,
    Colour,
    beside,
    panel,
    text_line,
    write_picture,
)
from wm_planner.files import written_aside

RATE_HZ = 10
MARGIN = 8  # pixels around everything
COLUMNS = (2, 112, 212, 482)  # where time, step, distance and replan time begin, pixels
TITLE_FONT = 18  # pixels
RESULT = 300  # pixels from the right, where the result begins
WEBP_QUALITY = 70


def write_film(path: Path, episodes: Sequence[EpisodeFilm]) -> Path | None:
    """Camera, goal and imagination side by side, with what is known of the moment below.

    The last picture of each episode is held for a while.

    Args:
        path: of the ending mp4, webp or gif.
        episodes: one after the other.

    Returns:
        `path`; None when no episode has a picture.

    Raises:
        WriteError: the film cannot be written.
    """
    filmed = [episode for episode in episodes if episode.pictures]
    if not filmed:
        return None
    imagined = any(episode.imagined for episode in filmed)  # all pictures are of one size
    whole_s = sum(episode.duration_s + HOLD_S for episode in filmed)

    def pictures() -> Iterator[np.ndarray]:
        for episode in filmed:
            hold_s = HOLD_S + (max(0.0, LEAST_S - whole_s) if episode is filmed[-1] else 0.0)
            for moment in episode.moments(RATE_HZ):
                picture = _picture(episode, moment, imagined)
                yield picture
            yield from [picture] * round(hold_s * RATE_HZ)

    write = write_mp4 if path.suffix == ".mp4" else write_animation
    return write(path, pictures(), RATE_HZ)


def write_mp4(path: Path, pictures: Iterable[np.ndarray], rate_hz: float) -> Path:
    """Write pictures (H, W, 3) uint8, all of one even size; returns `path`.

    Raises:
        WriteError: the film cannot be written.
    """
    with written_aside(path) as part:
        writer = imageio.get_writer(
            part,
            fps=rate_hz,
            macro_block_size=2,
            codec="libx264",
            quality=7,
            ffmpeg_log_level="quiet",
        )
        try:
            for picture in pictures:
                writer.append_data(picture)
        finally:
            writer.close()
        if not cv2.VideoCapture(str(part)).isOpened():  # a full disk, which imageio says nothing of
            raise OSError("the encoder has not finished the film")
    return path


def write_animation(path: Path, pictures: Iterable[np.ndarray], rate_hz: float) -> Path:
    """Write pictures (H, W, 3) uint8 as webp or gif that begins again; returns `path`.

    Raises:
        WriteError: it cannot be written.
    """
    frames = (Image.fromarray(picture) for picture in pictures)
    options: dict[str, Any] = {}
    if path.suffix == ".webp":
        options = {"quality": WEBP_QUALITY, "method": 4}
    with written_aside(path) as part:
        next(frames).save(
            part,
            save_all=True,
            append_images=frames,
            duration=round(1000 / rate_hz),
            loop=0,
            **options,
        )
    return path


def write_key_frames(path: Path, episode: EpisodeFilm) -> Path | None:
    """The first picture of the camera, every second one and the last one, below each other.

    Returns:
        `path`; None when the episode has no picture.
    """
    if not episode.pictures:
        return None
    last = len(episode.pictures) - 1
    stamps = [s for i, (s, _) in enumerate(episode.pictures) if i % 2 == 0 or i == last]
    moments = [episode.moment_of(stamp) for stamp in stamps]
    imagined = bool(episode.imagined)
    write_picture(path, np.vstack([_picture(episode, moment, imagined) for moment in moments]))
    return path


def _picture(episode: EpisodeFilm, moment: Moment, imagined: bool) -> np.ndarray:
    panels = [
        panel(episode.picture(moment), "camera", ring=episode.ring),
        panel(episode.goal, "goal", ring=episode.ring, missing="no goal"),
    ]
    if imagined:
        end = episode.imagined_end(moment)
        panels.append(panel(end, "imagined: where the plan ends", missing="no plan yet"))
    row = beside(panels)
    width = row.shape[1]
    title = text_line(width, [(2, episode.title, INK)], size=TITLE_FONT)
    if episode.ring is not None:
        told = text_line(RESULT, [(0, "in the ring it counts as reached", GREY)])
        title = np.hstack([title[:, :-RESULT], told])
    status = text_line(
        width, [(2 + x, text, colour) for x, text, colour in _words(episode, moment)]
    )
    result = _result(episode, moment)
    if result is not None:
        status = np.hstack([status[:, :-RESULT], text_line(RESULT, [(0, *result)])])
    picture = np.vstack([title, row, status])
    return np.pad(picture, ((MARGIN // 2,) * 2, (MARGIN,) * 2, (0, 0)), constant_values=255)


def _words(episode: EpisodeFilm, moment: Moment) -> Iterator[tuple[int, str, Colour]]:
    step, distance = episode.step(moment), episode.distance(moment)
    replan_s = episode.replan_s(moment)
    yield COLUMNS[0], f"{moment.seconds:.1f} s", INK
    if step is not None:
        yield COLUMNS[1], f"step {step}", INK
    if distance is not None:
        yield COLUMNS[2], f"distance {distance:.3g} {episode.unit}".rstrip(), INK
    if moment.planning:
        yield COLUMNS[3], "planning, the world waits", GREY
    elif replan_s is not None:
        yield COLUMNS[3], f"replan {1000 * replan_s:.0f} ms", INK


def _result(episode: EpisodeFilm, moment: Moment) -> tuple[str, Colour] | None:
    if episode.reached is None or moment.stamp_ns < episode.pictures[-1][0]:
        return None
    return ("goal reached", GREEN) if episode.reached else ("goal not reached", ORANGE)
