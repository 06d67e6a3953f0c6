"""Work beside a robot that takes only the processor time that nothing else wants."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

NICE = 19
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def go_on_in_background() -> int | None:
    """Go on in a child process of the lowest priority. Call it while no other thread works.

    A nice value alone is not enough on Linux: the kernel shares the processor between sessions
    first (man 7 sched, "The autogroup feature"), so that a nice process in a terminal of its own
    has as much of it as the robot's nodes. The child therefore has a session of its own, of the
    lowest priority. What the parent is told by a signal goes to the child, which the kernel ends
    with its parent.

    Returns:
        None in the child; in the parent the child's exit code, when that has ended.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until somebody hands them on
    child = os.fork()
    if child:
        for number in SIGNALS:
            signal.signal(number, lambda told, _frame: os.kill(child, told))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code if code >= 0 else 128 - code  # as a shell says which signal it was
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.nice(max(0, NICE - os.nice(0)))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
        with suppress(OSError):  # a kernel without autogroups, or /proc is not writable
            with open("/proc/self/autogroup", "w") as group:
                group.write(str(NICE))
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    return None
