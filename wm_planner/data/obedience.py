"""When a recorded robot did not execute what it was told, by what it said of itself."""

from __future__ import annotations

from collections.abc import Iterable

# So late a robot may say that it has stopped; not before it has said that it had not.
LATE_NS = 1_000_000_000
_EVER = 2**62

Interval = tuple[int, int]


def refusals(
    samples: Iterable[tuple[int, bool]], dt_ns: int, max_age_ns: int | None = None
) -> list[Interval]:
    """Intervals in which a robot did not execute its commands, or nobody knows that it did.

    Args:
        samples: (stamp_ns, whether it executed them), in any order.
        dt_ns: control period: an interval ends a period after the robot obeys again.
        max_age_ns: how long a sample holds; None: until the next one.
    """
    found: list[Interval] = []
    begun: int | None = None
    before: int | None = None  # stamp of the last good sample
    for stamp, good in sorted(samples):
        if begun is None and before is not None and max_age_ns is not None:
            begun = before + max_age_ns if stamp - before > max_age_ns else None
        if not good and begun is None:
            begun = 0 if before is None else max(before, stamp - LATE_NS)
        elif good and begun is not None:
            found.append((begun, stamp + dt_ns))
            begun = None
        if good:
            before = stamp
    if begun is None and before is not None and max_age_ns is not None:
        begun = before + max_age_ns
    return found if begun is None else [*found, (begun, _EVER)]


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time in intervals that do not touch, in order."""
    result: list[Interval] = []
    for begin, end in sorted(intervals):
        if result and begin <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], end)
        else:
            result.append((begin, end))
    return result
