"""ros2 launch wm_planner robot.launch.py robot:=my_arm.yaml

Camera, planner, controller with its guard, and recorder. The controller stays disabled until you
say ``ros2 lifecycle set /controller_node configure`` and ``... activate``. With ``explore:=N``
random motion takes the planner's place for N episodes. When the camera, the planner or the
controller ends, all end: the controller's last message is the safe command.
"""

import dataclasses

from launch.actions import OpaqueFunction

from launch import LaunchDescription
from wm_planner.bringup import RunOptions, bring_up
from wm_planner.cli.parser import path, written
from wm_planner.data.goal_file import load_goal
from wm_planner.launching import (
    Argument,
    actions_of,
    choice,
    declared,
    device,
    flag,
    given,
    namespace,
    number_within,
    whole_from,
)
from wm_planner.registry import listed, names_of
from wm_planner.robot import read_robot

SOLVERS = "wm_planner.solvers"
AS_IN_FILE = "; empty: as in the robot file"
OVERRIDES = {
    "checkpoint": Argument(
        "", f"variant, shipped name or directory; none: nothing plans{AS_IN_FILE}", optional=True
    ),
    "planner": Argument(
        "", f"solver: {listed(SOLVERS)}{AS_IN_FILE}", choice(*names_of(SOLVERS)), optional=True
    ),
    "device": Argument("", f"torch device{AS_IN_FILE}", device, optional=True),
}
ARGUMENTS = {
    "robot": Argument(None, "robot file, see config/robots", path),
    "goal": Argument(
        "", "goal's directory or picture; empty: wait for the topic goal/image", path, optional=True
    ),
    "record": Argument("true", "true or false: one bag per episode", flag),
    "output": Argument("runs/robot", "directory that receives the bags", written),
    "explore": Argument(
        "0", "episodes of random motion once the controller is activated; 0: none", whole_from(0)
    ),
    "seconds": Argument("25.0", "length of each of them", number_within(0.1, 36000)),
    "namespace": Argument(
        "", "of all nodes: two robots in one graph need one each", namespace, optional=True
    ),
    "markers": Argument("false", "true or false: draw the plan for RViz, on plan/markers", flag),
    **OVERRIDES,
}


def _start(context):
    values = given(ARGUMENTS, __file__, context)
    robot = read_robot(values["robot"])
    changes = {name: values[name] for name in OVERRIDES if values[name]}
    robot = dataclasses.replace(robot, **changes)
    explore = None
    if values["explore"]:
        explore = {"episodes": values["explore"], "seconds": values["seconds"]}
    if values["goal"]:
        load_goal(values["goal"], robot.embodiment)
    options = RunOptions(
        output=str(values["output"]),
        checkpoint=robot.checkpoint if explore is None else "",
        record=values["record"],
        explore=explore,
        control=bool(robot.checkpoint) or explore is not None,
        goal=str(values["goal"]),
        markers=values["markers"],
    )
    return actions_of(bring_up(robot, options), context, values["namespace"])


def generate_launch_description():
    """Arguments, then the nodes of the bringup table."""
    return LaunchDescription([*declared(ARGUMENTS), OpaqueFunction(function=_start)])
