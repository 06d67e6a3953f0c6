"""When a goal counts as reached: near enough by every measure that is asked for, long enough."""

from __future__ import annotations

import numpy as np

from wm_planner.embodiment import Embodiment


def proprio_distance(here: np.ndarray, there: np.ndarray, embodiment: Embodiment) -> float:
    """Greatest difference of any entry of two proprioceptions (P,), in its unit.

    Angles that wrap are compared the short way round.
    """
    difference = np.asarray(here, np.float64) - np.asarray(there, np.float64)
    wraps = np.array([entry in embodiment.angles for entry in embodiment.proprio])
    turned = np.abs((difference + np.pi) % (2 * np.pi) - np.pi)
    return float(np.where(wraps, turned, np.abs(difference)).max())


class Arrival:
    """Watches distances to a goal. Use it from one thread.

    Args:
        tolerances: by the name of the measure; those that are None are not asked for. Where none is
            asked for, nothing ever arrives.
        for_s: how long every one must have been within its tolerance, seconds.
    """

    def __init__(self, tolerances: dict[str, float | None], for_s: float) -> None:
        self._tolerances = {name: t for name, t in tolerances.items() if t is not None}
        self._for_ns = round(for_s * 1e9)
        self._within: dict[str, tuple[int, int]] = {}  # first and last stamp of the stay so far

    def clear(self) -> None:
        """Forget all: another goal."""
        self._within.clear()

    def add(self, measure: str, stamp_ns: int, distance: float) -> None:
        """One distance; of a measure that is not asked for it is passed over.

        Args:
            measure: its name.
            stamp_ns: when it was measured; all measures share a clock.
            distance: NaN counts as far away.
        """
        if measure not in self._tolerances:
            return
        if not distance <= self._tolerances[measure]:
            self._within.pop(measure, None)
            return
        first, last = self._within.get(measure, (stamp_ns, stamp_ns))
        self._within[measure] = (min(first, stamp_ns), max(last, stamp_ns))

    @property
    def arrived(self) -> bool:
        """Whether all measures have been within for long enough, at the same time."""
        if not self._tolerances or len(self._within) < len(self._tolerances):
            return False
        begin = max(first for first, _ in self._within.values())
        end = min(last for _, last in self._within.values())
        return end - begin >= self._for_ns
