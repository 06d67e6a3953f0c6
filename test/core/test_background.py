"""A process of the lowest priority beside the robot, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

DEADLINE_S = 60  # of a busy machine
WORKS = """
import os, signal, sys
from wm_planner.cli.background import go_on_in_background
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run under nohup ignore both
signal.signal(signal.SIGHUP, signal.SIG_DFL)
code = go_on_in_background()
if code is not None:
    sys.exit(code)
group = open("/proc/self/autogroup").read() if os.path.exists("/proc/self/autogroup") else "19"
told = os.getpid(), os.getsid(0), os.nice(0), os.sched_getscheduler(0), group.split()[-1]
print(*told, flush=True)
try:
    {work}
except KeyboardInterrupt:
    sys.exit(130)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sessions are scheduled by Linux")


def started(work: str) -> tuple[subprocess.Popen[str], list[int]]:
    """The parent, and what its child said of itself."""
    command = [sys.executable, "-c", WORKS.format(work=work)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


def test_it_has_a_session_of_the_lowest_priority_of_its_own():
    process, (pid, session, nice, scheduler, group) = started("sys.exit(7)")
    process.communicate(timeout=DEADLINE_S)
    assert session == pid != process.pid
    assert (nice, scheduler, group) == (19, os.SCHED_IDLE, 19)
    assert process.returncode == 7


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_what_its_parent_is_told_it_is_told(number, code):
    process, _ = started("signal.pause()")
    process.send_signal(number)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code


def test_it_ends_with_its_parent_however_that_went():
    process, _ = started("signal.pause()")
    process.kill()
    process.communicate(timeout=DEADLINE_S)  # returns when the child's end of the pipe is closed
    assert process.returncode == -signal.SIGKILL
