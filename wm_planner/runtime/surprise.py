"""Surprise: what is seen against what the model expected of the commands that were sent.

Legend: a = entries of a raw action, K = control periods.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from wm_planner.planning.encoding import EncodedObservation
    from wm_planner.planning.planner import Planner

UNSTEADY = 0.2  # model steps that an observation may be early, and still be a step later
MOST_STEPS = 3  # model steps that are looked back, where nobody knows what is usual


@dataclass(frozen=True)
class Happened:
    """What came of the commands that were sent between two observations.

    Attributes:
        before, now: the two, as the model sees them.
        actions: (H, A) model actions in between, physical units.
        passed: model steps between the two; see `planning.surprise.error_of`.
    """

    before: EncodedObservation
    actions: np.ndarray
    now: EncodedObservation
    passed: float

    def moved(self) -> float:
        """Mean squared change of the visual tokens."""
        for observation in (self.before, self.now):
            observation.wait()
        change = self.now.now.visual[:, -1] - self.before.now.visual[:, -1]
        return float(change.square().mean())


class SentActions:
    """What was sent to the robot lately. Any thread may use it."""

    def __init__(self, most: int = 1000) -> None:
        self._sent: deque[tuple[int, np.ndarray]] = deque(maxlen=most)
        self._lock = threading.Lock()

    def add(self, stamp_ns: int, action: np.ndarray) -> None:
        """A raw action (a,), physical units, by the time it was sent."""
        with self._lock:
            self._sent.append((stamp_ns, action))

    def since(self, begin_ns: int, count: int, dt_ns: int) -> np.ndarray | None:
        """(count, a) in force from `begin_ns` on, one per control period; None: not known."""
        with self._lock:
            sent = list(self._sent)
        stamps = np.array([stamp for stamp, _ in sent], np.int64)
        wanted = begin_ns + np.arange(count) * dt_ns + dt_ns // 2
        newest = np.searchsorted(stamps, wanted, side="right") - 1
        if len(sent) == 0 or newest.min() < 0 or (wanted - stamps[newest] > 2 * dt_ns).any():
            return None
        return np.stack([sent[index][1] for index in newest])


class Surprise:
    """Measures it from one observation to the next. Use it from the thread that plans.

    Args:
        planner: whose model expects.
        usual: see `Familiar.surprise`.
        sent: what the robot was told.

    Attributes:
        happened: of the newest measurement; None: nothing could be expected.
    """

    def __init__(self, planner: Planner, usual: Sequence[float], sent: SentActions) -> None:
        self._planner, self._usual, self._sent = planner, tuple(usual), sent
        self._before: EncodedObservation | None = None
        self.happened: Happened | None = None

    def clear(self) -> None:
        """What was seen before says nothing of what comes."""
        self._before = self.happened = None

    def measure(self, now: EncodedObservation) -> float:
        """The error of what the model expected to see now, in multiples of `usual`.

        NaN where nothing could be expected: no observation a few model steps ago, or
        it is not known what was sent since.
        """
        self.happened = happened = self._happened(now)
        if happened is None or len(happened.actions) > len(self._usual):
            return math.nan
        return self.error(happened) / self._usual[len(happened.actions) - 1]

    def error(self, happened: Happened) -> float:
        """Of what the model expected of it; see `planning.surprise.error_of`."""
        from wm_planner.planning.surprise import error_of  # knows torch

        h = happened
        return error_of(self._planner, h.before, h.actions, h.now, h.passed)

    def _happened(self, now: EncodedObservation) -> Happened | None:
        before, body = self._before, self._planner.embodiment
        if before is None:
            self._before = now
            return None
        passed = (now.stamp_ns - before.stamp_ns) / body.model_dt_ns
        if 0 < passed < 1 - UNSTEADY:
            return None  # wait until a step has passed
        self._before = now
        steps = math.ceil(passed - UNSTEADY)
        if not 1 <= steps <= max(len(self._usual), MOST_STEPS):
            return None
        count = min(round(passed * body.frame_skip), steps * body.frame_skip)
        rows = self._sent.since(before.stamp_ns, count, body.dt_ns)
        if rows is None:
            return None
        # Of the last step perhaps only a part has passed: it goes on as it began.
        rows = np.concatenate([rows, np.repeat(rows[-1:], steps * body.frame_skip - count, axis=0)])
        return Happened(before, rows.reshape(steps, -1).astype(np.float32), now, passed)
