"""Each extra of setup.py brings what the modules that it is for import, and errors name it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import deque
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec

import pytest
from packaging.requirements import Requirement

from test.test_boundaries import ROOT, ROS, imports, modules
from wm_planner import __version__
from wm_planner.extras import EXTRAS, extras_of, is_ros, needed, way_out

CORE = {"numpy": "numpy", "yaml": "pyyaml", "tqdm": "tqdm", "safetensors": "safetensors"}
CORE["shtab"] = "shtab"
OURS = ("wm_planner", "sim_bridge")
# Of a ROS installation, and for annotations alone.
NEVER = {"launch", "launch_ros", "typing_extensions"}

# Extra, or several -> what can be imported with it alone: a pattern of modules.
PROMISES = {
    "": r"wm_planner(\.(?!planning|launching)\w+)?|wm_planner\.(tasks|cli\.(main|info))(\.\w+)?",
    # Without the one module that takes as long as all others: transformers is for it alone.
    "model": r"wm_planner\.(models(?!\.dinov2$)|planning|evaluation|cli\.(eval|info))(\.\w+)*",
    "sim": r"sim_bridge\.(envs|rendering|camera|experts|urdf)(\.\w+)*|wm_planner\.kinematics.*",
    "record": r"wm_planner\.(runtime|data\.(bags|recording|recorded|streams|messages))(\.\w+)*",
    "viz": r"wm_planner\.cli\.(film|filmed|pictures|contact_sheet|figures)",
    "train": r"wm_planner\.(data|cli\.(train|dataset|export|finetune))(\.\w+)*",
    "ros": r"wm_planner\.(ros|nodes|cli\.(robot|listener|monitor)\w*)(\.\w+)*",
    "view,ros": r"wm_planner\.view(\.\w+)*",
    "sim,ros": r"sim_bridge\.\w+",
}

PROGRAM = """
import importlib.machinery, json, sys
blocked, wanted = json.load(sys.stdin)

class Others(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition('.')[0] in blocked:
            return None
        return next(filter(None, (f.find_spec(name, path, target) for f in finders)), None)

finders, sys.meta_path = [f for f in sys.meta_path if hasattr(f, 'find_spec')], [Others]
for name in wanted:
    importlib.import_module(name)
"""


@cache
def brought(package: str, extras: tuple[str, ...]) -> frozenset[str]:
    """Installed packages that a package with extras brings, itself among them."""
    found: set[tuple[str, tuple[str, ...]]] = set()
    waiting = deque([(package, extras)])
    while waiting:
        name, of = waiting.popleft()
        if (name, of) in found:
            continue
        found.add((name, of))
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:  # for another machine, or part of the system's ROS
            continue
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in of or ("",)):
                waiting.append((requirement.name.lower(), tuple(sorted(requirement.extras))))
    return frozenset(re.sub(r"[-_.]+", "-", name) for name, _ in found)


def blocked_for(extras: tuple[str, ...]) -> list[str]:
    """Installed modules of others that none of these extras brings."""
    allowed = brought("wm_planner", extras)
    result = [
        module
        for module, owners in packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & allowed
    ]
    return [name for name in result if not (is_ros(name) and "ros" in extras)] + (
        [] if "ros" in extras else ["rclpy"]
    )


@pytest.mark.parametrize("names", PROMISES)
def test_extra_alone_brings_what_its_modules_import(names):
    extras = tuple(filter(None, names.split(",")))
    if "ros" in extras:
        pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")
    wanted = [name for name, _ in modules() if re.fullmatch(PROMISES[names], name)]
    assert wanted
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([blocked_for(extras), wanted]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1500:]


def test_blocking_is_seen():
    """A planted fault: the bags' reader without the extra that brings its libraries."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([blocked_for(()), ["wm_planner.data.bags"]]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1 and "No module named 'zstandard'" in done.stderr


@pytest.mark.parametrize("package", OURS)
def test_every_import_is_of_an_extra(package):
    """At any depth of a file: what is imported inside a function has an extra, too."""
    unknown = {
        f"{module}: {name}"
        for module, path in modules()
        if module.partition(".")[0] == package
        for name in imports(path.read_text(), module)
        if (top := name.partition(".")[0]) not in {*sys.stdlib_module_names, *OURS, *CORE, *NEVER}
        if not extras_of(top)
    }
    assert not unknown


def test_core_is_what_the_package_asks_for():
    assert set(CORE.values()) == needed()


def test_who_trains_can_plan_and_read_bags():
    assert needed("model") | needed("record") <= needed("train")


def test_all_is_every_extra_that_fits_beside_a_ros_installation():
    parts = [
        needed(name) for name in EXTRAS if name not in ("ros", "controls", "ray", "pretrained")
    ]
    assert needed("all") == set().union(*parts)


@pytest.mark.parametrize("name", sorted(ROS - {"rosidl_runtime_py"}))
def test_ros_modules_lead_to_a_ros_installation(name):
    assert way_out(name).startswith("source an installed ROS 2")


def test_way_out_names_the_extra_to_take():
    assert way_out("torch.nn") == "pip install 'wm_planner[model]'"
    assert way_out("cv2") == "pip install 'wm_planner[record]'"
    assert way_out("imageio") == "pip install 'wm_planner[viz]'"
    assert way_out("somebody_elses") == "pip install somebody_elses"


def test_constraints_pin_each_requirement_once_for_each_python():
    pins = [
        Requirement(line)
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    wanted = set().union(*(needed(extra) for extra in ("", *EXTRAS, "dev")))
    for python in ("3.10", "3.11", "3.12", "3.13", "3.14"):
        here = {"python_version": python, "sys_platform": "linux", "platform_machine": "x86_64"}
        names = [p.name for p in pins if p.marker is None or p.marker.evaluate(here)]
        assert sorted(names) == sorted(set(names))
        assert wanted <= set(names), python


def test_one_version():
    package = re.search("<version>(.*)</version>", (ROOT / "package.xml").read_text())
    setup = re.search('version="(.*)"', (ROOT / "setup.py").read_text())
    assert package and setup and package[1] == setup[1] == __version__


def test_ros_is_here_or_said_to_be_missing():
    assert find_spec("rclpy") is None or extras_of("rclpy") == ["ros"]
