"""A program that becomes another one, which the kernel ends when its parent is gone.

However the parent went: a controller then still has its last word. Use: ``python -I -S
end_with_parent.py PARENT_PID PROGRAM ARGUMENT...``, on Linux. It is a program of its own because
Python code between fork and exec deadlocks on locks that other threads (DDS's) held.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def with_parent(command: list[str]) -> list[str]:
    """The command, ended with the process that starts it; elsewhere than on Linux as it is."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), *command]


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):  # it died before the line above
        sys.exit(1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec keeps that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"cannot start {sys.argv[2]}: {error.strerror}")
