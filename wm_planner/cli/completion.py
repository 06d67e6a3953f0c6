"""`wm-planner completion`: what a shell reads to complete this command's words."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wm_planner.cli.examples import commands
from wm_planner.models.catalog import shipped_checkpoints
from wm_planner.registry import names_of
from wm_planner.tasks import task_names

PLACES = {
    "bash": "~/.local/share/bash-completion/completions/wm-planner",
    "zsh": "a file _wm-planner in a directory of $fpath",
    "fish": "~/.config/fish/completions/wm-planner.fish",
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    places = "; ".join(f"{shell}: {place}" for shell, place in PLACES.items())
    parser = subparsers.add_parser(
        "completion",
        help="write what bash, zsh or fish reads to complete this command's words",
        description=f"Write it to where the shell looks. {places}.",
    )
    parser.add_argument("shell", choices=tuple(PLACES), help="which shell shall read it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the script to standard output."""
    import shtab

    from wm_planner.cli.main import build_parser

    parser = build_parser()
    offer_values(parser)
    sys.stdout.write(f"{shtab.complete(parser, args.shell)}\n")
    return 0


def offer_values(parser: argparse.ArgumentParser) -> None:
    """Let options offer what is installed, and files where they take a path.

    What is offered is not all that is taken: a checkpoint may be a directory, too. So this parser
    is for completion alone.
    """
    import shtab

    names = {
        "task": task_names(),
        "planner": names_of("wm_planner.solvers"),
        "checkpoint": shipped_checkpoints(),
    }
    for _, command in commands(parser):
        for action in command._actions:
            takes_path = getattr(action.type, "__name__", "") in ("path", "written", "Path")
            if action.choices is None and action.dest in names:
                action.choices = names[action.dest]
            elif takes_path or isinstance(action.default, Path):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
