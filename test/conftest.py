"""Settings that must hold before anything is imported."""

import os

# MuJoCo binds its GL library when it is first imported.
os.environ.setdefault("MUJOCO_GL", "egl")

# Tests run side by side: threads of several torch processes on few cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list) -> None:
    """The longest first: at the end it would keep one process busy while the others have none."""
    items.sort(key=lambda item: item.path.name != "test_road.py")


def pytest_runtest_teardown() -> None:
    """The usual priority again: SVT-AV1 gives a thread that encodes real-time priority, for root.

    Whatever is started afterwards would have it too, and keep the whole machine waiting.
    """
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
