"""How many actions a robot takes that does not wait for its plan."""

from __future__ import annotations

import math
from collections import deque

_REMEMBERED = 5


class ExpectedSeconds:
    """How long the next plan will take, by the last ones; first plans and warm ones differ."""

    def __init__(self) -> None:
        kinds = (False, True)
        self._seen = {warm: deque[float](maxlen=_REMEMBERED) for warm in kinds}

    def add(self, warm: bool, seconds: float) -> None:
        """A plan took so long."""
        self._seen[warm].append(seconds)

    def clear(self) -> None:
        """Forget all."""
        for seen in self._seen.values():
            seen.clear()

    def num_due(self, warm: bool, dt_s: float, age_s: float = 0.0) -> int:
        """Control periods of `dt_s` that begin before the next plan is there.

        It is expected to take as long as the second slowest of the last ones of its kind, or of
        the other kind when there was none: a single stall says nothing of the next plan.

        Args:
            warm: whether it has a warm start.
            dt_s: control period, seconds.
            age_s: of the observation now, seconds; negative when its clock is ahead.
        """
        seen = sorted(self._seen[warm] or self._seen[not warm] or [0.0])
        return max(0, math.ceil(round((age_s + seen[-2:][0]) / dt_s, 9)))
