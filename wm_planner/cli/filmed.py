"""What a film shows of an episode, and when. Nothing is drawn here, and times are arguments."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from wm_planner.cli.options import check_writable
from wm_planner.errors import ConfigError

FORMATS = (".mp4", ".webp", ".gif")
LEAST_S, HOLD_S = 5.0, 2.0  # a film lasts so long at least; the last picture is held so long
T = TypeVar("T")


def check_film(file: Path | None) -> None:
    """Before the work, because the film would be lost.

    Raises:
        ConfigError: --film has no format that can be written, or its place cannot be written to.
    """
    if file is not None and file.suffix not in FORMATS:
        raise ConfigError(f"--film {file}: expected a file that ends in {', '.join(FORMATS)}")
    check_writable("--film", file)
    if file is not None:
        import wm_planner.cli.film  # noqa: F401 - its libraries are missed now, not at the end


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


@dataclass(frozen=True)
class Moment:
    """A moment of an episode.

    Attributes:
        stamp_ns: of the episode's clock.
        seconds: since the film of the episode began, at most its duration.
        planning: the world waits for a plan.
    """

    stamp_ns: int
    seconds: float
    planning: bool = False


@dataclass
class EpisodeFilm:
    """What one episode has shown so far; stamps are those of the camera's clock, nanoseconds.

    Attributes:
        title: what is seen, for example the task and the planner.
        unit: of the distance to the goal, in words.
        step_s: duration of a model step, seconds.
        waits: the world stood still while plans were made (lock-step); else it went on.
        ring: see `Ring`; None: not drawn.
        goal: (S, S, 3) uint8; None: not known.
        pictures, imagined: (stamp, (S, S, 3) uint8) of the camera, and of the plan's end.
        reached: whether the goal was; None: nobody has said so.
    """

    title: str = ""
    unit: str = ""
    step_s: float | None = None
    waits: bool = False
    ring: Ring | None = None
    goal: np.ndarray | None = None
    pictures: list[tuple[int, np.ndarray]] = field(default_factory=list)
    imagined: list[tuple[int, np.ndarray]] = field(default_factory=list)
    reached: bool | None = None
    _distances: list[tuple[int, float]] = field(default_factory=list)
    _replans: dict[int, float] = field(default_factory=dict)

    def add_picture(self, stamp_ns: int, image: np.ndarray) -> bool:
        """A picture (H, W, 3) of the camera, whose centre square is shown; False: not a new one."""
        new = not self.pictures or stamp_ns > self.pictures[-1][0]
        if new:
            self.pictures.append((stamp_ns, _square(image)))
        return new

    def add_goal(self, image: np.ndarray) -> None:
        """The goal's picture (H, W, 3) uint8 RGB."""
        self.goal = _square(image)

    def add_imagined(self, stamp_ns: int, image: np.ndarray) -> None:
        """Where the plan from `stamp_ns` is imagined to end, (S, S, 3) uint8 RGB."""
        self.imagined.append((stamp_ns, _square(image)))

    def add_distance(self, stamp_ns: int, distance: float) -> None:
        """How far the goal is, in `unit`."""
        self._distances.append((stamp_ns, distance))

    def add_replan(self, stamp_ns: int, seconds: float) -> None:
        """How long the plan from the picture of `stamp_ns` took."""
        self._replans[stamp_ns] = seconds

    def clear(self) -> None:
        """Forget the pictures, which take memory."""
        self.pictures.clear()
        self.imagined.clear()

    # What is seen at a moment ----------------------------------------------------------------

    @property
    def duration_s(self) -> float:
        """From the first picture to the last one, with the waiting between them."""
        return self._seconds_until(self.pictures[-1][0]) if self.pictures else 0.0

    def moments(self, rate_hz: float) -> Iterator[Moment]:
        """The moments of a film that runs as fast as the episode did, the last picture's too."""
        if not self.pictures:
            return
        count = int(self.duration_s * rate_hz + 1e-6)
        for k in range(count):
            yield self._moment(k / rate_hz)
        yield self.moment_of(self.pictures[-1][0])

    def moment_of(self, stamp_ns: int) -> Moment:
        """The moment of a stamp, with what was planned from there."""
        return Moment(stamp_ns, self._seconds_until(stamp_ns))

    def picture(self, moment: Moment) -> np.ndarray:
        """(S, S, 3) the camera's newest."""
        found = _latest(self.pictures, moment.stamp_ns)
        return self.pictures[0][1] if found is None else found

    def imagined_end(self, moment: Moment) -> np.ndarray | None:
        """(S, S, 3) what the newest plan that is there is imagined to lead to."""
        there = [(self._known_ns(stamp), image) for stamp, image in self.imagined]
        return _latest(there, _known_until(moment))

    def distance(self, moment: Moment) -> float | None:
        """To the goal, in `unit`."""
        return _latest(self._distances, moment.stamp_ns)

    def replan_s(self, moment: Moment) -> float | None:
        """Seconds that the newest plan that is there took."""
        there = sorted((self._known_ns(stamp), s) for stamp, s in self._replans.items())
        return _latest(there, _known_until(moment))

    def step(self, moment: Moment) -> int | None:
        """Model steps since the first picture."""
        if self.step_s is None:
            return None
        return int((moment.stamp_ns - self.pictures[0][0]) * 1e-9 / self.step_s + 1e-6)

    def _known_ns(self, stamp_ns: int) -> int:
        """When what was planned from a picture was there."""
        late_s = 0.0 if self.waits else self._replans.get(stamp_ns, 0.0)
        return stamp_ns + round(late_s * 1e9)

    def _waited(self) -> list[tuple[int, float]]:
        begin_ns, end_ns = self.pictures[0][0], self.pictures[-1][0]
        waits = self._replans.items() if self.waits else ()
        return sorted((stamp, s) for stamp, s in waits if begin_ns <= stamp < end_ns)

    def _seconds_until(self, stamp_ns: int) -> float:
        waited_s = sum(seconds for stamp, seconds in self._waited() if stamp < stamp_ns)
        return (stamp_ns - self.pictures[0][0]) * 1e-9 + waited_s

    def _moment(self, seconds: float) -> Moment:
        begin_ns, passed_s = self.pictures[0][0], 0.0
        for stamp, wait_s in self._waited():
            at_s = (stamp - begin_ns) * 1e-9 + passed_s
            if seconds < at_s:
                break
            if seconds < at_s + wait_s:
                return Moment(stamp, seconds, planning=True)
            passed_s += wait_s
        return Moment(begin_ns + round((seconds - passed_s) * 1e9), seconds)


def _known_until(moment: Moment) -> int:
    """Stamp of the newest picture whose plan may be there: not the one that is planned from now."""
    return moment.stamp_ns - 1 if moment.planning else moment.stamp_ns


def _latest(series: list[tuple[int, T]], now_ns: int) -> T | None:
    """The value of the newest stamp up to now; stamps rise."""
    index = bisect_right(series, now_ns, key=lambda item: item[0])
    return series[index - 1][1] if index else None


def _square(image: np.ndarray) -> np.ndarray:
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])
