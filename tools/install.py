"""Install this package and its extras into .venv: one line that grows, all of pip's words in a log.

It runs on the system's Python, before anything is installed: the standard library is all it has.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import TextIO

ROOT = Path(__file__).parents[1]
VENV = ROOT / ".venv"
LOG = ROOT / ".venv" / "install.log"
EXTRAS = "model,sim,record,viz,view,train,controls,docs,dev"
WIDTH, TAIL = 24, 30  # characters of the bar; lines of the log that a failure shows
ROS_NAME = "import rclpy, os; print(os.environ.get('ROS_DISTRO', 'unnamed'))"
HAS_WHEELS_OF_ROS = (platform.system(), platform.machine()) == ("Linux", "x86_64")
HAS_WHEELS_OF_PYMUNK = sys.version_info < (3, 14) and platform.machine() != "aarch64"
_FETCHED = r"(?:Downloading|Using cached|Processing) (\S+\.whl)( \([\d.]+ .B\))?"


class Bar:
    """How far pip is: first half the packages that it has found, second half those installed.

    Args:
        expected: packages that there will be at least: how many in all, pip knows late.
        screen: where the line is drawn over and over; without a terminal, every half a minute a new
            line is written.
        site: directory in which pip installs.
    """

    def __init__(self, expected: int, screen: TextIO, site: Path) -> None:
        self._expected = expected
        self._screen, self._site = screen, site
        self._terminal = screen.isatty()
        self._begin_s, self._told_s = time.monotonic(), -1e9
        self._found = 0
        self._before = self._installed()
        self._all: int | None = None
        self._doing = "looking for packages"

    def hear(self, line: str) -> None:
        """A line of pip's output."""
        line = line.strip()
        if match := re.match(r"Collecting ([\w.-]+)", line):
            self._found += 1
            self._doing = f"looking at {match[1]}"
        elif match := re.match(_FETCHED, line):
            name, size = Path(match[1]).name.partition("-")[0], match[2]
            self._doing = f"fetching {name}{size or ''}"
        elif line.startswith("Installing collected packages:"):
            self._all = line.count(",") + 1
            self._doing = "installing"
        self.draw()

    def draw(self) -> None:
        """The line as it is now."""
        now_s = time.monotonic()
        if now_s - self._told_s < (0.2 if self._terminal else 30):
            return
        self._told_s = now_s
        text = self._text(now_s)
        if self._terminal:
            columns = shutil.get_terminal_size().columns
            self._screen.write(f"\r{text[: columns - 1]}\033[K")
        else:
            self._screen.write(f"{text}\n")
        self._screen.flush()

    def close(self, text: str) -> None:
        """Put a last line in its place."""
        spent_s = time.monotonic() - self._begin_s
        self._screen.write(f"{chr(13) if self._terminal else ''}{text} ({spent_s:.0f} s)")
        self._screen.write("\033[K\n" if self._terminal else "\n")

    def _text(self, now_s: float) -> str:
        installed, doing = self._installed() - self._before, self._doing
        share = min(self._found / self._expected, 1.0) / 2
        if self._all is not None:
            share = 0.5 + min(installed / self._all, 1.0) / 2
            doing = f"installing {min(installed + 1, self._all)} of {self._all}"
        full = round(WIDTH * share)
        spent_s = now_s - self._begin_s
        clock = f"{spent_s // 60:.0f}:{spent_s % 60:02.0f}"
        return f"[{'#' * full}{'-' * (WIDTH - full)}] {self._found:3} packages  {clock}  {doing}"

    def _installed(self) -> int:
        return sum(1 for _ in self._site.glob("*.dist-info"))


def main() -> int:
    """Install.

    Returns:
        The exit code of what failed, else 0.
    """
    if sys.version_info < (3, 10):  # noqa: UP036  (this is what says so)
        return fail(f"Python 3.10 or newer is needed, this is {platform.python_version()}")
    ros = run_quietly([sys.executable, "-c", ROS_NAME])
    options = ["--system-site-packages"] if ros else []
    made = subprocess.run(
        [sys.executable, "-m", "venv", *options, str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        way_out = "on Debian and Ubuntu, sudo apt-get install python3-venv and run make again"
        return fail(f"no virtual environment can be made in {VENV}; {way_out}\n{made.stdout}")
    pins, extras = (ROOT / "constraints.txt").read_text(), EXTRAS
    if ros:
        print(f"ROS 2 found ({ros.strip()}): using it")
        numpy = run_quietly([sys.executable, "-c", "import numpy; print(numpy.__version__)"])
        kept = [line for line in pins.splitlines() if re.match("(torch|setuptools)==", line)]
        pins = "\n".join([*kept, f"numpy=={numpy.strip()}"]) + "\n"
    elif HAS_WHEELS_OF_ROS:
        print("no ROS 2 found: installing it from wheels")
        extras += ",ros"
    else:
        print(
            f"no ROS 2 found, and there are no wheels of it for {platform.system()} on "
            f"{platform.machine()}: installing what works without. To drive a robot, source ROS 2 "
            "and run make again (docs/install.md)."
        )
    constraints = VENV / "constraints.txt"
    constraints.write_text(pins)
    steps = [["-c", str(constraints), "-e", f"{ROOT}[{extras}]"]]
    if HAS_WHEELS_OF_PYMUNK:
        steps.append(["-c", str(ROOT / "constraints.txt"), "--no-deps", "gym-pusht"])
    pinned = set(re.findall(r"(?m)^([\w.-]+)==", (ROOT / "constraints.txt").read_text()))
    from_wheels = "ros" in extras.split(",")
    return install(steps, sum(from_wheels or name[:4] != "ros-" for name in pinned))


def install(steps: list[list[str]], expected: int) -> int:
    """Run pip with the options of each step, which bring as many packages as expected, or more.

    Returns:
        The exit code of the first that fails, after the end of the log; else 0.
    """
    site = next(VENV.glob("lib*/python*/site-packages"))
    tail = deque[str](maxlen=TAIL)
    bar = Bar(expected, sys.stdout, site)
    with LOG.open("w", buffering=1) as log:
        for options in steps:
            command = [VENV / "bin" / "python", "-m", "pip", "install", "--progress-bar", "off"]
            with running([*map(str, command), *options]) as pip:
                for line in lines_of(pip, bar):
                    log.write(line)
                    tail.append(line)
            if pip.returncode != 0:
                bar.close("pip has failed")
                sys.stdout.write("".join(tail))
                return fail(f"the whole log is {LOG}", pip.returncode)
    bar.close(f"installed into {VENV.name}; what pip said is in {VENV.name}/{LOG.name}")
    return 0


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
        process.wait()
    finally:
        process.kill()
        process.wait()


def lines_of(process: subprocess.Popen[str], bar: Bar) -> Iterator[str]:
    """What a process says, each line told to the bar, which also moves while it is silent."""
    assert process.stdout is not None
    said: Queue[str] = Queue()
    source = process.stdout

    def read() -> None:
        try:
            for line in source:
                said.put(line)
        finally:  # whatever comes: somebody waits for the end
            said.put("")

    Thread(target=read, daemon=True).start()
    while True:
        try:
            line = said.get(timeout=0.5)
        except Empty:
            bar.draw()
            continue
        if not line:
            return
        bar.hear(line)
        yield line


def run_quietly(command: list[str]) -> str:
    """What a command prints; '' when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def fail(message: str, code: int = 1) -> int:
    """Say why there is no installation."""
    print(f"make: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
