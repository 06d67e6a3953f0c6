"""ros2 launch wm_planner sim.launch.py task:=wall planner:=gbp rviz:=false"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from launch import LaunchDescription
from wm_planner.cli.parser import seed, written
from wm_planner.launching import (
    Argument,
    actions_of,
    check_installed,
    choice,
    declared,
    flag,
    given,
    namespace,
    whole_from,
)
from wm_planner.registry import listed, names_of
from wm_planner.simulation import SimOptions, simulation
from wm_planner.tasks import task_names

SOLVERS = "wm_planner.solvers"
ARGUMENTS = {
    "task": Argument("wall", ", ".join(task_names()), choice(*task_names())),
    "planner": Argument("gbp", f"solver: {listed(SOLVERS)}", choice(*names_of(SOLVERS))),
    "checkpoint": Argument("base", "shipped variant, shipped name, or directory"),
    "clock": Argument("lockstep", "lockstep or realtime", choice("lockstep", "realtime")),
    "episodes": Argument("1", "episodes to run", whole_from(1)),
    "seed": Argument("0", "seed of targets and planner", seed),
    "record": Argument("true", "true or false: one bag per episode", flag),
    "output": Argument("runs/sim", "directory that receives the bags", written),
    "namespace": Argument(
        "", "of all nodes: two simulations in one graph need one each", namespace, optional=True
    ),
    "rviz": Argument("false", "true or false: show camera, goal, imagination and plan", flag),
}
NO_RVIZ = (
    "install it (ros-$ROS_DISTRO-rviz2), or leave rviz:=true out: 'wm-planner view' shows the run "
    "in a browser"
)


def _start(context):
    values = given(ARGUMENTS, __file__, context)
    options = SimOptions(
        task=values["task"],
        planner=values["planner"],
        checkpoint=values["checkpoint"],
        lockstep=values["clock"] == "lockstep",
        episodes=values["episodes"],
        seed=values["seed"],
        record=values["record"],
        output=str(values["output"]),
        markers=values["rviz"],
    )
    beside = []
    if values["rviz"]:
        check_installed("rviz2", "rviz2", context, NO_RVIZ)
        view = Path(get_package_share_directory("wm_planner")) / "rviz" / "wm_planner.rviz"
        names = {"namespace": values["namespace"], "arguments": ["-d", str(view)]}
        beside.append(Node(package="rviz2", executable="rviz2", **names))
    return actions_of(simulation(options), context, values["namespace"], beside)


def generate_launch_description():
    """Arguments, then the nodes of the bringup table."""
    return LaunchDescription([*declared(ARGUMENTS), OpaqueFunction(function=_start)])
