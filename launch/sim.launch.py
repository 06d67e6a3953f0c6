"""ros2 launch wm_planner sim.launch.py task:=wall planner:=gbp rviz:=false"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from wm_planner.bringup import SimOptions, simulation
from wm_planner.tasks import task_names

ARGUMENTS = {
    "task": ("wall", ", ".join(task_names())),
    "planner": ("gbp", "gbp, cem, mppi, gradient-cem or lbfgs"),
    "checkpoint": ("base", "shipped variant, shipped name, or directory"),
    "clock": ("lockstep", "lockstep or realtime"),
    "episodes": ("1", "episodes to run"),
    "seed": ("0", "seed of problems and planner"),
    "record": ("true", "one bag per episode"),
    "output": ("runs/sim", "directory that receives the bags"),
    "rviz": ("false", "show camera, goal, imagination and plan"),
}


def _shut_down(name):
    """All ends when this node does; what ends because all ends says nothing more."""

    def on_exit(event, context):
        if context.is_shutdown:
            return []
        return [EmitEvent(event=Shutdown(reason=f"{name} ended"))]

    return on_exit


def _start(context):
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    options = SimOptions(
        task=value["task"],
        planner=value["planner"],
        checkpoint=value["checkpoint"],
        lockstep=value["clock"] == "lockstep",
        episodes=int(value["episodes"]),
        seed=int(value["seed"]),
        record=value["record"].lower() == "true",
        output=value["output"],
    )
    actions = []
    for spec in simulation(options):
        node = Node(
            package=spec.package,
            executable=spec.executable,
            name=spec.name,
            parameters=[spec.parameters],
            output="screen",
        )
        actions.append(node)
        if spec.required:
            ended = OnProcessExit(target_action=node, on_exit=_shut_down(spec.name))
            actions.append(RegisterEventHandler(ended))
    if value["rviz"].lower() == "true":
        view = Path(get_package_share_directory("wm_planner")) / "rviz" / "wm_planner.rviz"
        actions.append(Node(package="rviz2", executable="rviz2", arguments=["-d", str(view)]))
    return actions


def generate_launch_description():
    """Arguments, then the nodes of the bringup table."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_start)])
