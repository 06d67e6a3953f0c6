"""Waiting for a condition that no message announces: a file, the end of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Return once the condition holds; fail with `what` at the deadline."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s} s"
        threading.Event().wait(0.02)
