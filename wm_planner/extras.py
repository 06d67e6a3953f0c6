"""Which extra of this package brings a Python module: what an error says where one is missing."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, requires

EXTRAS = ("model", "sim", "record", "viz", "view", "train", "ros", "controls", "ray", "pretrained")
# Modules that are not called like the package on PyPI that brings them.
_PACKAGES = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml"}
_ROS = {"rclpy", "ament_index_python"}
_LAUNCH = {"launch", "launch_ros"}  # not on PyPI
_REQUIREMENT = re.compile(r"""([\w.-]+)[^;]*(?:;.*\bextra == ["']([\w.-]+)["'])?""")


@cache
def needed(extra: str = "") -> frozenset[str]:
    """Packages that an extra asks for; '' for what the package itself asks for."""
    try:
        lines = requires("wm_planner") or []
    except PackageNotFoundError:  # run from its source, by the path alone
        return frozenset()
    found = [match.groups() for line in lines if (match := _REQUIREMENT.match(line))]
    return frozenset(_normal(name) for name, of in found if (of or "") == extra)


def extras_of(module: str) -> list[str]:
    """Extras that bring a module, the one to take first; none of them: [].

    Args:
        module: dotted name of a module.
    """
    top = module.partition(".")[0]
    if is_ros(top):
        return ["ros"]
    package = _normal(_PACKAGES.get(top, top))
    return [name for name in EXTRAS if package in needed(name)]


def way_out(module: str) -> str:
    """What to do about a missing module, for the end of a message."""
    top = module.partition(".")[0]
    if top in _LAUNCH:
        return "source an installed ROS 2 (source /opt/ros/<distribution>/setup.bash)"
    if is_ros(top):
        return (
            "source an installed ROS 2 (source /opt/ros/<distribution>/setup.bash), or, on Linux "
            f"on x86_64, {install('ros')}"
        )
    extras = extras_of(top)
    return install(extras[0]) if extras else f"pip install {top}"


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'wm_planner[{extra}]'"


def is_ros(module: str) -> bool:
    """Whether a module is one of ROS 2's, that its wheels bring too."""
    return module in _ROS or module.endswith(("_msgs", "_srvs", "_interfaces"))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
