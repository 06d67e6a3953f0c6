"""Simulated against wall time."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pacer:
    """Keeps a period on a monotonic clock; a late tick is not made up for by a burst.

    Args:
        period_s: seconds between ticks.
        now_s: monotonic clock.
    """

    def __init__(self, period_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self.period_s, self._now_s = period_s, now_s
        self._due_s = now_s()

    def remaining_s(self) -> float:
        """Seconds until the next tick is due; zero or less when it is."""
        return self._due_s - self._now_s()

    def tick(self) -> None:
        """Note that a tick was made."""
        self._due_s = max(self._due_s + self.period_s, self._now_s())
