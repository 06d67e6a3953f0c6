"""Launch files import nothing that a ROS installation lacks; where `launch` is, they are walked."""

from __future__ import annotations

import ast
import importlib.util
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
SHARED = ROOT / "wm_planner" / "launching.py"
ALLOWED = {"launch", "launch_ros", "ament_index_python", "wm_planner"}
ARM = ROOT / "config/robots/arm_reach.yaml"


# Of the package, what needs neither torch nor rclpy.
LIGHT = (
    "bringup",
    "cli.parser",
    "config",
    "data.goal_file",
    "end_with_parent",
    "errors",
    "launching",
    "parameter_file",
    "registry",
    "robot",
    "simulation",
    "tasks",
)
LIGHT = {"wm_planner", *(f"wm_planner.{name}" for name in LIGHT)}


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


def test_topics_of_rviz_are_relative_so_that_a_namespace_works():
    import yaml

    view = yaml.safe_load((ROOT / "rviz" / "wm_planner.rviz").read_text())
    displays = view["Visualization Manager"]["Displays"]
    topics = [d[k]["Value"] for d in displays for k in ("Topic", "Description Topic") if k in d]
    assert len(topics) == 5 and not [topic for topic in topics if topic.startswith("/")]


# What follows needs `launch` and `launch_ros`, which come with ROS 2 and from nowhere else.


class Launched:
    """A launch service that runs in this process, and what it has logged."""

    def __init__(self, prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._library = prefix / "lib" / "wm_planner"
        self._patch = monkeypatch

    def run(self, name: str, *arguments: str, beside: str = "") -> tuple[int, str]:
        """Exit code and log of ``ros2 launch wm_planner NAME ARGUMENTS``.

        Args:
            name: of the launch file.
            arguments: of the launch file.
            beside: program of a process that another launch file would start, too.
        """
        import launch.logging
        from launch.actions import ExecuteProcess, IncludeLaunchDescription
        from launch.launch_description_sources import PythonLaunchDescriptionSource

        import launch

        file = ROOT / "launch" / name
        self._patch.setattr(sys, "argv", ["ros2", "launch", "wm_planner", name, *arguments])
        service = launch.LaunchService(argv=list(arguments), noninteractive=True)
        given = [tuple(argument.split(":=", 1)) for argument in arguments]
        source = PythonLaunchDescriptionSource(str(file))
        entities = [IncludeLaunchDescription(source, launch_arguments=given)]
        if beside:
            command = [sys.executable, "-c", beside, str(self._library)]
            entities.append(ExecuteProcess(cmd=command, output="screen"))
        service.include_launch_description(launch.LaunchDescription(entities))
        screen, text = launch.logging.launch_config.get_screen_handler(), io.StringIO()
        screen.setStream(text)
        code = service.run()
        return code, text.getvalue()

    def install(self, pipes: Sequence[str] = (), **executables: str) -> None:
        """Give the package these executables alone, each a program of Python.

        Those that read a pipe of their own, and the further names, are given one.
        """
        self._library.mkdir(parents=True)
        for name in (*pipes, *(name for name, text in executables.items() if '+ ".pipe"' in text)):
            os.mkfifo(self._library / f"{name}.pipe")
        for name, program in executables.items():
            file = self._library / name
            file.write_text(f"#!{sys.executable}\n{program}\n")
            file.chmod(0o755)


@pytest.fixture
def launched(tmp_path, monkeypatch) -> Launched:
    pytest.importorskip("launch_ros", reason="needs a ROS 2 installation (launch, launch_ros)")
    prefix = tmp_path / "prefix"
    index = prefix / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "wm_planner").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.chdir(tmp_path)
    return Launched(prefix, monkeypatch)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_description_can_be_made(file, launched):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate_launch_description().entities


