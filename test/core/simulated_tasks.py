"""The simulated tasks, for tests: what they need, and a state of each in which nothing happens."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from sim_bridge.rendering import check_rendering
from wm_planner.errors import RenderError
from wm_planner.tasks import task_names

RESTING = {
    "wall": [12.0, 40.0],
    "point_maze": [0.8, 1.5, 0.0, 0.0],
    "pusht": [100.0, 420.0, 256.0, 200.0, 0.5, 0.0, 0.0],
    "arm_reach": [-0.2, -1.5, 1.8, -1.87, -1.57, 0.0, 0.0, 0.0, 0.0],  # the tip follows
    "arm_push": [0.0, -1.5, 2.0, -2.07, -1.57, 0.0, 0.0, 0.0, 0.5, -0.2, 1.0],
    # A straight rope, and grains in five rows; what they are as a whole follows.
    "rope": [entry for i in range(30) for entry in (0.01 * i - 0.145, -0.1)] + [0.0] * 5,
    "granular": [
        entry for i in range(50) for entry in (0.025 * (i % 10) - 0.12, 0.03 * (i // 10), 0.5)
    ]
    + [0.0] * 5,
    "gym_point_maze": [-1.0, 1.0, 0.0, 0.0],
    "gym_pusht": [100.0, 420.0, 256.0, 200.0, 0.5, 0.0, 0.0],
}
RESTING |= {f"{name}_published": RESTING[name] for name in ("wall", "point_maze", "pusht")}
SWEPT = ["rope", "granular"]
SCENES = ["wall", "point_maze", "pusht"]  # of this package
PACKAGES = {"gym_point_maze": "gymnasium_robotics", "gym_pusht": "gym_pusht"}


def needs_package(task: str) -> pytest.MarkDecorator:
    """Skips what a task cannot do here."""
    package = PACKAGES.get(task)
    missing = package is not None and find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"needs {package}, see the 'controls' extra")


EVERY = [pytest.param(name, marks=needs_package(name)) for name in task_names()]


@pytest.fixture(scope="module", autouse=True)
def renderer():
    """Without a renderer every test of the importing file would fail with the same message."""
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
