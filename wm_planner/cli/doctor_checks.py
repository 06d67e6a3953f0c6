"""What `wm-planner doctor` finds out in its own process: everything that loads no large library."""

from __future__ import annotations

import ctypes
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from wm_planner import __version__
from wm_planner.cli.doctor import Finding, Level, probe
from wm_planner.cli.preflight import check_rendering
from wm_planner.errors import RenderError
from wm_planner.extras import EXTRAS, install, needed

ROOM, LITTLE_ROOM = 10**10, 10**8  # bytes: of a day's recordings and a training; of one episode
STEP_S = 0.02  # the system's clock against the steady one; slewing moves it by 0.5 ms in a second
OPTIONAL = ("controls", "ray", "pretrained")  # extras whose lack is not worth a line
FEW = 2  # missing packages that are named
CAMERAS = Path("/dev")


def python() -> Finding:
    """Which Python runs, and which version of this package."""
    text = f"{platform.python_version()} ({sys.executable}), wm_planner {__version__}"
    return Finding("Python", Level.OK, text)


def extras() -> Finding:
    """Which extras are complete."""
    lacking = {extra: lacks for extra in EXTRAS if (lacks := _lacking(extra))}
    present = ", ".join(extra for extra in EXTRAS if extra not in lacking) or "none"
    lacking = {extra: lacks for extra, lacks in lacking.items() if extra not in OPTIONAL}
    if not lacking:
        return Finding("extras", Level.OK, present)
    parts = ", ".join(
        f"{extra} (lacks {', '.join(lacks)})" if len(lacks) <= FEW else extra
        for extra, lacks in lacking.items()
    )
    way_out = install(",".join(lacking))
    return Finding("extras", Level.WARN, f"complete: {present}; not {parts}: {way_out}")


def _lacking(extra: str) -> list[str]:
    """Packages of an extra that are not installed; a sourced ROS 2 stands for its wheels."""
    packages = sorted(needed(extra))
    if extra == "ros":
        packages = [name for name in packages if not name.startswith("ros-")]
        packages += [] if find_spec("rclpy") else ["rclpy"]
    return [name for name in packages if not _installed(name)]


def _installed(package: str) -> bool:
    if package == "rclpy":
        return False
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def drawing(environment: dict[str, str]) -> Finding:
    """Draw a scene as the simulator does, without a screen."""
    if find_spec("mujoco") is None:
        text = f"the simulator is not installed: {install('sim')}"
        return Finding("GL", Level.WARN, text)
    try:
        check_rendering(environment)
    except RenderError as error:
        return Finding("GL", Level.FAIL, str(error))
    return Finding("GL", Level.OK, f"drew a picture with MUJOCO_GL={environment['MUJOCO_GL']}")


def camera(source: str | None, environment: dict[str, str]) -> Finding:
    """Take a picture: of a topic, of what `source` names, or of the first /dev/video."""
    if source is None:
        devices = sorted(CAMERAS.glob("video[0-9]*"))
        if not devices:
            text = "no /dev/video here; --camera tries a ROS topic or an rtsp:// address"
            return Finding("camera", Level.WARN, text)
        source = str(devices[0])
    is_topic = source.startswith("/") and not source.startswith("/dev/")
    kind = "topic" if is_topic and not Path(source).exists() else "source"
    return probe(["camera"], [kind, source], environment)[0]


def disk(directory: Path) -> Finding:
    """Whether there is room where results are written."""
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        way_out = "name another directory with --output"
        return Finding("disk", Level.FAIL, f"{directory}: {error.strerror}; {way_out}")
    text = f"{directory}: {free / 1e9:.1f} GB are free"
    if free >= ROOM:
        return Finding("disk", Level.OK, text)
    level = Level.FAIL if free < LITTLE_ROOM else Level.WARN
    way_out = "make room there, or name another directory with --output"
    text = f"{text}; recordings and training want {ROOM / 1e9:.0f}: {way_out}"
    return Finding("disk", level, text)


class ClockWatch:
    """Whether the system's clock follows a reference, and whether it stepped since this was made.

    Args:
        system_s: seconds of the system's clock.
        steady_s: seconds of a clock that nobody sets.
        error_s: how far the system's clock may be off, as the kernel has it; None: it follows no
            reference, or nobody says.
    """

    def __init__(
        self,
        system_s: Callable[[], float] = time.time,
        steady_s: Callable[[], float] = time.monotonic,
        error_s: Callable[[], float | None] | None = None,
    ) -> None:
        self._system_s, self._steady_s = system_s, steady_s
        self._error_s = kernel_error_s if error_s is None else error_s
        self._begin_s = system_s() - steady_s()

    def finding(self) -> Finding:
        """What was seen."""
        step_s = self._system_s() - self._steady_s() - self._begin_s
        if abs(step_s) > STEP_S:
            text = (
                f"stepped by {step_s:+.3f} s while this ran: let one service alone set it (chrony)"
            )
            return Finding("clock", Level.FAIL, text)
        error_s = self._error_s()
        if error_s is None:
            text = (
                "does not step, and follows no time server, or the system does not say: where "
                "cameras or joints are stamped by another machine, install chrony on both"
            )
            return Finding("clock", Level.WARN, text)
        return Finding("clock", Level.OK, f"synchronised to within {error_s:.3f} s; no steps")


def kernel_error_s() -> float | None:
    """Largest error of the system's clock, by Linux's adjtimex(2); None: it is not synchronised."""
    if sys.platform != "linux":
        return None
    state = (ctypes.c_long * 64)()  # a timex: modes 0 changes nothing
    status = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    unsynchronised = 5  # TIME_ERROR
    if status < 0 or status == unsynchronised:
        return None
    return state[3] / 1e6  # maxerror, microseconds
