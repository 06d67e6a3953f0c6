"""DDS domains that no other test process of this machine is in."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path
from typing import IO

_held: list[IO[str]] = []  # a lock ends with its file, so with this process


def claim_domain() -> int:
    """A free domain, this process's own until it ends.

    Raises:
        RuntimeError: there is none.
    """
    for number in range(20, 100):
        name = f"wm_planner-test-domain-{number}.lock"
        try:
            stream = (Path(tempfile.gettempdir()) / name).open("a")
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # locked, or another user's
            continue
        _held.append(stream)
        return number
    raise RuntimeError("80 test processes hold all domains; end some of them")
