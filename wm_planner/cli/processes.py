"""Child processes that end together: each in its own group, logged to a file, never left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from wm_planner.end_with_parent import with_parent
from wm_planner.errors import WmPlannerError

INTERRUPT_S, TERMINATE_S, END_S = 1.0, 2.0, 3.0  # after SIGINT: SIGTERM, SIGKILL, given up
RESPAWN_S = 1.0  # between two starts of a process that is started again
LOG_LINES = 15
BAD_INPUT = 2  # exit code of a process that has said in one line what it cannot use
# Outlives this process by two seconds, where that is killed: it reads the children's process
# groups, and when the pipe breaks it ends what has not ended by itself. 'done': none is left.
_GUARD = """
import os, signal, sys, time
groups = []
for line in sys.stdin:
    if line.strip() == "done":
        sys.exit()
    groups.append(int(line))
for number in (signal.SIGTERM, signal.SIGKILL):
    for group in groups:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            pass
    if number == signal.SIGTERM:
        time.sleep(2.0)
"""


class ChildFailedError(WmPlannerError):
    """A process that the run needs has ended."""


@dataclass(frozen=True)
class Child:
    """One process to start.

    Attributes:
        name: of the log file and in messages.
        command: program and arguments.
        required: the run has failed when it ends by itself.
        ends_run: the run is over, well, when it ends with exit code 0.
        respawn: it is started again when it ends by itself.
    """

    name: str
    command: Sequence[str]
    required: bool = True
    ends_run: bool = False
    respawn: bool = False


class Supervisor:
    """Starts children and ends all of them on leaving the ``with`` block, whatever the reason.

    Args:
        children: what to start, in this order.
        logs: directory for ``<name>.log`` (stdout and stderr).
        environment: of the children.

    Raises:
        ChildFailedError: a program cannot be started.
    """

    def __init__(
        self, children: Sequence[Child], logs: Path, environment: Mapping[str, str]
    ) -> None:
        self._children = list(children)
        self._logs = logs
        self._environment = dict(environment)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stop = threading.Event()
        self._respawned_s: dict[str, float] = {}
        self._handlers: dict[int, Any] = {}
        self._guard: subprocess.Popen[str] | None = None

    def __enter__(self) -> Supervisor:
        self._logs.mkdir(parents=True, exist_ok=True)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._handlers[number] = signal.signal(number, self._on_signal)
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARD],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            for child in self._children:
                self._start(child)
                self._tell_guard(str(self._running[child.name].pid))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.shutdown()
            self._tell_guard("done")
        finally:
            if self._guard is not None and self._guard.stdin is not None:
                with suppress(BrokenPipeError):
                    self._guard.stdin.close()
                self._guard.wait(10)
                self._guard = None
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()

    @property
    def interrupted(self) -> bool:
        """Whether SIGINT, SIGTERM or `interrupt` has asked for the end."""
        return self._stop.is_set()

    @property
    def pids(self) -> dict[str, int]:
        """Process id, and group id, of every child by name."""
        return {name: process.pid for name, process in self._running.items()}

    def interrupt(self) -> None:
        """Ask `wait` to return; may be called from any thread."""
        self._stop.set()

    def log_of(self, name: str) -> Path:
        """File that holds what a child wrote."""
        return self._logs / f"{name}.log"

    def wait(self, idle: Callable[[], None]) -> bool:
        """Watch the children until the run is over; `idle` is called over and over meanwhile and
        should take a few hundredths of a second.

        Returns:
            True when the run ended by itself, False when it was interrupted.

        Raises:
            ChildFailedError: a required child ended; the message holds its last log lines.
        """
        while not self._stop.is_set():
            if self.poll():
                return True
            idle()
        return False

    def poll(self) -> bool:
        """Look at the children once; True when the run is over, well.

        Raises:
            ChildFailedError: a required child ended; the message holds its last log lines.
        """
        over = False
        for child in self._children:
            code = self._running[child.name].poll()
            if code is None:
                continue
            if child.ends_run and code == 0:
                over = True
            elif child.respawn and not self._stop.is_set():
                self._respawn(child)
            elif child.required and not self._stop.is_set():
                raise ChildFailedError(self._obituary(child.name, code))
        return over

    def shutdown(self) -> None:
        """End every group: SIGINT, SIGTERM after 1 s, SIGKILL after 2 s."""
        begin_s = time.monotonic()
        self._signal_all(signal.SIGINT)
        steps = [(INTERRUPT_S, signal.SIGTERM), (TERMINATE_S, signal.SIGKILL)]
        while self._alive():
            passed_s = time.monotonic() - begin_s
            if steps and passed_s >= steps[0][0]:
                self._signal_all(steps.pop(0)[1])
            elif passed_s > END_S:
                break  # only a process stuck in the kernel survives SIGKILL
            time.sleep(0.02)

    def _respawn(self, child: Child) -> None:
        """Once a second at most: what ends at once must not take the machine with it."""
        now_s = time.monotonic()
        if now_s - self._respawned_s.get(child.name, -RESPAWN_S) >= RESPAWN_S:
            self._respawned_s[child.name] = now_s
            self._start(child, "ab")
            self._tell_guard(str(self._running[child.name].pid))

    def _start(self, child: Child, log_mode: str = "wb") -> None:
        command = list(child.command)
        refused = f"{child.name}: cannot start {command[0]}"
        if shutil.which(command[0], path=self._environment.get("PATH")) is None:
            raise ChildFailedError(f"{refused}: no such program")
        with self.log_of(child.name).open(log_mode) as log:
            try:
                self._running[child.name] = subprocess.Popen(
                    with_parent(command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise ChildFailedError(f"{refused}: {error.strerror}") from error

    def _tell_guard(self, line: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(BrokenPipeError):  # somebody has killed it: then nobody guards
                self._guard.stdin.write(line + "\n")
                self._guard.stdin.flush()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):  # the whole group has ended
                os.killpg(process.pid, number)

    def _alive(self) -> bool:
        return any([_group_alive(process) for process in self._running.values()])

    def _obituary(self, name: str, code: int) -> str:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        path = self.log_of(name)
        lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        if code == BAD_INPUT and lines:  # the last line says it all
            return lines[-1].replace(f"{name}: error: ", f"{name}: ")
        return "\n".join([f"{name} ended early: {how}; its log, {path}, ends with", *lines])


def _group_alive(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # reaps the leader, which as a zombie would keep its group
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS: only zombies are left
        return False
    return True
