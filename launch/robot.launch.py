"""ros2 launch wm_planner robot.launch.py robot:=my_arm.yaml

Camera, planner, controller and recorder. The controller stays disabled until you say
``ros2 lifecycle set /controller_node configure`` and ``... activate``. With ``explore:=N`` random
motion takes the planner's place for N episodes. When the camera, the planner or the controller
ends, all end: the controller's last message is the safe command.
"""

import dataclasses

from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from launch import LaunchDescription
from wm_planner.bringup import RunOptions, bring_up
from wm_planner.errors import ConfigError
from wm_planner.robot import read_robot

OVERRIDES = {
    "checkpoint": "variant, shipped name or directory; none: nothing plans",
    "planner": "solver",
    "device": "torch device",
}
ARGUMENTS = {
    "goal": ("", "goal's directory or picture; empty: wait for the topic goal/image"),
    "record": ("true", "true or false: one bag per episode"),
    "output": ("runs/robot", "directory that receives the bags"),
    "explore": ("0", "episodes of random motion once the controller is activated; 0: none"),
    "seconds": ("25.0", "length of each of them"),
}


def _shut_down(name):
    """All ends when this node does; what ends because all ends says nothing more."""

    def on_exit(event, context):
        if context.is_shutdown:
            return []
        return [EmitEvent(event=Shutdown(reason=f"{name} ended"))]

    return on_exit


def _start(context):
    def given(name):
        return LaunchConfiguration(name).perform(context)

    robot = read_robot(given("robot"))
    changes = {name: given(name) for name in OVERRIDES}
    robot = dataclasses.replace(robot, **{name: text for name, text in changes.items() if text})
    if given("record") not in ("true", "false"):
        raise ConfigError(f"record:={given('record')}: expected true or false")
    explore = None
    if given("explore") != "0":
        try:
            explore = {"episodes": int(given("explore")), "seconds": float(given("seconds"))}
        except ValueError as error:
            raise ConfigError(f"explore:= and seconds:= are numbers: {error}") from error
    options = RunOptions(
        output=given("output"),
        checkpoint=robot.checkpoint if explore is None else "",
        record=given("record") == "true",
        explore=explore,
        control=bool(robot.checkpoint) or explore is not None,
        goal=given("goal"),
    )
    actions = []
    for spec in bring_up(robot, options):
        kind = LifecycleNode if spec.managed else Node
        extra = {"namespace": ""} if spec.managed else {}
        node = kind(
            package=spec.package,
            executable=spec.executable,
            name=spec.name,
            parameters=[spec.parameters],
            remappings=list(spec.remappings.items()),
            output="screen",
            **extra,
        )
        actions.append(node)
        if spec.required:
            ended = OnProcessExit(target_action=node, on_exit=_shut_down(spec.name))
            actions.append(RegisterEventHandler(ended))
    return actions


def generate_launch_description():
    """Arguments, then the nodes of the bringup table."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("robot", description="robot file, see config/robots"),
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            *(
                DeclareLaunchArgument(
                    name, default_value="", description=f"{text}; empty: as in the robot file"
                )
                for name, text in OVERRIDES.items()
            ),
            OpaqueFunction(function=_start),
        ]
    )
