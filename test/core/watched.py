"""Commands run in this process, each under a watch: what hangs fails, and what is said is kept."""

from __future__ import annotations

import io
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from wm_planner.cli import main as cli
from wm_planner.errors import WmPlannerError

LIMIT_S = 60.0  # a deadline for a loaded machine; what is refused is refused within a second
LONGEST = 1500  # characters of a message, paths of the test included


class Hung(BaseException):
    """The deadline was up."""


@dataclass(frozen=True)
class Said:
    """What came of a bad input.

    Attributes:
        code: exit code; 2 for an error of one line.
        message: of that error.
        trace: of anything else that was raised.
    """

    code: Any
    message: str
    trace: str = ""

    def complaint(self, *words: str) -> str:
        """What is wrong with this as an answer to a bad input; empty: nothing.

        Args:
            words: one of them must be in the message.
        """
        if self.trace:
            return f"a traceback: {self.trace}"
        if self.code != 2:
            return f"exit code {self.code}: {self.message[-300:]}"
        if len(self.message) > LONGEST:
            return f"a message of {len(self.message)} characters: {self.message[:200]}"
        lines = self.message.strip().splitlines()
        if len(lines) != 1 or "Traceback" in self.message:
            return f"{len(lines)} lines: {self.message[:300]}"
        if words and not any(word in self.message for word in words):
            return f"no word of {' or '.join(words)}: {self.message}"
        return ""


def run_command(arguments: Sequence[str]) -> Said:
    """Run `wm-planner` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        said = _watched(lambda: cli.main(list(arguments)))
    errors = [line for line in err.getvalue().splitlines() if ": error: " in line]
    others = "" if errors else err.getvalue()
    return Said(said.code, "\n".join(errors) + others, said.trace)


def run_reader(read: Callable[[], Any]) -> Said:
    """Call a function that reads something; an error of the package counts as exit code 2."""
    return _watched(read)


def _watched(call: Callable[[], Any]) -> Said:
    try:
        with _deadline():
            return Said(call(), "")
    except WmPlannerError as error:
        return Said(2, str(error))
    except SystemExit as end:
        return Said(end.code, "")
    except Hung:
        return Said(None, "", f"hangs\n{traceback.format_exc(limit=-4)}")
    except Exception:
        return Said(None, "", traceback.format_exc(limit=-6))


@contextmanager
def _deadline() -> Iterator[None]:
    def on_alarm(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
