"""Launch files import nothing that a ROS installation lacks; where `launch` is, they load."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
SHARED = ROOT / "wm_planner" / "launching.py"
ALLOWED = {"launch", "launch_ros", "ament_index_python", "wm_planner"}


# Of the package, what needs neither torch nor rclpy.
LIGHT = (
    "bringup",
    "errors",
    "launching",
    "parameter_file",
    "registry",
    "robot",
    "simulation",
    "tasks",
)
LIGHT = {f"wm_planner.{name}" for name in LIGHT}


@pytest.mark.parametrize("file", [*FILES, SHARED], ids=lambda f: f.name)
def test_imports_only_what_ros_has(file):
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    roots = {name.split(".")[0] for name in names}
    assert roots <= ALLOWED | set(sys.stdlib_module_names)
    assert {name for name in names if name.startswith("wm_planner")} <= LIGHT


def test_every_executable_of_the_table_is_installed():
    from wm_planner.simulation import SimOptions, simulation

    scripts = (ROOT / "setup.py").read_text()
    for spec in simulation(SimOptions(task="wall")):
        pattern = rf"{spec.executable}\s*=\s*{re.escape(spec.module)}:main"
        assert re.search(pattern, scripts), spec.executable


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_description_can_be_made(file):
    pytest.importorskip("launch_ros", reason="needs a ROS 2 installation (launch, launch_ros)")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate_launch_description().entities


def test_rviz_is_looked_for_before_a_node_is_started():
    pytest.importorskip("launch_ros", reason="needs a ROS 2 installation (launch, launch_ros)")
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    from launch import LaunchContext
    from wm_planner.errors import ConfigError

    with pytest.raises(PackageNotFoundError):
        pytest.skip(f"rviz2 is installed: {get_package_prefix('rviz2')}")
    file = ROOT / "launch" / "sim.launch.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = LaunchContext()
    for name, (default, _) in module.ARGUMENTS.items():
        context.launch_configurations[name] = default
    context.launch_configurations["rviz"] = "true"
    with pytest.raises(ConfigError, match="rviz2 is not installed"):
        module._start(context)


def test_topics_of_rviz_are_relative_so_that_a_namespace_works():
    import yaml

    view = yaml.safe_load((ROOT / "rviz" / "wm_planner.rviz").read_text())
    displays = view["Visualization Manager"]["Displays"]
    topics = [d[k]["Value"] for d in displays for k in ("Topic", "Description Topic") if k in d]
    assert len(topics) == 5 and not [topic for topic in topics if topic.startswith("/")]
