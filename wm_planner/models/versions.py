"""Versions of a checkpoint in one directory, without torch: the newest by name is the one to use.

A version is published whole, by renaming it into place (`save_bundle`), and is never changed. One
that turned out worse than the one before it is marked by a file beside it; whoever looks for a
version, or publishes the next, passes over it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from wm_planner.errors import WriteError
from wm_planner.files import write_json

CARD = "bundle.json"
REJECTED = ".rejected.json"  # ending of a mark
_NUMBER = re.compile(r"(\d+)")


def versions(directory: Path) -> list[Path]:
    """The versions in a directory, rejected ones left out, the newest first."""
    with suppress(OSError):  # it is not there yet, or not any more
        names = {path.name: path for path in directory.iterdir() if not path.name.startswith(".")}
        there = [
            path
            for name, path in names.items()
            if f"{name}{REJECTED}" not in names and (path / CARD).is_file()
        ]
        return sorted(there, key=_order, reverse=True)
    return []


def newer(directory: Path, current: Path) -> list[Path]:
    """The versions behind the current one, the newest first; all, where it lies elsewhere."""
    there = versions(directory)
    if current.resolve().parent != directory.resolve():
        return there
    return [version for version in there if _order(version) > _order(current)]


def next_version(directory: Path) -> Path:
    """Where the next version goes: behind all that were ever there, rejected ones too."""
    numbers = [0]
    if directory.is_dir():
        numbers += [int(n) for p in directory.iterdir() for n in _NUMBER.findall(p.name)[:1]]
    return directory / f"v{max(numbers) + 1:04d}"


def reject(version: Path, reason: str) -> bool:
    """Mark a version as one that nobody shall use; False where that cannot be written."""
    try:
        write_json(version.with_name(f"{version.name}{REJECTED}"), {"reason": reason})
    except WriteError:
        return False
    return True


def _order(path: Path) -> list[tuple[int, str]]:
    """Sorts v10 behind v9."""
    parts = _NUMBER.split(path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
