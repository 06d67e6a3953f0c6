"""ros2 launch wm_planner robot.launch.py robot:=my_arm.yaml

Camera, planner, controller and recorder. The controller stays disabled until you say
``ros2 lifecycle set /controller_node configure`` and ``... activate``. When the camera, the
planner or the controller ends, all end: the controller's last message is the safe command.
"""

import dataclasses

from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from launch import LaunchDescription
from wm_planner.bringup import read_robot, robot

OVERRIDES = {
    "checkpoint": "variant, shipped name or directory",
    "planner": "solver",
    "goal_image": "picture of the goal",
    "device": "torch device",
}


def _start(context):
    given = {name: LaunchConfiguration(name).perform(context) for name in OVERRIDES}
    config = read_robot(LaunchConfiguration("robot").perform(context))
    config = dataclasses.replace(config, **{name: text for name, text in given.items() if text})
    output = LaunchConfiguration("output").perform(context)
    actions = []
    for spec in robot(config, output):
        managed = spec.name in ("planner_node", "controller_node")
        kind = LifecycleNode if managed else Node
        extra = {"namespace": ""} if managed else {}
        node = kind(
            package=spec.package,
            executable=spec.executable,
            name=spec.name,
            parameters=[spec.parameters],
            remappings=list(config.topics.items()),
            output="screen",
            **extra,
        )
        actions.append(node)
        if spec.required:
            ended = OnProcessExit(
                target_action=node, on_exit=[EmitEvent(event=Shutdown(reason=f"{spec.name} ended"))]
            )
            actions.append(RegisterEventHandler(ended))
    return actions


def generate_launch_description():
    """Arguments, then the nodes of the bringup table."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("robot", description="robot file, see config/robots"),
            DeclareLaunchArgument("output", default_value="runs/robot", description="bags"),
            *(
                DeclareLaunchArgument(
                    name, default_value="", description=f"{text}; empty: as in the robot file"
                )
                for name, text in OVERRIDES.items()
            ),
            OpaqueFunction(function=_start),
        ]
    )
