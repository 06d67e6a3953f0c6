"""Statistics that every table of results shares: intervals, and tests of paired results."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

Z_95 = 1.959963984540054
GAP = ("gap", "gap_low", "gap_high")  # names of a `mean_interval` in results


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a success rate (Wilson 1927).

    Returns:
        (low, high), both in [0, 1]; (0, 1) without trials.

    Raises:
        ValueError: successes outside 0..trials.
    """
    if trials == 0 == successes:
        return 0.0, 1.0
    from scipy.stats import binomtest  # here: it takes a second, which `--help` has no use for

    ends, rate = binomtest(successes, trials).proportion_ci(method="wilson"), successes / trials
    # Rounding must not put the observed rate outside its own interval.
    return min(float(ends.low), rate), max(float(ends.high), rate)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of independent values, and its 95 % interval (Student's t).

    Returns:
        (mean, low, high); an infinite interval for a single value.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, -math.inf, math.inf
    from scipy.stats import t

    margin = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, float(mean - margin), float(mean + margin)


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Two-sided exact test that two paired success rates are equal (McNemar 1947).

    Args:
        only_a, only_b: targets that only one of the two reached. Those that both or neither
            reached say nothing about the difference.

    Raises:
        ValueError: a negative count.
    """
    if only_a == only_b == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue)


def paired_difference(only_a: int, only_b: int, trials: int) -> tuple[float, float, float]:
    """Success rate of A minus that of B on the same targets, with a 95 % interval.

    The interval is the adjusted Wald interval for paired rates (Bonett and Price 2012), which
    keeps its level at small counts; it need not be symmetric about the difference.

    Args:
        only_a, only_b: targets that only one of the two reached.
        trials: all targets.

    Returns:
        (difference, low, high), all in [-1, 1].
    """
    if min(only_a, only_b) < 0 or only_a + only_b > trials or trials < 1:
        raise ValueError(f"{only_a} and {only_b} do not fit {trials} targets")
    a, b = (only_a + 1) / (trials + 2), (only_b + 1) / (trials + 2)
    margin = Z_95 * math.sqrt((a + b - (a - b) ** 2) / (trials + 2))
    difference = (only_a - only_b) / trials
    return difference, max(-1.0, min(a - b - margin, difference)), min(1.0, a - b + margin)


def ratio_interval(
    a: Sequence[float], b: Sequence[float], draws: int = 2000
) -> tuple[float, float, float]:
    """Ratio of the sums of paired positive values, with a 95 % interval over the pairs.

    The interval is a percentile bootstrap (Efron 1979), of the same draws every time.

    Returns:
        (sum of a / sum of b, low, high).
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    index = np.random.default_rng(0).integers(len(first), size=(draws, len(first)))
    ratios = first[index].sum(axis=1) / second[index].sum(axis=1)
    ratio, (low, high) = first.sum() / second.sum(), np.percentile(ratios, [2.5, 97.5])
    return float(ratio), float(min(low, ratio)), float(max(high, ratio))
