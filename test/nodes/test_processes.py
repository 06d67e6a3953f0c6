"""Children end together, and in time, however the run ends. No ROS is involved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from wm_planner.cli.processes import Child, ChildFailedError, Supervisor

from .waiting import until

SLEEPER = "import signal; print('ready', flush=True); signal.pause()"
STUBBORN = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
signal.pause()
"""
POLITE = """
import signal, sys
def end(*_):
    print('cleaned up', flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, end)
print('ready', flush=True)
signal.pause()
"""
PARENT_OF_ONE = """
import signal, subprocess, sys
inner = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])
print('ready', inner.pid, flush=True)
signal.pause()
"""
SUPERVISES = """
import os, sys, threading
from pathlib import Path
from wm_planner.cli.processes import Child, Supervisor
children = [Child(str(i), [sys.executable, '-c', code]) for i, code in enumerate(sys.argv[2:])]
with Supervisor(children, Path(sys.argv[1]), os.environ) as supervisor:
    print(*supervisor.pids.values(), flush=True)
    ended = supervisor.wait(lambda: threading.Event().wait(0.02))
sys.exit(0 if ended else 130)
"""


def python(name: str, code: str, **kind: bool) -> Child:
    return Child(name, [sys.executable, "-c", code], **kind)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody reaps counts too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def ready(logs: Path, *names: str) -> Callable[[], bool]:
    def check() -> bool:
        files = [logs / f"{name}.log" for name in names]
        return all(file.exists() and "ready" in file.read_text() for file in files)

    return check


def idle() -> None:
    threading.Event().wait(0.02)


def test_the_run_ends_with_the_child_that_ends_it(tmp_path: Path) -> None:
    children = [python("sleeper", SLEEPER), python("bridge", "print('done')", ends_run=True)]
    with Supervisor(children, tmp_path, os.environ) as supervisor:
        pids = supervisor.pids
        assert supervisor.wait(idle)
    assert all(gone(pid) for pid in pids.values())
    assert (tmp_path / "bridge.log").read_text() == "done\n"


def test_death_of_a_required_child_names_it_and_its_last_words(tmp_path: Path) -> None:
    code = "import sys; print('first'); print('no checkpoint', file=sys.stderr); sys.exit(7)"
    children = [python("sleeper", SLEEPER), python("planner_node", code)]
    with pytest.raises(ChildFailedError) as caught:
        with Supervisor(children, tmp_path, os.environ) as supervisor:
            pids = supervisor.pids
            supervisor.wait(idle)
    message = str(caught.value)
    assert "planner_node" in message and "exit code 7" in message and "no checkpoint" in message
    assert all(gone(pid) for pid in pids.values())


def test_the_child_that_ends_the_run_may_fail(tmp_path: Path) -> None:
    children = [python("bridge", "raise SystemExit(3)", ends_run=True)]
    with pytest.raises(ChildFailedError, match="bridge ended early: exit code 3"):
        with Supervisor(children, tmp_path, os.environ) as supervisor:
            supervisor.wait(idle)


