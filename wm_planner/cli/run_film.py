"""A film of a robot's way to a goal, at real speed: camera, goal, and what the planner imagines."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import imageio.v2 as imageio
import numpy as np

SIDE, CAPTION = 360, 24  # pixels: side of a panel, height of the line above it
RATE_HZ = 10
LAST_S = 3.0  # how long the last picture is shown
RING_RGB = (255, 255, 0)


@dataclass(frozen=True)
class Ring:
    """The radius within which a goal counts as reached, as seen by the camera.

    Attributes:
        x, y: centre, in widths of the picture from its left and upper edge.
        radius: in widths of the picture.
    """

    x: float
    y: float
    radius: float


@dataclass
class RunFilm:
    """Collects what a run shows; stamps are those of the camera's clock, nanoseconds.

    Attributes:
        ring: see `Ring`; None: not drawn.
        unit: of the distance, in words.
    """

    ring: Ring | None = None
    unit: str = ""
    _pictures: list[tuple[int, np.ndarray]] = field(default_factory=list)
    _imagined: list[tuple[int, np.ndarray]] = field(default_factory=list)
    _notes: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    _goal: np.ndarray | None = None
    _end: str = ""

    def add_picture(self, stamp_ns: int, image: np.ndarray) -> None:
        """A picture (H, W, 3) uint8 RGB of the camera; its centre square is shown."""
        if not self._pictures or stamp_ns > self._pictures[-1][0]:
            self._pictures.append((stamp_ns, _square(image)))

    def add_goal(self, image: np.ndarray) -> None:
        """The goal's picture (H, W, 3) uint8 RGB."""
        self._goal = _square(image)

    def add_imagined(self, stamp_ns: int, image: np.ndarray) -> None:
        """Where the plan from `stamp_ns` is imagined to end, (S, S, 3) uint8 RGB."""
        self._imagined.append((stamp_ns, _square(image)))

    def note(self, stamp_ns: int, **values: float) -> None:
        """Numbers to write above the picture: 'distance' (in `unit`) and 'replan_s'."""
        for name, value in values.items():
            self._notes.setdefault(name, []).append((stamp_ns, value))

    def finish(self, text: str) -> None:
        """What is written above the last picture, for example 'arrived'."""
        self._end = text

    def write(self, path: Path) -> Path | None:
        """Write an mp4; None when no picture came."""
        if not self._pictures:
            return None
        stamps = [stamp for stamp, _ in self._pictures]
        period_ns = 10**9 // RATE_HZ
        times = [*range(stamps[0], stamps[-1], period_ns), stamps[-1]]
        writer = imageio.get_writer(path, fps=RATE_HZ, macro_block_size=8, codec="libx264")
        try:
            for now_ns in times:
                writer.append_data(self._frame(now_ns, stamps, now_ns == times[-1]))
            for _ in range(round(LAST_S * RATE_HZ)):
                writer.append_data(self._frame(times[-1], stamps, True))
        finally:
            writer.close()
        return path

    def _frame(self, now_ns: int, stamps: list[int], is_last: bool) -> np.ndarray:
        picture = self._pictures[bisect_right(stamps, now_ns) - 1][1]
        words = [f"{(now_ns - stamps[0]) * 1e-9:4.1f} s"]
        distance, replan = (self._latest(name, now_ns) for name in ("distance", "replan_s"))
        if distance is not None:
            words.append(f"distance {distance:.3f} {self.unit}".rstrip())
        if replan is not None:
            words.append(f"replan {1000 * replan:.0f} ms")
        if is_last and self._end:
            words.append(self._end)
        panels = [
            _panel(picture, "  ".join(words), self.ring),
            _panel(self._goal, "goal", self.ring),
        ]
        if self._imagined:
            shown = [image for stamp, image in self._imagined if stamp <= now_ns]
            panels.append(_panel(shown[-1] if shown else None, "imagined end of the plan", None))
        return np.hstack(panels)

    def _latest(self, name: str, now_ns: int) -> float | None:
        values = [value for stamp, value in self._notes.get(name, ()) if stamp <= now_ns]
        return values[-1] if values else None


def _square(image: np.ndarray) -> np.ndarray:
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def _panel(image: np.ndarray | None, caption: str, ring: Ring | None) -> np.ndarray:
    """(CAPTION + SIDE, SIDE, 3) uint8; black for None."""
    if image is None:
        image = np.zeros((1, 1, 3), np.uint8)
    method = cv2.INTER_AREA if image.shape[0] > SIDE else cv2.INTER_CUBIC
    large = cv2.resize(image, (SIDE, SIDE), interpolation=method)
    if ring is not None:
        centre = round(ring.x * SIDE), round(ring.y * SIDE)
        cv2.circle(large, centre, max(2, round(ring.radius * SIDE)), RING_RGB, 2, cv2.LINE_AA)
    line = np.full((CAPTION, SIDE, 3), 255, np.uint8)
    cv2.putText(line, caption, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([line, large])
