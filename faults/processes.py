"""Processes of the graph: started, killed, paused and started again, each with its log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

# The kernel ends the child when the campaign ends, however that went.
_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
try:  # a session is scheduled as one: its priority is that of the campaign's
    open("/proc/self/autogroup", "w").write(str(os.getpriority(os.PRIO_PROCESS, 0)))
except OSError:
    pass
if sys.argv[1] == "heavy":
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass
class Processes:
    """See the module.

    Attributes:
        logs: directory of the logs.
        environment: of every process.
        commands: program and arguments by name.
        heavy: those that do not share the campaign's real-time priority, where it has one: they
            would keep the others waiting.
        inside: what a command is run by, such as ``ip netns exec NAME``, by name.
    """

    logs: Path
    environment: Mapping[str, str]
    commands: dict[str, list[str]] = field(default_factory=dict)
    inside: dict[str, list[str]] = field(default_factory=dict)
    heavy: set[str] = field(default_factory=set)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    expected_dead: set[str] = field(default_factory=set)
    started: int = 0
    started_s: dict[str, float] = field(default_factory=dict)  # by the steady clock
    deaths: list[tuple[str, str]] = field(default_factory=list)  # name, and how it ended

    def start(self, name: str, command: Sequence[str] | None = None) -> None:
        """Start a process that does not run; `command` in place of its usual one."""
        self.look()
        self.expected_dead.discard(name)
        self.started += 1
        self.started_s[name] = time.monotonic()
        words = [*self.inside.get(name, []), *(command or self.commands[name])]
        weight = "heavy" if name in self.heavy else "light"
        with self.log_of(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCH, weight, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                start_new_session=True,
            )

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process."""
        with suppress(ProcessLookupError):
            os.killpg(self.running[name].pid, number)

    def kill(self, name: str) -> None:
        """End a process at once, as the kernel does when memory is short."""
        self.expected_dead.add(name)
        self.send(name, signal.SIGKILL)
        self.running[name].wait(20)

    def alive(self, name: str) -> bool:
        """Whether a process runs."""
        return name in self.running and self.running[name].poll() is None

    def look(self) -> None:
        """Note every process that has ended by itself."""
        for name, process in self.running.items():
            code = process.poll()
            if code is not None and name not in self.expected_dead:
                self.expected_dead.add(name)
                self.deaths.append((name, f"code {code}: {self.last_words(name)}"))

    def take_deaths(self) -> list[tuple[str, str]]:
        """Name and last words of every process that has ended by itself since the last call."""
        self.look()
        deaths, self.deaths = self.deaths, []
        return deaths

    def log_of(self, name: str) -> Path:
        """File that holds what a process wrote."""
        return self.logs / f"{name}.log"

    def last_words(self, name: str, count: int = 3) -> str:
        """The end of a process's log, as one line."""
        lines = self.log_of(name).read_text(errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-count:] if line.strip())

    def close(self) -> None:
        """End all, in good order where they can."""
        for number, patience_s in ((signal.SIGINT, 5.0), (signal.SIGKILL, 10.0)):
            for name in self.running:
                if self.alive(name):
                    self.send(name, signal.SIGCONT)
                    self.send(name, number)
            for process in self.running.values():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(patience_s)
