"""Pictures with words: what films, key frames and contact sheets are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wm_planner.cli.filmed import Ring
from wm_planner.files import write_bytes

SIDE, GAP = 360, 8  # pixels: side of a panel, and between panels
LINE = 26  # pixels: height of a line of text
FONT = 16  # pixels
INK, GREY, PAPER = (20, 20, 20), (110, 110, 110), (255, 255, 255)
# Of Okabe and Ito's palette, which colour-blind people tell apart.
GREEN, ORANGE, YELLOW = (0, 158, 115), (213, 94, 0), (240, 228, 66)
Colour = tuple[int, int, int]


def text_line(
    width: int, words: Sequence[tuple[int, str, Colour]], height: int = LINE, size: int = FONT
) -> np.ndarray:
    """(height, width, 3) uint8: words on white, each from its own x on, in its colour."""
    line = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(line)
    for x, text, colour in words:
        draw.text((x, height // 2), text, colour, _font(size), anchor="lm")
    return np.asarray(line)


def fitted(text: str, width: int, size: int = FONT) -> str:
    """The text, or as much of its end as has room in so many pixels."""
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(f"…{text}") > width:
        text = text[1:]
    return f"…{text}"


def panel(
    image: np.ndarray | None,
    caption: str,
    side: int = SIDE,
    ring: Ring | None = None,
    missing: str = "",
    colour: Colour = INK,
) -> np.ndarray:
    """A picture under a line of text.

    Args:
        image: (S, S, 3) uint8; None: a grey field with the words `missing`.
        caption: one line; too long a one loses its beginning.
        side: of the picture as shown, pixels. A smaller one is enlarged without blur.
        ring: is drawn into the picture.
        missing: see `image`.
        colour: of the caption.

    Returns:
        (LINE + side, side, 3) uint8.
    """
    if image is None:
        shown = np.full((side, side, 3), 225, np.uint8)
        blank = text_line(side, [(12, missing, GREY)])
        shown[side // 2 : side // 2 + LINE][blank.min(axis=2) < 230] = GREY
    else:
        method = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_NEAREST
        shown = np.asarray(cv2.resize(image, (side, side), interpolation=method), np.uint8)
    if ring is not None and image is not None:
        centre, radius = (round(ring.x * side), round(ring.y * side)), round(ring.radius * side)
        for line_colour, thickness in ((INK, 5), (YELLOW, 2)):  # seen on whatever ground
            cv2.circle(shown, centre, max(3, radius), line_colour, thickness, cv2.LINE_AA)
    return np.vstack([text_line(side, [(2, fitted(caption, side - 4), colour)]), shown])


def beside(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Panels in a row, with white between them."""
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    row = [part for item in panels for part in (item, gap)]
    return np.hstack(row[:-1])


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) uint8 as png.

    Raises:
        WriteError: it cannot be written.
    """
    write_bytes(path, imageio.imwrite("<bytes>", picture, format="png"))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