def test_a_signal_is_named(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    with pytest.raises(ChildFailedError, match="signal SIGSEGV"):
        with Supervisor([python("node", code)], tmp_path, os.environ) as supervisor:
            supervisor.wait(idle)


def test_an_optional_child_may_end(tmp_path: Path) -> None:
    optional = python("recorder", "raise SystemExit(1)", required=False)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ends = "import sys; open(sys.argv[1]).read()"  # when somebody has opened and closed it
    bridge = Child("bridge", [sys.executable, "-c", ends, str(pipe)], ends_run=True)
    told = False

    def end_after_recorder() -> None:
        nonlocal told
        idle()
        if not told and gone(pids["recorder"]):
            told = True
            pipe.write_text("")

    with Supervisor([optional, bridge], tmp_path, os.environ) as supervisor:
        pids = supervisor.pids
        assert supervisor.wait(end_after_recorder)


def test_children_may_clean_up(tmp_path: Path) -> None:
    with Supervisor([python("polite", POLITE)], tmp_path, os.environ) as supervisor:
        until(ready(tmp_path, "polite"), "start")
        supervisor.interrupt()
        assert not supervisor.wait(idle) and supervisor.interrupted
    assert "cleaned up" in supervisor.log_of("polite").read_text()


def test_one_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    children = [python("stubborn", STUBBORN), python("sleeper", SLEEPER)]
    with Supervisor(children, tmp_path, os.environ) as supervisor:
        pids = supervisor.pids
        until(ready(tmp_path, "stubborn", "sleeper"), "start")
    assert all(gone(pid) for pid in pids.values())


def test_children_of_children_end_too(tmp_path: Path) -> None:
    with Supervisor([python("outer", PARENT_OF_ONE)], tmp_path, os.environ):
        until(ready(tmp_path, "outer"), "start")
        inner = int((tmp_path / "outer.log").read_text().split()[1])
        assert not gone(inner)
    until(lambda: gone(inner), "end of the inner process")


def test_a_program_that_cannot_start_ends_the_others(tmp_path: Path) -> None:
    supervisor = Supervisor(
        [python("sleeper", SLEEPER), Child("absent", ["/nonexistent/program"])],
        tmp_path,
        os.environ,
    )
    before = signal.getsignal(signal.SIGINT)  # ignored where a shell has put us in the background
    with pytest.raises(ChildFailedError, match="absent: cannot start /nonexistent/program"):
        supervisor.__enter__()
    assert all(gone(pid) for pid in supervisor.pids.values())
    assert signal.getsignal(signal.SIGINT) is before


def test_a_program_is_looked_for_where_the_children_look(tmp_path: Path) -> None:
    program = tmp_path / "its_own_program"
    program.write_text("#!/bin/sh\ngrep SigIgn /proc/self/status\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    child = Child("shell", [program.name], ends_run=True)
    with Supervisor([child], tmp_path, environment) as supervisor:
        assert supervisor.wait(idle)
    if sys.platform == "linux":  # what Python ignores for itself is not left ignored
        ignored = int((tmp_path / "shell.log").read_text().split()[1], 16)
        assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    program = tmp_path / "text"
    program.write_bytes(b"\x7fELF no program")
    program.chmod(0o755)
    with pytest.raises(ChildFailedError, match="cannot start .*text: Exec format error"):
        with Supervisor([Child("odd", [str(program)])], tmp_path, os.environ) as supervisor:
            supervisor.wait(idle)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_all(tmp_path: Path, number: signal.Signals) -> None:
    with supervising(tmp_path, SLEEPER, STUBBORN) as process:
        pids = pids_of(process)
        until(ready(tmp_path, "0", "1"), "start")
        process.send_signal(number)
        assert process.wait(60) == 130  # after 3 s, where the machine has nothing else to do
    assert all(gone(pid) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux only")
def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    with supervising(tmp_path, SLEEPER, STUBBORN) as process:
        pids = pids_of(process)
        until(ready(tmp_path, "0", "1"), "start")
        process.kill()
        process.wait(60)
        until(lambda: all(gone(pid) for pid in pids), "end of the children", 60.0)


LAST_WORD = """
import pathlib, signal, sys
def last_word(*_):
    pathlib.Path("{log}/word").write_text("safe")
    sys.exit()
signal.signal(signal.SIGTERM, last_word)
signal.signal(signal.SIGINT, last_word)
pathlib.Path("{log}/ready").write_text("")
while True:
    signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux only")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=lambda n: n.name)
def test_a_controller_has_its_last_word_however_its_parent_ends(tmp_path: Path, number) -> None:
    """A closed terminal, a killed command: the robot must not go on with its last velocity."""
    with supervising(tmp_path, LAST_WORD.replace("{log}", str(tmp_path))) as process:
        until((tmp_path / "ready").exists, "start")
        process.send_signal(number)
        process.wait(20)
        until((tmp_path / "word").exists, "the last word")


def supervising(logs: Path, *codes: str) -> subprocess.Popen[str]:
    """A process that supervises one child per piece of code, named by number."""
    command = [sys.executable, "-c", SUPERVISES, str(logs), *codes]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def pids_of(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(pid) for pid in process.stdout.readline().split()]


def test_what_is_respawned_is_started_again_and_ends_with_the_others(tmp_path):
    """As the command guard is: it must be there for as long as the controller is."""
    children = [python("guard", SLEEPER, required=False, respawn=True), python("other", SLEEPER)]
    with Supervisor(children, tmp_path, os.environ) as supervisor:
        first = supervisor.pids["guard"]
        until(lambda: "ready" in supervisor.log_of("guard").read_text(), "the first", 60.0)
        os.kill(first, signal.SIGKILL)
        until(lambda: not supervisor.poll() and supervisor.pids["guard"] != first, "it", 60.0)
        second = supervisor.pids["guard"]
        until(lambda: supervisor.log_of("guard").read_text().count("ready") == 2, "the log", 60.0)
    assert gone(first) and gone(second)
