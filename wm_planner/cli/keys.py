"""Single keys from a terminal, without waiting for them."""

from __future__ import annotations

import select
import sys
from types import TracebackType
from typing import Any


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        import os

        data = os.read(sys.stdin.fileno(), 1)  # sys.stdin would buffer what comes after it
        return data.decode(errors="replace") if data else "q"
