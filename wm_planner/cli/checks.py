"""What commands check of their options before any work."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from wm_planner.errors import ConfigError

MAX_THREADS = 1024  # more than machines have cores; of a hundred thousand, torch crashes


def check_numbers(args: argparse.Namespace, **least: int) -> None:
    """Raises:
    ConfigError: --seed, --threads, or an option that must be at least so much, is out of range.
    """
    from wm_planner.planning.config import MAX_SEED

    if not 0 <= args.seed <= MAX_SEED:
        raise ConfigError(f"--seed must be from 0 to {MAX_SEED}, got {args.seed}")
    for name, limit in least.items():
        value = getattr(args, name, None)
        if value is not None and value < limit:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least {limit}, got {value}")
    check_threads(args.threads)


def check_threads(count: int) -> None:
    """Raises:
    ConfigError: --threads is no number of threads that torch can have.
    """
    if not 1 <= count <= MAX_THREADS:
        end = "at least 1" if count < 1 else f"at most {MAX_THREADS}"
        raise ConfigError(f"--threads must be {end}, got {count}")


def check_writable(option: str, file: Path) -> None:
    """Before the work, because its results would be lost.

    Raises:
        ConfigError: the file could not be written.
    """
    parent = file.resolve().parent
    if not parent.is_dir():
        raise ConfigError(f"{option} {file}: no directory {parent}")
    try:
        if file.exists():
            with file.open("ab"):
                return
        with tempfile.TemporaryFile(dir=parent):
            return
    except OSError as error:
        raise ConfigError(f"{option} {file}: cannot be written: {error.strerror}") from error
