"""Do the clocks of two machines agree? Stamps of a driver against the receipt of its messages."""

from __future__ import annotations

from collections import deque

TOLERANCE_S = 0.1
WINDOW_S = 3.0


class ClockWatch:
    """Estimates by how much a driver's clock is off.

    A message may be late, never early: the least delay of a few seconds is the difference of the
    clocks, and what the way takes at least.

    Args:
        topic: of the messages, for the text.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._delays: deque[tuple[int, int]] = deque()  # receipt, delay
        self._is_stamped = True

    @property
    def offset_s(self) -> float | None:
        """Seconds that stamps are behind receipts; negative: ahead. None: no stamps came."""
        if not self._delays:
            return None
        return min(delay for _, delay in self._delays) * 1e-9

    def add(self, stamp_ns: int, received_ns: int) -> None:
        """One message: its stamp, and its receipt by the clock that stamps are compared with."""
        self._is_stamped = stamp_ns != 0
        if not self._is_stamped:
            return
        self._delays.append((received_ns, received_ns - stamp_ns))
        while abs(received_ns - self._delays[0][0]) > WINDOW_S * 1e9:
            self._delays.popleft()

    @property
    def text(self) -> str:
        """What is wrong, in words; '' when nothing is."""
        if not self._is_stamped:
            return f"{self._topic} carries no stamps (zero): have its driver fill in header.stamp"
        offset_s = self.offset_s
        if offset_s is None or abs(offset_s) <= TOLERANCE_S:
            return ""
        way = "behind" if offset_s > 0 else "ahead of"
        return (
            f"stamps of {self._topic} are {abs(offset_s):.2f} s {way} this machine's clock "
            f"({TOLERANCE_S:g} s are tolerated): synchronise the clocks (chrony)"
            + (", or its driver is late" if offset_s > 0 else "")
        )
