"""What both launch files do: they check their arguments, and start the table of what runs together.

What is wrong with an argument is said before any node is started, and ``ros2 launch`` returns 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, RegisterEventHandler
from launch.event_handlers import OnProcessExit, OnShutdown
from launch.events.process import ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch.substitutions.substitution_failure import SubstitutionFailure
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import ExecutableInPackage

from wm_planner.bringup import NodeSpec, enclave_arguments
from wm_planner.cli.parser import number, whole
from wm_planner.config import suggest
from wm_planner.end_with_parent import with_parent
from wm_planner.errors import ConfigError
from wm_planner.parameter_file import write_parameters

# What `ros2 launch` itself understands beside the arguments of a file.
_OF_LAUNCH = ("emulate_tty", "launch-prefix", "launch-prefix-filter")
_NAMESPACE = re.compile(r"(?:/?[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*)?", re.ASCII)
_DEVICE = re.compile(r"[a-z]+(?::\d+)?")


@dataclass(frozen=True)
class Argument:
    """One launch argument.

    Attributes:
        default: what stands where it is not given; None: it must be given.
        text: what it is, for ``ros2 launch --show-args``.
        read: its text -> its value; raises ValueError or argparse.ArgumentTypeError.
        optional: an empty text is a value, too: ''.
    """

    default: str | None
    text: str
    read: Callable[[str], Any] = str
    optional: bool = False


def choice(*choices: str) -> Callable[[str], str]:
    """Reads one of these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"unknown value.{suggest(text, choices)}")
        return text

    return read


def flag(text: str) -> bool:
    """Read 'true' or 'false', in any case of the letters, as ROS does."""
    if text.lower() not in ("true", "false"):
        raise ValueError("expected true or false")
    return text.lower() == "true"


def whole_from(least: int) -> Callable[[str], int]:
    """Reads a whole number that is at least so much."""

    def read(text: str) -> int:
        value = whole(text)
        if value < least:
            raise ValueError(f"must be at least {least}")
        return value

    return read


def number_within(low: float, high: float) -> Callable[[str], float]:
    """Reads a number from `low` to `high`."""

    def read(text: str) -> float:
        value = number(text)
        if not low <= value <= high:
            raise ValueError(f"must be from {low:g} to {high:g}")
        return value

    return read


def namespace(text: str) -> str:
    """Read the namespace of all nodes."""
    if not _NAMESPACE.fullmatch(text):
        raise ValueError(
            "expected names of letters, digits and '_' between '/', none beginning with a digit"
        )
    return text


def device(text: str) -> str:
    """Read a torch device by its form; whether it is there is found out by the planner."""
    if not _DEVICE.fullmatch(text):
        raise ValueError("expected a torch device: cpu, cuda or cuda:0")
    return text


def declared(arguments: Mapping[str, Argument]) -> list[DeclareLaunchArgument]:
    """Launch arguments of these names."""
    return [
        DeclareLaunchArgument(name, default_value=argument.default, description=argument.text)
        for name, argument in arguments.items()
    ]


def given(arguments: Mapping[str, Argument], file: str, context: Any) -> dict[str, Any]:
    """Value of each argument.

    Args:
        arguments: of the launch file.
        file: path of the launch file. Where it was named on the command line, and not included by
            another one, arguments that it does not have are refused.
        context: of the launch.

    Raises:
        ConfigError: a value cannot be used, or an argument is unknown.
    """
    if Path(file).name in {Path(word).name for word in sys.argv}:
        for word in context.argv:
            name = word.partition(":=")[0]
            if name not in (*arguments, *_OF_LAUNCH):
                raise ConfigError(f"unknown argument '{name}'.{suggest(name, arguments)}")
    values = {}
    for name, argument in arguments.items():
        text = str(LaunchConfiguration(name).perform(context))
        try:
            values[name] = "" if argument.optional and not text else argument.read(text)
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise ConfigError(f"{name}:={text}: {error}") from error
    return values


def actions_of(
    specs: Sequence[NodeSpec], context: Any, namespace: str = "", beside: Sequence[Node] = ()
) -> list[Any]:
    """Nodes of the table, which end together, and nothing else of the launch with them.

    They end when one that is required ends, or the one that ends the run. Where that had failed,
    the launch says so again at its end, and returns 1.

    Args:
        specs: of the table.
        context: of the launch.
        namespace: of all nodes.
        beside: further nodes, which end with these.

    Raises:
        ConfigError: an executable is not installed.
    """
    for spec in specs:
        check_installed(spec.package, spec.executable, context)
    directory = Path(tempfile.mkdtemp(prefix="wm_planner_parameters_"))
    nodes = [_node(spec, namespace, directory) for spec in specs]
    graph = _Graph([*nodes, *beside])
    ends = [
        RegisterEventHandler(OnProcessExit(target_action=node, on_exit=graph.end_with(spec)))
        for spec, node in zip(specs, nodes, strict=True)
        if spec.required or spec.ends_run
    ]
    return [*ends, *graph.nodes]


def check_installed(package: str, executable: str, context: Any, way_out: str = "") -> None:
    """Before anything is started: a launch that fails half-way leaves half a graph behind.

    Raises:
        ConfigError: ``ros2 launch`` would not find it; `way_out` says what to do about it.
    """
    try:
        ExecutableInPackage(package=package, executable=executable).perform(context)
    except (PackageNotFoundError, SubstitutionFailure) as error:
        way_out = way_out or f"build and source the workspace that holds '{package}'"
        raise ConfigError(f"{executable} of package '{package}': {error}; {way_out}") from error


def _node(spec: NodeSpec, namespace: str, parameters: Path) -> Node:
    words = with_parent([])  # no node drives on when the launch was killed
    prefix = [f"{shlex.join(words)} "] if words else []
    return (LifecycleNode if spec.managed else Node)(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        exec_name=spec.name,
        namespace=namespace,
        parameters=[str(write_parameters(spec.name, spec.parameters, parameters))],
        remappings=list(spec.remappings.items()),
        ros_arguments=enclave_arguments(spec.name, os.environ),
        prefix=[*prefix, LaunchConfiguration("launch-prefix", default="")],
        output="screen",
        respawn=spec.respawn,
        respawn_delay=1.0,
    )


class _Graph:
    """Nodes that end together, once."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = list(nodes)
        self._ending = False

    def end_with(self, spec: NodeSpec) -> Callable[[Any, Any], list[Any]]:
        """What is done when the process of `spec` ends."""

        def on_exit(event: Any, context: Any) -> list[Any]:
            code = event.returncode
            if context.is_shutdown or self._ending:
                return []  # it ends because all end
            self._ending = True
            if code == 0:
                why = f"{spec.name} has ended: so do the nodes beside it"
            else:
                why = f"{spec.name} ended early, with exit code {code}; its log says why"
                # Behind those of the processes, which an error would keep from ending.
                context.register_event_handler(OnShutdown(on_shutdown=_fail(why)), append=True)
            end = ShutdownProcess(process_matcher=lambda process: process in self.nodes)
            return [LogInfo(msg=why), EmitEvent(event=end)]

        return on_exit


def _fail(why: str) -> Callable[[Any, Any], None]:
    """An error, at which the launch returns 1."""

    def on_shutdown(_event: Any, _context: Any) -> None:
        raise RuntimeError(why)

    return on_shutdown
