"""The command line, strictly: one line for what is wrong, whole names, and nothing said twice."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from wm_planner.config import MAX_SEED, shown, suggest

_PATH_MAX, _NAME_MAX = 4096, 255  # of Linux
_WHOLE = re.compile("-?[0-9]{1,20}")
_LONGEST = 400  # characters of a message
MAX_WHOLE = 10**8  # more episodes, updates or processes than anybody waits for


class Help(argparse.HelpFormatter):
    """Leaves an example on its line, however long: it is there to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example: ") else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """Takes no abbreviation: a later option of the same beginning would change its meaning."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", Help)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        line = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
        self.exit(2, f"{self.prog}: error: {line}; see '{self.prog} --help'\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._check_once(args or ())
        values, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(self._unknown(rest[0]))
        return values, rest

    def _check_once(self, args: Sequence[str]) -> None:
        """The last one of two would win, without a word."""
        seen: set[str] = set()
        for arg in args:
            if arg == "--":
                return
            action = self._option_string_actions.get(arg.partition("=")[0])
            if action is None or isinstance(action, argparse._AppendAction):
                continue
            if action.dest in seen:
                self.error(f"{'/'.join(action.option_strings)} is given more than once")
            seen.add(action.dest)

    def _unknown(self, arg: str) -> str:
        if not arg.startswith("-"):
            return f"unexpected argument {shown(arg)}"
        name = arg.partition("=")[0]
        options = [option for option in self._option_string_actions if option.startswith("--")]
        return f"unknown option {shown(name)}.{suggest(name, options)}".rstrip(".")


def word(text: str) -> str:
    """What names something, and so is not empty.

    Raises:
        argparse.ArgumentTypeError: it is.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a name, got ''")
    return text


def ros_namespace(text: str) -> str:
    """A namespace of ROS: words of letters, digits and '_', joined by '/'.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if len(text) > 200 or not re.fullmatch(
        r"(/?[A-Za-z_][A-Za-z0-9_]*)(/[A-Za-z_][A-Za-z0-9_]*)*", text
    ):
        raise argparse.ArgumentTypeError(
            f"expected words of letters, digits and '_' joined by '/', got {shown(text)}"
        )
    return text


def whole(text: str) -> int:
    """A number of things on the command line: a whole one, from 0 on.

    Raises:
        argparse.ArgumentTypeError: it is none, or larger than anybody can mean.
    """
    return _whole(text, MAX_WHOLE)


def seed(text: str) -> int:
    """A seed of random numbers.

    Raises:
        argparse.ArgumentTypeError: it is none that torch and ROS can both have.
    """
    return _whole(text, MAX_SEED)


def _whole(text: str, most: int) -> int:
    value = int(text) if _WHOLE.fullmatch(text) else -1
    if not 0 <= value <= most:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to {most}, got {shown(text)}"
        )
    return value


def number(text: str) -> float:
    """A finite number of the command line.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {shown(text)}")
    return value


def path(text: str) -> Path:
    """A path of the command line.

    Raises:
        argparse.ArgumentTypeError: it is empty, which would be the working directory, or longer
            than a path can be.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    if len(text) >= _PATH_MAX or any(len(part.encode()) > _NAME_MAX for part in Path(text).parts):
        raise argparse.ArgumentTypeError(f"no path can be so long: {shown(text)}")
    try:
        return Path(text).resolve() and Path(text)
    except (OSError, RuntimeError) as error:  # links in a circle
        raise argparse.ArgumentTypeError(f"{shown(text)} leads nowhere: {error}") from None


def directory(text: str) -> Path:
    """A directory, which may not be there yet.

    Raises:
        argparse.ArgumentTypeError: see `path`; or something else is there.
    """
    result = path(text)
    if result.exists() and not result.is_dir():
        raise argparse.ArgumentTypeError(f"{shown(text)} is no directory")
    return result


def written(text: str) -> Path:
    """A path that the command writes: looked at before the work, whose result would be lost.

    Raises:
        argparse.ArgumentTypeError: see `path`; or it cannot be made there.
    """
    result = path(text)
    parent = result.absolute()
    while not os.path.lexists(parent):
        parent = parent.parent
    if parent != result.absolute() and not parent.is_dir():
        raise argparse.ArgumentTypeError(f"{parent} is no directory")
    if not os.access(parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{parent} cannot be written")
    return result
