"""What commands check of their options before any work."""

from __future__ import annotations

import os
from pathlib import Path

from wm_planner.errors import ConfigError

MAX_THREADS = 1024  # more than machines have cores; of a hundred thousand, torch crashes


def check_threads(count: int) -> None:
    """Raises:
    ConfigError: --threads is no number of threads that torch can have.
    """
    if not 1 <= count <= MAX_THREADS:
        end = "at least 1" if count < 1 else f"at most {MAX_THREADS}"
        raise ConfigError(f"--threads must be {end}, got {count}")


def check_json(file: Path | None) -> None:
    """Raises:
    ConfigError: --json names what no file can be written to.
    """
    if file is None:
        return
    directory = file.resolve().parent
    if not directory.is_dir():
        raise ConfigError(f"--json {file}: no directory {directory}")
    if file.is_dir():
        raise ConfigError(f"--json {file}: is a directory; name a file in it")
    if not os.access(file if file.exists() else directory, os.W_OK):
        raise ConfigError(f"--json {file}: may not be written; name another file")
