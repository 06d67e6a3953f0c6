"""A film of a robot's way to a goal, at real speed: camera, goal, and what the planner imagines."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wm_planner.cli.film import CAPTION, panel, write_mp4

SIDE = 360  # of a panel, pixels
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
    _notes: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    _goal: np.ndarray | None = None

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
            self._notes[name].append((stamp_ns, value))

    def write(self, path: Path, end: str = "") -> Path | None:
        """Write an mp4; None when no picture came.

        Args:
            path: to write.
            end: is written above the last picture, for example 'arrived'.
        """
        if not self._pictures:
            return None
        stamps = [stamp for stamp, _ in self._pictures]
        held = [stamps[-1]] * round(1 + LAST_S * RATE_HZ)
        times = [*range(stamps[0], stamps[-1], 10**9 // RATE_HZ), *held]
        return write_mp4(path, (self._frame(now_ns, stamps, end) for now_ns in times), RATE_HZ)

    def _frame(self, now_ns: int, stamps: list[int], end: str) -> np.ndarray:
        picture = self._pictures[bisect_right(stamps, now_ns) - 1][1]
        words = [f"{(now_ns - stamps[0]) * 1e-9:4.1f} s"]
        distance, replan = (_latest(self._notes[k], now_ns) for k in ("distance", "replan_s"))
        if distance is not None:
            words.append(f"distance {distance:.3f} {self.unit}".rstrip())
        if replan is not None:
            words.append(f"replan {1000 * replan:.0f} ms")
        if now_ns == stamps[-1] and end:
            words.append(end)
        panels = [_panel(picture, "  ".join(words)), _panel(self._goal, "goal")]
        if self.ring is not None:
            x, y, radius = (round(v * SIDE) for v in (self.ring.x, self.ring.y, self.ring.radius))
            for shown in panels:
                cv2.circle(shown[CAPTION:], (x, y), max(2, radius), RING_RGB, 2, cv2.LINE_AA)
        if self._imagined:
            panels.append(_panel(_latest(self._imagined, now_ns), "imagined end of the plan"))
        return np.hstack(panels)


def _latest(series: list[tuple[int, Any]], now_ns: int) -> Any:
    values = [value for stamp, value in series if stamp <= now_ns]
    return values[-1] if values else None


def _square(image: np.ndarray) -> np.ndarray:
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def _panel(image: np.ndarray | None, caption: str) -> np.ndarray:
    return panel(image, caption, SIDE, cv2.INTER_CUBIC, 0.45)
