"""What a fault is, what must come of it, and how that is judged, without ROS and without a clock.

All times are seconds of the machine's steady clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

STOP, FRESH = "stop", "go on or stop"
STAND_IN, PLANNER = "stand-in", "planner"
NETWORK, REMOTE = "network", "remote"

Heal = Callable[[], None]
Inject = Callable[[Any, np.random.Generator], "Heal | None"]


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: of the kind, unique.
        subject: what fails.
        does: what is done, in words.
        inject: (stage, random) -> what ends it, or None where it ends by itself.
        expect: STOP: the safe command must come in time, and stay until the fault is over.
            FRESH: commands go on, or the safe one is the last word; a command that moves the robot
            is never older than the limit.
        recovers: True: the robot must move again once the fault is over, without help. False: it
            must not, until somebody activates the controller again. None: either will do.
        stages: graphs in which it can be injected.
        within_s: time to the safe command; None: `stale_after_s` and a period.
        ends: nodes that it may end.
        share: how often it is drawn, beside the others.
    """

    name: str
    subject: str
    does: str
    inject: Inject
    expect: str = STOP
    recovers: bool | None = True
    stages: tuple[str, ...] = (STAND_IN,)
    within_s: float | None = None
    ends: tuple[str, ...] = ()
    share: float = 1.0


@dataclass(frozen=True)
class Sent:
    """A command as the robot got it.

    Attributes:
        at_s: when.
        values: (A,) its numbers.
        safe: it is the safe command.
        gap: one that its sender published before it did not come: the way is best effort.
    """

    at_s: float
    values: np.ndarray
    safe: bool
    gap: bool = False


@dataclass(frozen=True)
class Bounds:
    """What every command must keep.

    Attributes:
        low, high: (A,) bounds.
        max_step: (A,) greatest change from one command to the next that is not the safe one.
        limit_s: greatest age of a command that moves the robot: `stale_after_s` and a period.
    """

    low: np.ndarray
    high: np.ndarray
    max_step: np.ndarray
    limit_s: float


@dataclass
class Outcome:
    """What came of one injection.

    Attributes:
        fault, subject, stage, number, seed: which injection it was.
        at_s: when, seconds from the beginning of its stage.
        stopped_s: from the fault to the safe command; None: there was none.
        allowed_s: greatest such time.
        held_s: for how long a command that moves the robot was the last word, at most.
        recovered_s: from the end of the fault to the first motion; None: none without help.
        problems: what must not have been.
    """

    fault: str
    subject: str
    stage: str
    number: int
    seed: int
    at_s: float
    allowed_s: float
    expect: str
    stopped_s: float | None = None
    held_s: float = 0.0
    recovered_s: float | None = None
    problems: list[str] = field(default_factory=list)


def outside(sent: Sequence[Sent], bounds: Bounds) -> list[str]:
    """What is wrong with commands in themselves: not finite, outside of bounds, or a leap."""
    found = []
    for before, now in zip([None, *sent[:-1]], sent, strict=True):
        values = now.values
        if values.shape != bounds.low.shape or not np.isfinite(values).all():
            found.append(f"a command of {values.tolist()}")
        elif (values < bounds.low - 1e-9).any() or (values > bounds.high + 1e-9).any():
            found.append(f"a command outside of the bounds: {values.tolist()}")
        elif before is None or now.safe or now.gap:
            continue
        elif before.values.shape == values.shape:
            leap = np.abs(values - before.values)
            if (leap > bounds.max_step + 1e-9).any():
                found.append(f"a leap from {before.values.tolist()} to {values.tolist()}")
    return found


def held_s(sent: Sequence[Sent], begin_s: float, end_s: float) -> float:
    """For how long a command that moves the robot was the last word, at most, in begin_s .. end_s.

    Commands before `begin_s` count from then on only where they came: what was on the wire when
    the fault began is the last word until the next one.
    """
    longest = 0.0
    ends = [*(one.at_s for one in sent[1:]), math.inf]
    for one, until_s in zip(sent, ends, strict=True):
        if not one.safe and until_s > begin_s and one.at_s < end_s:
            longest = max(longest, min(until_s, end_s) - one.at_s)
    return longest


def stopped_after_s(sent: Sequence[Sent], begin_s: float) -> float | None:
    """Seconds from `begin_s` to a safe command; 0 where it is the last word already."""
    before = [one for one in sent if one.at_s < begin_s]
    if before and before[-1].safe:
        return 0.0
    return next((one.at_s - begin_s for one in sent if one.safe and one.at_s >= begin_s), None)


def judge(
    sent: Sequence[Sent],
    begin_s: float,
    end_s: float,
    expect: str,
    bounds: Bounds,
    within_s: float | None = None,
) -> tuple[float | None, float, list[str]]:
    """Judge what the robot was sent while a fault lasted.

    Args:
        sent: commands, the last one before the fault included, in order.
        begin_s, end_s: from when to when the fault lasted.
        expect: see `Fault`.
        bounds: that commands must keep.
        within_s: see `Fault`.

    Returns:
        Seconds to the first safe command, or None; the longest time for which a command that moves
        the robot was the last word; and what must not have been.
    """
    window = [one for one in sent if one.at_s <= end_s]
    problems = outside(window, bounds)
    stopped_s = stopped_after_s(window, begin_s)
    held = held_s(window, begin_s, end_s)
    allowed_s = bounds.limit_s if within_s is None else within_s
    if expect == STOP:
        if stopped_s is None:
            problems.append(f"no safe command within {end_s - begin_s:.2f} s")
        elif stopped_s > allowed_s:
            problems.append(f"the safe command came after {stopped_s:.3f} s, not {allowed_s:.2f} s")
        moved = [one for one in window if one.at_s > begin_s + allowed_s and not one.safe]
        if stopped_s is not None and moved:
            late_s = moved[-1].at_s - begin_s
            problems.append(f"{len(moved)} commands moved the robot later, up to {late_s:.2f} s")
    if held > bounds.limit_s:
        problems.append(f"a command that moves the robot was the last word for {held:.2f} s")
    return stopped_s, held, problems
