"""Make the moving picture of README of a film: `make picture`.

Usage: python docs/picture.py FILM.mp4 PICTURE.webp
"""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v2 as imageio
from PIL import Image

WIDTH = 960  # pixels
HOLD_S = 2.0  # how long the last frame is shown, beside what the film does


def main(film: Path, picture: Path) -> None:
    """Every frame of the film, at its speed, as an animated picture that begins again."""
    reader = imageio.get_reader(film)
    rate_hz = reader.get_meta_data()["fps"]
    frames = [Image.fromarray(frame) for frame in reader]
    height = round(frames[0].height * WIDTH / frames[0].width)
    shown = [frame.resize((WIDTH, height), Image.Resampling.LANCZOS) for frame in frames]
    durations = [round(1000 / rate_hz)] * len(shown)
    durations[-1] += round(1000 * HOLD_S)
    shown[0].save(
        picture, save_all=True, append_images=shown[1:], duration=durations, loop=0, quality=70
    )


if __name__ == "__main__":
    main(*(Path(name) for name in sys.argv[1:3]))
