"""What was heard of a robot's topics, and what of it is wrong. No ROS here: stamps are arguments.

All times are nanoseconds; what is reported is in seconds or hertz.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

import numpy as np


class Mark(str, Enum):
    """How a line of the report is meant."""

    FINE = "ok"
    NOTE = "--"
    WRONG = "!!"


@dataclass(frozen=True)
class Line:
    """One finding."""

    mark: Mark
    text: str


def fine(text: str) -> Line:
    """All is well."""
    return Line(Mark.FINE, text)


def note(text: str) -> Line:
    """Worth knowing; nothing is missing."""
    return Line(Mark.NOTE, text)


def wrong(text: str) -> Line:
    """Something is missing; the text says the way out."""
    return Line(Mark.WRONG, text)


@dataclass
class Heard:
    """Messages of one topic, in the order of their receipt.

    Attributes:
        stamps_ns: of their headers; 0 where nobody filled it in.
        received_ns: by this machine's clock.
    """

    stamps_ns: list[int] = field(default_factory=list)
    received_ns: list[int] = field(default_factory=list)

    def add(self, stamp_ns: int, received_ns: int) -> None:
        """One message."""
        self.stamps_ns.append(stamp_ns)
        self.received_ns.append(received_ns)

    @property
    def count(self) -> int:
        """Messages."""
        return len(self.received_ns)

    @property
    def stamped(self) -> bool:
        """Whether the stamps are filled in and all of them different."""
        return self.count > 0 and all(self.stamps_ns) and len(set(self.stamps_ns)) == self.count

    def _intervals_s(self) -> np.ndarray:
        times = self.stamps_ns if self.stamped else self.received_ns
        return np.diff(np.sort(np.array(times, dtype=np.int64))) * 1e-9

    @property
    def rate_hz(self) -> float:
        """Messages per second; 0 before two of them."""
        intervals = self._intervals_s()
        return float(1 / intervals.mean()) if intervals.size and intervals.mean() > 0 else 0.0

    @property
    def jitter_s(self) -> float:
        """Half of the range that holds the middle 90 % of the intervals."""
        intervals = self._intervals_s()
        if not intervals.size:
            return 0.0
        low, high = np.percentile(intervals, [5, 95])
        return float(high - low) / 2

    @property
    def gap_s(self) -> float:
        """The longest interval."""
        intervals = self._intervals_s()
        return float(intervals.max()) if intervals.size else 0.0

    @property
    def age_s(self) -> float:
        """Median of receipt less stamp: negative when the sender's clock is ahead."""
        if not self.count:
            return 0.0
        ages = np.array(self.received_ns, np.int64) - np.array(self.stamps_ns, np.int64)
        return float(np.median(ages)) * 1e-9


def clock_lines(heard: Heard, stale_after_s: float) -> Iterator[Line]:
    """What is wrong with the stamps of a topic."""
    age_s = heard.age_s
    if not all(heard.stamps_ns):
        yield wrong(
            "stamps are zero: the controller would take every message for stale; have the driver "
            "fill in header.stamp"
        )
    elif abs(age_s) > stale_after_s:
        seconds = "decades" if abs(age_s) > 1e8 else f"{abs(age_s):.3g} s"
        side = "behind" if age_s > 0 else "ahead of"
        yield wrong(
            f"stamps are {seconds} {side} this machine's clock, and stale_after_s is "
            f"{stale_after_s:g}: synchronise the clocks (chrony, ntp), or have the driver stamp "
            "with the ROS clock"
        )
    else:
        if age_s < -0.05:
            yield note(f"stamps are {-age_s * 1e3:.0f} ms ahead of this machine's clock")
        if len(set(heard.stamps_ns)) < heard.count:
            yield note("some stamps are repeated; of equal stamps one message counts")


def rate_lines(heard: Heard, least_hz: float, why: str, hole_s: float) -> Iterator[Line]:
    """What is wrong with how often a topic speaks.

    Args:
        heard: the topic.
        least_hz: rate that is needed.
        why: who needs it.
        hole_s: intervals longer than this are named.
    """
    if heard.count >= 2 and heard.rate_hz < 0.98 * least_hz:
        yield wrong(f"{heard.rate_hz:.1f} Hz, and {why} needs at least {least_hz:.3g} Hz")
    elif heard.gap_s > hole_s:
        yield note(f"the longest pause was {heard.gap_s:.2f} s; steps in it are lost")


HEADINGS = ("topic", "type", "rate", "jitter", "age")


def row_of(topic: str, kind: str, heard: Heard) -> tuple[str, ...]:
    """Cells of the table for one topic."""
    if heard.count < 2:
        few = f"{heard.count} message{'s' if heard.count != 1 else ''}"
        return topic, kind, few, "", ""
    age = f"{1e3 * heard.age_s:.0f} ms" if heard.stamped and abs(heard.age_s) < 100 else "?"
    jitter = f"{1e3 * heard.jitter_s:.1f} ms"
    return topic, kind, f"{heard.rate_hz:.1f} Hz", jitter, age
