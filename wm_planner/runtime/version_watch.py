"""Looks for new versions of a checkpoint, and loads them aside for a planner that goes on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from wm_planner.models.catalog import CARD, WEIGHTS
from wm_planner.models.versions import newer
from wm_planner.runtime.live_planner import LivePlanner


class VersionWatch:
    """Looks for the next version of a checkpoint, on a thread of its own, and loads it aside.

    Args:
        live: whose planner is to be exchanged.
        period_s: how often to look; 0: only when `look` is called.
    """

    def __init__(self, live: LivePlanner, period_s: float = 1.0) -> None:
        self._live, self._period_s = live, period_s
        self._directory: Path | None = None
        self._tried: set[tuple[Any, ...]] = set()
        self._looking = threading.Lock()
        self._wake, self._ended = threading.Event(), False
        self._thread: threading.Thread | None = None

    def watch(self, directory: Path | None) -> None:
        """Take versions from this directory, or none any more."""
        self._directory = directory
        if directory is not None and self._thread is None and self._period_s > 0:
            self._thread = threading.Thread(target=self._run, name="versions", daemon=True)
            self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """End the thread."""
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def look(self) -> None:
        """Load the newest version that is newer than the one in use, and offer it."""
        with self._looking:
            directory, live = self._directory, self._live
            if directory is None or live.on_trial:
                return
            for version in newer(directory, live.current.checkpoint):
                key = _print(version)
                if key not in self._tried:
                    self._tried.add(key)
                    if self._load(version):
                        return

    def _load(self, version: Path) -> bool:
        live = self._live
        try:
            bundle = live.current.load_another(version)
            with live.planning:
                planner = live.current.another(version, bundle)
        except Exception as error:  # whatever damaged files lead the readers to
            said = str(error) or type(error).__name__
            said = said if said.startswith(str(version)) else f"{version}: {said}"
            live.tell(True, f"not taken: {' '.join(said.split())}")
            return False
        live.offer(planner)
        return True

    def _run(self) -> None:
        while not self._ended:
            self.look()
            self._wake.wait(self._period_s)
            self._wake.clear()


def _print(version: Path) -> tuple[Any, ...]:
    """What changes when a version is copied again."""
    told = []
    for name in (CARD, WEIGHTS):
        try:
            found = (version / name).stat()
            told.append((found.st_ino, found.st_mtime_ns, found.st_size))
        except OSError:
            told.append((0, 0, 0))
    return version, *told