BAD = {
    "sim.launch.py": [
        ("task:=wal", "Did you mean 'wall'?"),
        ("planner:=gpb", "Did you mean 'gbp'?"),
        ("checkpoint:=none-such", "none-such"),
        ("clock:=real-time", "Did you mean 'realtime'?"),
        ("episodes:=0", "at least 1"),
        ("episodes:=two", "whole number"),
        ("seed:=-1", "whole number"),
        ("record:=yes", "true or false"),
        ("output:=/dev/null/here", "/dev/null is no directory"),
        ("namespace:=2nd", "namespace:=2nd"),
        ("rviz:=1", "true or false"),
        ("rviz:=true", "ros-$ROS_DISTRO-rviz2"),
        ("clok:=realtime", "Did you mean 'clock'?"),
    ],
    "robot.launch.py": [
        ("robot:=none.yaml", "none.yaml"),
        ("goal:=none.png", "none.png"),
        ("planner:=gpb", "Did you mean 'gbp'?"),
        ("checkpoint:=none-such", "none-such"),
        ("device:=the GPU", "cpu, cuda"),
        ("explore:=-1", "whole number"),
        ("seconds:=0", "from 0.1"),
        ("record:=yes", "true or false"),
        ("output:=/dev/null/here", "/dev/null is no directory"),
        ("namespace:=a b", "namespace:=a b"),
        ("markers:=yes", "true or false"),
        ("recrd:=true", "Did you mean 'record'?"),
    ],
}


@pytest.mark.parametrize(
    ("file", "argument", "told"), [(file, *case) for file, cases in BAD.items() for case in cases]
)
def test_a_bad_argument_is_told_before_a_node_is_started(file, argument, told, launched):
    nodes = "planner_node controller_node camera_node finetune_node bridge_node arm_driver"
    launched.install(**dict.fromkeys(nodes.split(), "print('started')"))
    robot = [] if file == "sim.launch.py" or argument.startswith("robot:=") else [f"robot:={ARM}"]
    code, log = launched.run(file, *robot, argument)
    assert code == 1
    assert told in log
    assert "Traceback" not in log and "process started" not in log


def test_every_argument_has_a_bad_value_above():
    for file in FILES:
        declared = set(re.findall(r'^    "(\w+)": Argument', file.read_text(), re.MULTILINE))
        tried = {argument.partition(":=")[0] for argument, _ in BAD[file.name]}
        assert declared <= tried


def test_the_robot_must_be_named(launched):
    code, log = launched.run("robot.launch.py")
    assert code == 1 and "'robot'" in log


def test_what_is_not_installed_is_told_before_a_node_is_started(launched):
    launched.install(camera_node="print('started')")
    code, log = launched.run("sim.launch.py")
    assert code == 1 and "planner_node" in log and "process started" not in log


# Nodes that wait tell those that end, each by a pipe of its own, that they are there. A pipe comes
# to its end when all that wait have gone.
WAITS = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
pipes = [pipe.open("wb", 0) for pipe in sorted(pathlib.Path(sys.argv[0]).parent.glob("*.pipe"))]
for pipe in pipes:
    pipe.write(b".")
while True:
    signal.pause()
"""
ENDS = """
import sys
with open(sys.argv[0] + ".pipe", "rb", 0) as pipe:
    for _ in range({others}):
        pipe.read(1)
sys.exit({code})
"""
OTHER = """
import sys
with open(sys.argv[1] + "/other.pipe", "rb") as pipe:
    assert pipe.read() == b"...."
print("the other graph has ended by itself")
"""


def table(**codes: int) -> dict[str, str]:
    """The simulation's nodes: those that end by themselves, with these codes, once the others wait
    until they are asked to end.
    """
    names = ("camera_node", "planner_node", "controller_node", "finetune_node", "bridge_node")
    ends = {name: ENDS.format(others=5 - len(codes), code=code) for name, code in codes.items()}
    return dict.fromkeys(names, WAITS) | ends


def test_all_end_with_the_simulator_and_the_code_is_zero(launched):
    launched.install(**table(bridge_node=0))
    code, log = launched.run("sim.launch.py")
    assert code == 0
    assert log.count("bridge_node has ended") == 1
    assert log.count("process has finished cleanly") == 5


def test_all_end_with_those_that_fail_and_the_code_is_one(launched):
    launched.install(**table(planner_node=2, camera_node=3))
    code, log = launched.run("sim.launch.py")
    assert code == 1
    assert log.count("its log says why") == 2  # when the first one ends, and at the end of all
    assert log.count("process has finished cleanly") == 3


def test_another_graph_of_the_launch_goes_on(launched):
    """Its process ends when those of the failed one have gone."""
    launched.install(**table(planner_node=2), pipes=["other"])
    code, log = launched.run("sim.launch.py", beside=OTHER)
    assert code == 1
    assert "the other graph has ended by itself" in log


def test_the_recorder_may_end(launched):
    launched.install(**table(finetune_node=3, bridge_node=0))
    code, log = launched.run("sim.launch.py")
    assert code == 0
    assert "its log says why" not in log
