"""ros2 launch wm_planner robot.launch.py robot:=my_arm.yaml

Camera, planner, controller with its guard, and recorder. The controller stays disabled until you
say ``ros2 lifecycle set /controller_node configure`` and ``... activate``. With ``explore:=N``
random motion takes the planner's place for N episodes. When the camera, the planner or the
controller ends, all end: the controller's last message is the safe command.
"""

import dataclasses

from launch.actions import DeclareLaunchArgument, OpaqueFunction

from launch import LaunchDescription
from wm_planner.bringup import RunOptions, bring_up
from wm_planner.launching import Given, actions_of, declared
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
    "namespace": ("", "of all nodes: two robots in one graph need one each"),
    "markers": ("false", "true or false: draw the plan for RViz, on plan/markers"),
    "seconds": ("25.0", "length of each of them"),
    **{name: ("", f"{text}; empty: as in the robot file") for name, text in OVERRIDES.items()},
}


def _start(context):
    given = Given(context)
    robot = read_robot(given.text("robot"))
    changes = {name: given.text(name) for name in OVERRIDES}
    robot = dataclasses.replace(robot, **{name: text for name, text in changes.items() if text})
    episodes, seconds = given.number("explore"), given.number("seconds", float)
    explore = {"episodes": episodes, "seconds": seconds} if episodes else None
    options = RunOptions(
        output=given.text("output"),
        checkpoint=robot.checkpoint if explore is None else "",
        record=given.flag("record"),
        explore=explore,
        control=bool(robot.checkpoint) or explore is not None,
        goal=given.text("goal"),
        markers=given.flag("markers"),
    )
    return actions_of(bring_up(robot, options), given.text("namespace"))


def generate_launch_description():
    """Arguments, then the nodes of the bringup table."""
    robot = DeclareLaunchArgument("robot", description="robot file, see config/robots")
    return LaunchDescription([robot, *declared(ARGUMENTS), OpaqueFunction(function=_start)])
