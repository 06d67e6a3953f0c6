"""When to plan again: every so many model steps, however often pictures come."""

from __future__ import annotations

import threading

JUMP_NS = 1_000_000_000  # an observation older than the last by more is of another clock


class Pace:
    """Says which observations are planned from. Any thread may ask.

    Plans are due at the first observation towards a goal, and then a period apart. An observation
    counts as on time when it comes up to a tolerance early, so that a camera whose period is that
    of the plans may be a little unsteady. A plan that was begun late does not move those after it,
    and those that were missed are not made up for.

    Args:
        period_ns: from one plan to the next, nanoseconds; 0: every newer observation is due.
        tolerance_ns: how early an observation may come; less than the period.
    """

    def __init__(self, period_ns: int, tolerance_ns: int = 0) -> None:
        self._period_ns, self._tolerance_ns = period_ns, tolerance_ns
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Begin afresh: the next observation is due."""
        with self._lock:
            self._begun_ns: int | None = None
            self._goal: object = None
            self._due_ns = 0

    def is_due(self, stamp_ns: int, goal: object = None) -> bool:
        """Whether to plan from an observation of that time, towards that goal object."""
        with self._lock:
            return self._afresh(stamp_ns, goal) or self._on_time(stamp_ns)

    def begin(self, stamp_ns: int, goal: object = None) -> bool:
        """Whether to plan from it, still; if so, that plan counts as begun."""
        with self._lock:
            if self._afresh(stamp_ns, goal):
                self._due_ns = stamp_ns
            elif not self._on_time(stamp_ns):
                return False
            if self._period_ns:
                passed = (stamp_ns + self._tolerance_ns - self._due_ns) // self._period_ns + 1
                self._due_ns += passed * self._period_ns
            self._begun_ns, self._goal = stamp_ns, goal
            return True

    def _afresh(self, stamp_ns: int, goal: object) -> bool:
        """Whether what was planned before says nothing of this observation."""
        if self._begun_ns is None or goal is not self._goal:
            return True
        return self._begun_ns - stamp_ns > JUMP_NS

    def _on_time(self, stamp_ns: int) -> bool:
        if self._begun_ns is not None and stamp_ns <= self._begun_ns:
            return False
        return self._period_ns == 0 or stamp_ns >= self._due_ns - self._tolerance_ns
