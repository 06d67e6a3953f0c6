"""Fair timing on a machine that may be shared: alternatives by turns, medians, ratios by round."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one alternative.

    Attributes:
        median_s, low_s, high_s: median and quartiles.
        ratio, ratio_low, ratio_high: of the plain alternative's time to this one's, from the
            pairs of each round: what slows the machine for a while slows both.
    """

    median_s: float
    low_s: float
    high_s: float
    ratio: float
    ratio_low: float
    ratio_high: float


def compare(
    alternatives: dict[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time alternatives by turns; the first is what the others are compared with.

    Each runs once unmeasured, then `rounds` times. `clock` is wall time, or `time.process_time`
    where other work shares the machine: it counts the processor's seconds of all threads.
    """
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(rounds + 1):
        for name, run in alternatives.items():
            taken_s = _seconds(run, device, clock)
            if turn:
                seconds[name].append(taken_s)
    plain = next(iter(seconds.values()))
    return {name: _timing(taken, plain) for name, taken in seconds.items()}


def _seconds(run: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin_s = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begin_s


def _timing(taken: list[float], plain: list[float]) -> Timing:
    ratios = [one / other for one, other in zip(plain, taken, strict=True)]
    return Timing(*_quartiles(taken), *_quartiles(ratios))


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return median(values), low, high
