"""Statistics that every table of results shares."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Z_95 = 1.959963984540054
GAP = ("gap", "gap_low", "gap_high")  # names of a `mean_interval` in results


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


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of independent values, and its 95 % interval (Student's t).

    Returns:
        (mean, low, high); an infinite interval for a single value.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, -math.inf, math.inf
    from scipy.stats import t  # here: what runs without the models needs the rest alone

    margin = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, float(mean - margin), float(mean + margin)


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Two-sided exact test that two paired success rates are equal (McNemar 1947).

    Args:
        only_a, only_b: problems that only one of the two solved. Those that both or neither
            solved say nothing about the difference.

    Returns:
        Twice the smaller tail of a binomial distribution of rate 1/2, at most 1.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"counts must not be negative, got {only_a} and {only_b}")
    trials = only_a + only_b
    tail = sum(math.comb(trials, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**trials)


def paired_difference(only_a: int, only_b: int, trials: int) -> tuple[float, float, float]:
    """Success rate of A minus that of B on the same problems, with a 95 % interval.

    The interval is the adjusted Wald interval for paired rates (Bonett and Price 2012), which
    keeps its level at small counts; it need not be symmetric about the difference.

    Args:
        only_a, only_b: problems that only one of the two solved.
        trials: all problems.

    Returns:
        (difference, low, high), all in [-1, 1].
    """
    if min(only_a, only_b) < 0 or only_a + only_b > trials or trials < 1:
        raise ValueError(f"{only_a} and {only_b} do not fit {trials} problems")
    a, b = (only_a + 1) / (trials + 2), (only_b + 1) / (trials + 2)
    margin = Z_95 * math.sqrt((a + b - (a - b) ** 2) / (trials + 2))
    difference = (only_a - only_b) / trials
    return difference, max(-1.0, min(a - b - margin, difference)), min(1.0, a - b + margin)
