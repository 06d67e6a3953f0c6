"""What a person types, without waiting for it."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import Any

from wm_planner.errors import ConfigError


class Keys:
    """Use as a ``with`` block; where stdin is no terminal there are never any keys.

    Ctrl-C stays what it is.
    """

    def __init__(self) -> None:
        self._before: Any = None

    def __enter__(self) -> Keys:
        if sys.stdin is not None and sys.stdin.isatty():
            import termios
            import tty

            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    @property
    def present(self) -> bool:
        """Whether there is a terminal."""
        return self._before is not None

    def pressed(self) -> str:
        """The next key, '' when none was pressed; 'q' when the terminal has gone."""
        if not self.present or not select.select([sys.stdin], [], [], 0)[0]:
            return ""
        data = os.read(sys.stdin.fileno(), 1)  # sys.stdin would buffer what comes after it
        return data.decode(errors="replace") if data else "q"


def agreed(question: str, meanwhile: Callable[[], object]) -> bool:
    """Ask a person whether the robot may move; any answer but 'yes' means no.

    Args:
        question: what to ask.
        meanwhile: called over and over until the answer is there.
    """
    print(question, end=" ", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        meanwhile()
    if sys.stdin.readline().strip().lower() == "yes":
        return True
    print("nothing was moved")
    return False


def check_person(yes: bool) -> None:
    """Before anything is started: somebody must be able to say that the robot may move.

    Raises:
        ConfigError: nobody is there, and --yes was not given.
    """
    if not yes and (sys.stdin is None or not sys.stdin.isatty()):
        raise ConfigError(
            "this moves the robot, and there is no terminal on which a person could agree: run it "
            "on a terminal, or give --yes"
        )
