"""Files that are whole or not there, and JSON whose errors name the file and the place in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wm_planner.errors import ConfigError, WmPlannerError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` for a file, link or directory, which then takes its place.

    A reader finds what was there before or the whole of the new one. After an error, what was
    written is removed. A directory does not take the place of one that holds something.
    """
    part = path.with_name(f".{path.name}.part{os.getpid()}")
    _remove(part)
    try:
        yield part
        part.replace(path)
    finally:
        _remove(part)


def write_json(file: Path, content: Any, end: str = "\n") -> None:
    """Write an object, indented, in place.

    Raises:
        OSError: it cannot be written; a full disk, too, says of which file.
    """
    try:
        file.write_text(json.dumps(content, indent=2) + end)
    except OSError as error:
        error.filename = error.filename or str(file)
        raise


def read_json(file: Path, error: type[WmPlannerError] = ConfigError, way_out: str = "") -> Any:
    """The content of a JSON file.

    Args:
        file: to read.
        error: is raised when that is impossible.
        way_out: what to do then, for the end of the message.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"{file}: cannot be read: {reason}{way_out and '; '}{way_out}") from cause
    return parse_json(text, str(file), error, way_out)


def parse_json(
    text: str, source: str, error: type[WmPlannerError] = ConfigError, way_out: str = ""
) -> Any:
    """The content of JSON text; `source` names it in errors, the other arguments as `read_json`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise error(f"{source}: not valid JSON: {cause}{way_out and '; '}{way_out}") from cause


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # there is none, or its place cannot be written at all
            path.unlink()
