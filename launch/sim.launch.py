"""ros2 launch wm_planner sim.launch.py task:=wall planner:=gbp rviz:=false"""

from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from launch import LaunchDescription
from wm_planner.errors import ConfigError
from wm_planner.launching import Given, actions_of, declared
from wm_planner.registry import listed
from wm_planner.simulation import SimOptions, simulation
from wm_planner.tasks import task_names

ARGUMENTS = {
    "task": ("wall", ", ".join(task_names())),
    "planner": ("gbp", f"solver: {listed('wm_planner.solvers')}"),
    "checkpoint": ("base", "shipped variant, shipped name, or directory"),
    "clock": ("lockstep", "lockstep or realtime"),
    "episodes": ("1", "episodes to run"),
    "seed": ("0", "seed of targets and planner"),
    "record": ("true", "true or false: one bag per episode"),
    "output": ("runs/sim", "directory that receives the bags"),
    "namespace": ("", "of all nodes: two simulations in one graph need one each"),
    "rviz": ("false", "true or false: show camera, goal, imagination and plan"),
}


def _start(context):
    given = Given(context)
    options = SimOptions(
        task=given.text("task"),
        planner=given.text("planner"),
        checkpoint=given.text("checkpoint"),
        lockstep=given.choice("clock", "lockstep", "realtime") == "lockstep",
        episodes=given.number("episodes"),
        seed=given.number("seed"),
        record=given.flag("record"),
        output=given.text("output"),
        markers=given.flag("rviz"),
    )
    if given.flag("rviz"):  # looked for now: nodes that run already would drive on
        try:
            get_package_prefix("rviz2")
        except PackageNotFoundError as error:
            raise ConfigError(
                "rviz:=true: rviz2 is not installed; install it (ros-$ROS_DISTRO-rviz2), or leave "
                "rviz:=true out: 'wm-planner view' shows the run in a browser"
            ) from error
    actions = actions_of(simulation(options), given.text("namespace"))
    if given.flag("rviz"):
        view = Path(get_package_share_directory("wm_planner")) / "rviz" / "wm_planner.rviz"
        names = {"namespace": given.text("namespace"), "arguments": ["-d", str(view)]}
        actions.append(Node(package="rviz2", executable="rviz2", **names))
    return actions


def generate_launch_description():
    """Arguments, then the nodes of the bringup table."""
    return LaunchDescription([*declared(ARGUMENTS), OpaqueFunction(function=_start)])
