"""Statistics that every table of results shares."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a success rate (Wilson 1927).

    Returns:
        (low, high), both in [0, 1]; (0, 1) without trials.

    Raises:
        ValueError: successes outside 0..trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be from 0 to trials {trials}, got {successes}")
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    scale = 1 + Z_95**2 / trials
    centre = (rate + Z_95**2 / (2 * trials)) / scale
    margin = Z_95 * math.sqrt(rate * (1 - rate) / trials + (Z_95 / (2 * trials)) ** 2) / scale
    # Rounding must not put the observed rate outside its own interval.
    return min(max(0.0, centre - margin), rate), max(min(1.0, centre + margin), rate)
