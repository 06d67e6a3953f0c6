"""Keeps the recorded episodes within a number of bytes: what tells least goes first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wm_planner.data.layouts import DROPPED
from wm_planner.errors import ConfigError, WriteError
from wm_planner.files import read_json, write_json

NOTE = "episode.json"  # beside the bag's files: how the episode came out, and towards which goal
WARN_AT = 0.8
GB = 10**9


@dataclass(frozen=True)
class _Bag:
    path: Path
    size: int
    age_ns: int
    rank: tuple[int, int]  # what goes first
    kept: bool


def note_episode(bag: Path, outcome: str, goal: str) -> None:
    """Write beside a bag how its episode came out.

    Args:
        bag: its directory.
        outcome: 'success', 'failure' or ''.
        goal: equal for equal goals; '': none.
    """
    with suppress(WriteError):  # the bag matters more
        write_json(bag / NOTE, {"outcome": outcome, "goal": goal})


class DiskBudget:
    """Of one directory of bags.

    Args:
        root: the directory; bags in its ``dropped`` count, too.
        most_bytes: what may lie there; 0: there is no limit.
    """

    def __init__(self, root: Path, most_bytes: int) -> None:
        self.root, self.most_bytes = root, most_bytes
        self.used_bytes = 0

    def make_room(self, writing: Path | None = None) -> list[Path]:
        """Remove bags until the budget is kept, and return them.

        First those that a person has dropped, then episodes without success, then successes; each
        the oldest first. The newest success towards each goal stays.

        Args:
            writing: a bag that is being written, or was just closed; it stays.
        """
        if not self.most_bytes:
            return []
        bags = self._bags(writing)
        self.used_bytes = sum(bag.size for bag in bags)
        removed = []
        for bag in sorted((bag for bag in bags if not bag.kept), key=lambda bag: bag.rank):
            if self.used_bytes <= self.most_bytes:
                break
            shutil.rmtree(bag.path, ignore_errors=True)
            self.used_bytes -= bag.size
            removed.append(bag.path)
        return removed

    def warning(self) -> str:
        """What to tell of the last `make_room`; '': there is room."""
        if not self.most_bytes or self.used_bytes < WARN_AT * self.most_bytes:
            return ""
        share = self.used_bytes / self.most_bytes
        what = "the oldest episodes are removed" if share <= 1 else "no more can be removed"
        return f"{self.root} holds {share:.0%} of its {self.most_bytes / GB:g} GB: {what}"

    def _bags(self, writing: Path | None) -> list[_Bag]:
        found = []
        seen: set[str] = set()
        places = sorted(self._places(), key=lambda place: -place[1])  # the newest first
        for path, age_ns, size in places:
            dropped = path.parent.name == DROPPED
            outcome, goal = ("", "") if dropped else _note(path)
            success = outcome == "success"
            kept = path == writing or (success and goal not in seen)
            seen |= {goal} if success else set()
            rank = 0 if dropped else 2 if success else 1
            found.append(_Bag(path, size, age_ns, (rank, age_ns), kept))
        return found

    def _places(self) -> Iterator[tuple[Path, int, int]]:
        """Path, time of the last change, and bytes of each bag."""
        for folder in (self.root, self.root / DROPPED):
            for bag in folder.iterdir() if folder.is_dir() else ():
                if not bag.is_dir() or bag == self.root / DROPPED:
                    continue
                with suppress(OSError):  # it was moved meanwhile
                    files = [file.stat() for file in bag.iterdir()]
                    if files:
                        size = sum(file.st_size for file in files)
                        yield bag, max(file.st_mtime_ns for file in files), size


def _note(bag: Path) -> tuple[str, str]:
    try:
        values = read_json(bag / NOTE)
        return str(values["outcome"]), str(values["goal"])
    except (ConfigError, KeyError, TypeError):
        return "", ""
