"""What both launch files do with the table of what runs together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from wm_planner.bringup import NodeSpec, enclave_arguments
from wm_planner.errors import ConfigError
from wm_planner.parameter_file import write_parameters


def declared(arguments: Mapping[str, tuple[str, str]]) -> list[DeclareLaunchArgument]:
    """Launch arguments of these names, each with its default and a description."""
    return [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in arguments.items()
    ]


class Given:
    """What a launch file was told.

    Args:
        context: of the launch.
    """

    def __init__(self, context: Any) -> None:
        self._context = context

    def text(self, name: str) -> str:
        """An argument as it was typed."""
        return str(LaunchConfiguration(name).perform(self._context))

    def choice(self, name: str, *choices: str) -> str:
        """One of these, in any case of its letters.

        Raises:
            ConfigError: it is another word.
        """
        text = self.text(name).lower()
        if text not in choices:
            raise ConfigError(f"{name}:={self.text(name)}: expected {' or '.join(choices)}")
        return text

    def flag(self, name: str) -> bool:
        """Whether it is 'true'.

        Raises:
            ConfigError: it is neither 'true' nor 'false'.
        """
        return self.choice(name, "true", "false") == "true"

    def number(self, name: str, kind: Callable[[str], Any] = int) -> Any:
        """A number of a kind.

        Raises:
            ConfigError: it is none.
        """
        try:
            return kind(self.text(name))
        except ValueError as error:
            what = "a whole number" if kind is int else "a number"
            raise ConfigError(f"{name}:={self.text(name)}: expected {what}") from error


def actions_of(specs: Sequence[NodeSpec], namespace: str = "") -> list[Any]:
    """Nodes of the table, in a namespace; all end when one that is required does."""
    actions: list[Any] = []
    directory = Path(tempfile.mkdtemp(prefix="wm_planner_parameters_"))
    for spec in specs:
        node = (LifecycleNode if spec.managed else Node)(
            package=spec.package,
            executable=spec.executable,
            name=spec.name,
            namespace=namespace,
            parameters=[str(write_parameters(spec.name, spec.parameters, directory))],
            remappings=list(spec.remappings.items()),
            ros_arguments=enclave_arguments(spec.name, os.environ),
            output="screen",
            respawn=spec.respawn,
            respawn_delay=1.0,
        )
        actions.append(node)
        if spec.required:
            ended = OnProcessExit(target_action=node, on_exit=_shut_down(spec.name))
            actions.append(RegisterEventHandler(ended))
    return actions


def _shut_down(name: str) -> Callable[[Any, Any], list[EmitEvent]]:
    """All ends when this node does; what ends because all ends says nothing more."""

    def on_exit(_event: Any, context: Any) -> list[EmitEvent]:
        if context.is_shutdown:
            return []
        return [EmitEvent(event=Shutdown(reason=f"{name} ended"))]

    return on_exit
