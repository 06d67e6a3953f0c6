"""Bad command lines, made of the parsers themselves: a new option is tried without an edit here."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wm_planner.cli import parser as strict
from wm_planner.cli.main import build_parser

Words = list[str]
WHOLE = ("x", "1.5", "nan", "", "1e3", "9" * 40, "9" * 5000, "-5", "0x10")
NUMBER = ("x", "nan", "inf", "-inf", "", "1e999", "-1", "1,5")
TEXT = ("", "no such thing", "x" * 5000)
LONG = "x" * 300
# Written, or looked into again and again, where they are not there.
MAY_BE_NEW = {("targets", "none"), ("versions", "none"), ("bags", "none")}


def leaves(
    parser: argparse.ArgumentParser, words: Words
) -> Iterator[tuple[Words, argparse.ArgumentParser]]:
    """(words that lead there, parser) of every command that does something."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for group in groups:
        for name, inner in group.choices.items():
            yield from leaves(inner, [*words, name])
    if not groups:
        yield words, parser


def needed(parser: argparse.ArgumentParser, values: dict[str, Any], without: str = "") -> Words:
    """Good values of what the command must be told."""
    words: Words = []
    for action in parser._actions:
        wanted = action.required or action.dest in values.get("also", ())
        if not wanted or action.dest == without or action.default == argparse.SUPPRESS:
            continue
        value = "" if action.nargs == 0 else values[action.dest]
        name = action.option_strings[-1] if action.option_strings else ""
        words += [f"{name}={value}" if name and value else name or value]
    return words


def bad_values(action: argparse.Action, room: Path) -> Iterator[str]:
    """What an option cannot be."""
    if action.choices:
        yield from ("", "no such thing")
    elif action.type in (strict.whole, strict.seed):
        yield from WHOLE
    elif action.type is strict.number:
        yield from NUMBER
    elif action.type is strict.written:
        yield from ("", str(room / "file" / "inside"), str(room / LONG / "inside"))
    elif action.type in (strict.path, strict.directory):
        yield from ("", "/dev/zero")
        names = ("none", "pipe", LONG, "empty", "noise", "loop")
        yield from (str(room / name) for name in names if (action.dest, name) not in MAY_BE_NEW)
    elif action.nargs != 0:
        yield from TEXT


def leaf_commands() -> list[str]:
    """Every command that does something, for example 'robot check'."""
    return [" ".join(words) for words, _ in leaves(build_parser(), [])]


def bad_command_lines(
    command: str, good: dict[str, Any], room: Path
) -> Iterator[tuple[Words, tuple[str, ...]]]:
    """(arguments, words of which the message must have one) for every option of a command.

    Args:
        command: one of `leaf_commands`.
        good: values of what it must be told, by name; 'also' are others that are always given.
        room: has files of the names in `bad_values`.
    """
    words = command.split()
    parser = next(inner for where, inner in leaves(build_parser(), []) if where == words)
    for action in parser._actions:
        if action.default == argparse.SUPPRESS:
            continue
        base = [*words, *needed(parser, good, action.dest)]
        name = action.option_strings[-1] if action.option_strings else ""
        names = (name.lstrip("-") or str(action.metavar), action.dest)
        many = action.nargs if isinstance(action.nargs, int) else 1
        for value in bad_values(action, room):
            one = [f"{name}={value}"] if name and many == 1 else [*filter(None, [name])]
            one += [value] * many if not name or many > 1 else []
            yield [*base, *one], (*names, value[:50] or "''")
        if name:
            yield from ((arguments, (name,)) for arguments in misused(action, name, base, good))
    if not any(not a.option_strings for a in parser._actions):
        yield [*words, *needed(parser, good), "one too many"], ("one too many",)
    if any(a.required for a in parser._actions):
        yield words, ()


def misused(
    action: argparse.Action, name: str, base: Words, good: dict[str, Any]
) -> Iterator[Words]:
    """An option with a value that it does not take, without one, misspelt, and given twice."""
    if action.nargs == 0:
        yield [*base, f"{name}=1"]
        yield [*base, name, name]
        return
    yield [*base, name]
    yield [*base, f"{name}s=1"]
    if not isinstance(action, argparse._AppendAction):
        value = good.get(action.dest, 1)
        yield [*base, f"{name}={value}", f"{name}={value}"]
