"""Samples of several topics on one clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from wm_planner.errors import DatasetError

# Stamps further than this from their receipt are of another clock, not late.
CLOCK_NS = 1_000_000_000


class Samples:
    """Samples of one topic as they come; those without a stamp have that of their receipt."""

    def __init__(self) -> None:
        self.headers_ns: list[int] = []  # 0: none
        self.receipts_ns: list[int] = []
        self.values: list[Any] = []

    def add(self, header_ns: int | None, receipt_ns: int, value: Any = None) -> None:
        self.headers_ns.append(header_ns or 0)
        self.receipts_ns.append(receipt_ns)
        self.values.append(value)

    def __len__(self) -> int:
        return len(self.receipts_ns)


def on_one_clock(used: dict[str, Samples], notes: list[str]) -> Iterator[np.ndarray]:
    """(K,) stamps of each stream on one clock, and its samples in their order.

    Header stamps are trusted while all streams have them and agree. Else everything is told in
    the time of receipt, and a clock that is off is moved by what it is off at least.
    """
    stamps = {name: np.array(s.headers_ns, np.int64) for name, s in used.items()}
    receipts = {name: np.array(s.receipts_ns, np.int64) for name, s in used.items()}
    late = {}
    for name, own in stamps.items():
        there = own != 0
        if there.any():
            late[name] = receipts[name][there] - own[there]
    medians = [float(np.median(values)) for values in late.values()]
    spread = max(medians) - min(medians) if medians else 0.0
    agree = all((own != 0).all() for own in stamps.values()) and spread <= CLOCK_NS
    for name, heard in receipts.items():
        own = stamps[name]
        order = np.argsort(heard, kind="stable")
        if not agree and name in late:
            own = np.where(own != 0, own + _moved(name, late[name], notes), heard)
        elif name not in late:
            own = heard
        back = np.diff(own[order])
        if len(back) and back.min() < -CLOCK_NS:
            at = (heard[order][1:][back.argmin()] - heard.min()) * 1e-9
            raise DatasetError(
                f"{name}: stamps jump back by {-back.min() * 1e-9:.1f} s, {at:.1f} s after the "
                "beginning; keep one episode in a bag"
            )
        if name not in late and name != "commands":  # most of which have none by their type
            notes.append(f"{name}: without stamps; the time of receipt is taken")
        yield own


def _moved(name: str, late_ns: np.ndarray, notes: list[str]) -> int:
    """By how much a stream's stamps are moved to the clock of the recorder."""
    if abs(float(np.median(late_ns))) <= CLOCK_NS:
        return 0
    drift_ns = float(np.ptp(np.percentile(late_ns, [5, 95])))
    if drift_ns > CLOCK_NS / 2:
        raise DatasetError(
            f"{name}: its clock runs at another speed than the recorder's "
            f"({drift_ns * 1e-9:.1f} s apart in the end); give every message a stamp of one "
            "clock"
        )
    moved = int(late_ns.min())
    notes.append(f"{name}: stamps are of another clock; moved by {moved * 1e-9:.2f} s")
    return moved
