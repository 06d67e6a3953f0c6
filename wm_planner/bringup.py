"""The one table of what runs together: launch files and the bare-machine start both read it.

It knows neither torch nor ROS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wm_planner.config import from_yaml
from wm_planner.models.catalog import CARD, read_card, resolve_checkpoint
from wm_planner.tasks import get_task

# What a simulated robot's commands are, by task.
SIM_INTERFACE = {
    "wall": "velocity",
    "point_maze": "effort",
    "pusht": "velocity",
    "gym_point_maze": "effort",
    "gym_pusht": "velocity",
}


@dataclass(frozen=True)
class NodeSpec:
    """One process.

    Attributes:
        name: node name.
        module: Python module with a ``main``.
        executable: installed executable of the same.
        parameters: ROS parameters.
        required: the run is over with an error when it ends early.
        ends_run: the run is over, well, when it ends with exit code 0.
        package: package that installs the executable.
    """

    name: str
    module: str
    executable: str
    parameters: dict[str, Any]
    required: bool = True
    ends_run: bool = False
    package: str = "wm_planner"


@dataclass(frozen=True)
class SimOptions:
    """What a simulated run can be told; `output` receives the bags, and `listeners` are further
    nodes that it waits for (see `ros.ready`).
    """

    task: str
    planner: str = "gbp"
    checkpoint: str = "base"
    lockstep: bool = True
    episodes: int = 1
    seed: int = 0
    record: bool = True
    output: str = "runs/sim"
    settings: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()


@dataclass(frozen=True)
class RobotConfig:
    """One real robot, as in ``config/robots/*.yaml``: topics, limits, rate, adapter.

    Attributes:
        task: task whose checkpoint plans.
        checkpoint: variant, shipped name or directory.
        topics: remappings from the package's topic names to the robot's.
        camera: parameters of the camera node.
        proprio: '<joint>/<field>' of joint_states, in the task's order.
        action_names: joints or twist axes.
        adapter: forward, joint_trajectory or twist.
        command_interface: position, velocity or effort.
        low, high: bounds, physical units.
        max_rate: largest change, units per second; 0 for none.
        safe_action: sent when a plan must not be followed.
        hold: the safe action is where the robot is (position robots).
        stale_after_s: greatest age of plan and observation, seconds.
        frame_id: frame of a twist.
        goal_image: picture of the goal; empty: wait for the topic.
        planner: solver.
        settings: planner settings, 'key=value'.
        device: torch device.
    """

    task: str
    proprio: tuple[str, ...]
    action_names: tuple[str, ...]
    adapter: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    max_rate: tuple[float, ...]
    safe_action: tuple[float, ...]
    stale_after_s: float
    checkpoint: str = "base"
    topics: dict = field(default_factory=dict)
    camera: dict = field(default_factory=dict)
    command_interface: str = "velocity"
    hold: bool = False
    frame_id: str = ""
    goal_image: str = ""
    planner: str = "gbp"
    settings: tuple[str, ...] = ()
    device: str = "cpu"


def simulation(options: SimOptions) -> list[NodeSpec]:
    """Simulated robot, camera, planner, controller and, on request, the recorder.

    Raises:
        WmPlannerError: unknown task or checkpoint.
    """
    task = get_task(options.task)
    size = _image_size(options.checkpoint, options.task)
    interface = SIM_INTERFACE[task.name]
    common = {"lockstep": options.lockstep, "use_sim_time": options.lockstep}
    nodes = [
        _node("camera_node", {**common, "size": size, "fail_after_s": 0.0}),
        _node(
            "planner_node",
            {
                **common,
                "task": task.name,
                "checkpoint": options.checkpoint,
                "planner": options.planner,
                "settings": list(options.settings) or [""],
                "seed": options.seed,
                "image_size": size,
                "action_names": list(task.action_names),
                "command_interface": interface,
                "autostart": True,
            },
        ),
        _node(
            "controller_node",
            {
                **common,
                "action_names": list(task.action_names),
                "low": list(task.action_low),
                "high": list(task.action_high),
                "max_rate": [0.0] * task.action_size,
                "safe_action": [0.0] * task.action_size,
                "control_dt_s": task.control_dt_s,
                "stale_after_s": 3 * task.model_dt_s,
                "command_interface": interface,
                "rows_per_plan": task.frame_skip,
                "autostart": True,
            },
        ),
    ]
    if options.record:
        bags = str(Path(options.output) / "bags")
        nodes.append(
            _node("finetune_node", {"lockstep": options.lockstep, "output": bags}, required=False)
        )
    recorder = "finetune_node" if options.record else ""
    bridge = {
        "task": task.name,
        "episodes": options.episodes,
        "seed": options.seed,
        "image_size": size,
        "lockstep": options.lockstep,
        "command_interface": interface,
        "wait_for_nodes": [node.name for node in nodes],
        "wait_for_listeners": [*options.listeners, recorder],
        "recorder": recorder,
    }
    module = "sim_bridge.bridge_node"
    return [*nodes, NodeSpec("bridge_node", module, "bridge_node", bridge, ends_run=True)]


def robot(config: RobotConfig, output: str = "runs/robot") -> list[NodeSpec]:
    """Camera, planner, controller and recorder for real hardware; the controller waits to be
    activated by hand.

    Raises:
        WmPlannerError: unknown task or checkpoint.
    """
    task = get_task(config.task)
    size = _image_size(config.checkpoint, config.task)
    return [
        _node("camera_node", {"size": size, **config.camera}),
        _node(
            "planner_node",
            {
                "task": task.name,
                "checkpoint": config.checkpoint,
                "planner": config.planner,
                "settings": list(config.settings) or [""],
                "device": config.device,
                "image_size": size,
                "goal_image": config.goal_image,
                "proprio": list(config.proprio),
                "action_names": list(config.action_names),
                "command_interface": config.command_interface,
                "autostart": True,
            },
        ),
        _node(
            "controller_node",
            {
                "action_names": list(config.action_names),
                "low": list(config.low),
                "high": list(config.high),
                "max_rate": list(config.max_rate),
                "safe_action": list(config.safe_action),
                "hold": config.hold,
                "control_dt_s": task.control_dt_s,
                "stale_after_s": config.stale_after_s,
                "adapter": config.adapter,
                "command_interface": config.command_interface,
                "frame_id": config.frame_id,
                "autostart": False,
            },
        ),
        _node("finetune_node", {"output": str(Path(output) / "bags")}, required=False),
    ]


def read_robot(path: Path | str) -> RobotConfig:
    """Read a robot file.

    Raises:
        ConfigError: missing file, unknown or missing key, wrong type.
    """
    return from_yaml(RobotConfig, path)


def _node(name: str, parameters: dict[str, Any], required: bool = True) -> NodeSpec:
    return NodeSpec(name, f"wm_planner.nodes.{name}", name, parameters, required)


def _image_size(checkpoint: str, task: str) -> int:
    card = read_card(resolve_checkpoint(checkpoint, task) / CARD)
    return int(card["preprocess"]["image_size"])
