"""Options that several commands share, and what is checked of options before any work."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_planner.cli.parser import directory, path, seed, whole, word, written
from wm_planner.config import suggest
from wm_planner.errors import ConfigError
from wm_planner.registry import listed
from wm_planner.tasks import task_names

if TYPE_CHECKING:
    from wm_planner.cluster import Cluster

MAX_THREADS = 1024  # more than machines have cores; of a hundred thousand, torch crashes


@cache
def _shared() -> dict[str, dict[str, Any]]:
    """Arguments of `add_argument` by option."""
    return {
        "--task": {"required": True, "help": f"simulated task: {', '.join(task_names())}"},
        "--checkpoint": {
            "default": "base",
            "help": "variant (default base), shipped name, or directory",
        },
        "--planner": {
            "default": "gbp",
            "help": f"{listed('wm_planner.solvers')}; default: %(default)s",
        },
        "--mode": {
            "choices": ("open-loop", "mpc"),
            "default": "mpc",
            "help": "mpc (default) replans; open-loop executes one plan to its end",
        },
        "--horizon": {"type": whole, "help": "model steps planned ahead"},
        "--set": {
            "action": "append",
            "default": [],
            "metavar": "KEY=VALUE",
            "dest": "settings",
            "help": "planner setting, for example horizon=6; may be repeated",
        },
        "--shift": {
            "action": "append",
            "default": [],
            "metavar": "KEY=VALUE",
            "dest": "shifts",
            "help": "how the simulated world differs from the trained one, for example gain=2.0; "
            "may be repeated",
        },
        "--versions": {
            "type": directory,
            "metavar": "DIR",
            "help": "take new versions of the checkpoint from this directory while it runs: that "
            "of 'learn', OUTPUT/versions",
        },
        "--episodes": {"type": whole, "help": "default %(default)s"},
        "--seed": {"type": seed, "default": 0, "help": "of the random numbers (default 0)"},
        "--threads": {
            "type": whole,
            "default": 1,
            "help": "CPU threads of each process (default %(default)s)",
        },
        "--processes": {"type": whole, "default": 1, "help": "default %(default)s"},
        "--ray": {
            "type": word,
            "metavar": "ADDRESS",
            "help": "run on the Ray cluster there: auto (this machine's) or HOST:PORT; results are "
            "the same (docs/scale.md)",
        },
        "--device": {"default": "cpu", "help": "torch device: cpu (default) or cuda"},
        "--json": {"type": written, "help": "file for the result as one JSON object"},
        "--film": {"type": written, "metavar": "FILE.mp4|webp|gif", "help": "write a film"},
        "--output": {"type": written, "required": True, "help": "directory to write"},
        "--yes": {"action": "store_true", "help": "do not ask before the robot moves"},
    }


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add shared options by their names."""
    for name in names:
        add_option(parser, name)


def add_option(parser: argparse.ArgumentParser, name: str, **changes: Any) -> None:
    """Add one shared option, with other arguments of `add_argument` than usual."""
    parser.add_argument(name, **{**_shared()[name], **changes})


def add_table_options(parser: argparse.ArgumentParser, name: str, holds: str, quick: str) -> None:
    """Of a command that makes a table from one file of what to run.

    Args:
        parser: of the command.
        name: of the table's files.
        holds: what else OUTPUT receives.
        quick: what --quick does.
    """
    parser.add_argument(
        "--config", type=path, required=True, help=f"YAML, see config/tables/{name}.yaml"
    )
    what = f"directory for {name}.json, {name}.md and {holds}; one that was begun is finished"
    add_option(parser, "--output", help=what)
    parser.add_argument("--quick", action="store_true", help=f"{quick}: does it run?")


def cluster_of(args: argparse.Namespace) -> AbstractContextManager[Cluster | None]:
    """The cluster that --ray names; without it, none, and Ray is not needed.

    Raises:
        WmPlannerError: see `Cluster`.
    """
    if args.ray is None:
        return nullcontext()
    from wm_planner.cluster import Cluster

    return Cluster(args.ray)


def check_tasks(args: argparse.Namespace, known: Collection[str]) -> None:
    """Each --task must be one of those that --config holds.

    Raises:
        ConfigError: one is not.
    """
    for task in args.task or ():
        if task not in known:
            raise ConfigError(f"--task {task}: not in {args.config}.{suggest(task, known)}")


def check_numbers(args: argparse.Namespace, **least: int) -> None:
    """Raises:
    ConfigError: --threads, or an option that must be at least so much, is out of range.
    """
    check_least(args, **least)
    check_threads(args.threads)


def check_least(args: object, **least: int) -> None:
    """Raises:
    ConfigError: an option that was given must be at least so much, and is not.
    """
    for name, limit in least.items():
        value = getattr(args, name, None)
        if value is not None and value < limit:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least {limit}, got {value}")


def check_threads(count: int) -> None:
    """Raises:
    ConfigError: --threads is no number of threads that torch can have.
    """
    if not 1 <= count <= MAX_THREADS:
        end = "at least 1" if count < 1 else f"at most {MAX_THREADS}"
        raise ConfigError(f"--threads must be {end}, got {count}")


def check_writable(option: str, file: Path | None) -> None:
    """Before the work, because its results would be lost.

    Raises:
        ConfigError: the file could not be written.
    """
    if file is None:
        return
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
