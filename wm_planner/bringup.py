"""The one table of what runs together: launch files and the bare-machine start both read it.

It knows neither torch nor ROS.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from wm_planner.config import to_dict
from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError
from wm_planner.models.catalog import CARD, embodiment_of_card, read_card, resolve_checkpoint
from wm_planner.robot import (
    DESCRIPTION,
    INTERFACE,
    PositionLimits,
    RobotFile,
    guard_after_s,
    observation_topic,
)
from wm_planner.robot_state import plain_states

CLOCK = {"/clock": "clock"}  # rclpy listens to the first; the second is within the namespace


def enclave_arguments(node: str, environment: Mapping[str, str]) -> list[str]:
    """ROS arguments that give a node its own keys, where the environment turns SROS2 on."""
    on = environment.get("ROS_SECURITY_ENABLE") == "true"  # rcl takes no other spelling
    return ["--enclave", f"/wm_planner/{node}"] if on else []


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
        remappings: from this package's topic names to the robot's.
        managed: it is a lifecycle node.
        respawn: it is started again when it ends by itself.
    """

    name: str
    module: str
    executable: str
    parameters: dict[str, Any]
    required: bool = True
    ends_run: bool = False
    package: str = "wm_planner"
    remappings: dict[str, str] = field(default_factory=dict)
    managed: bool = False
    respawn: bool = False


@dataclass(frozen=True)
class RunOptions:
    """How a robot is brought up.

    Attributes:
        output: directory whose 'bags' receives the bags.
        bags: directory that receives them instead.
        checkpoint: variant, shipped name or directory; empty: nothing plans.
        record: write bags.
        explore: parameters of the explorer, which then commands in the planner's place; or None.
        control: the controller runs: something may move the robot.
        activate: the controller activates itself. Never on hardware, unless a person asked for it.
        goal: directory or picture of the goal; empty: wait for the topic.
        lockstep: the simulator waits for every command.
        seed: of the planner's and the explorer's random generator.
        imagine: draw what the model expects.
        markers: draw the plan for RViz.
        versions: directory that receives new versions of the checkpoint; empty: none.
    """

    output: str = "runs/robot"
    bags: str = ""
    checkpoint: str = ""
    record: bool = True
    explore: dict[str, Any] | None = None
    control: bool = True
    activate: bool = False
    goal: str = ""
    lockstep: bool = False
    seed: int = 0
    imagine: bool = True
    markers: bool = False
    versions: str = ""


def bring_up(robot: RobotFile, options: RunOptions) -> list[NodeSpec]:
    """Driver (where the file names one), cameras, planner or explorer, controller with its guard,
    recorder.

    On hardware the controller waits to be activated by a person, unless `options.activate`.

    Raises:
        WmPlannerError: the checkpoint is unknown or of another embodiment, or there is no home to
            explore from.
    """
    body = robot.embodiment
    common: dict[str, Any] = {}
    if options.lockstep:
        common = {"lockstep": True, "use_sim_time": True}
    nodes = [*driver_of(robot), *_cameras(robot, common)]
    if options.checkpoint:
        check_checkpoint(body, options.checkpoint)
        nodes.append(_planner(robot, options, common))
    if options.explore is not None:
        nodes.append(_explorer(robot, options))
    if options.control:
        nodes.append(_controller(robot, options, common))
        if _is_guarded(robot, options):
            nodes.append(_guard(robot))
    if options.record:
        nodes.append(_recorder(robot, options))
    if options.markers:
        nodes.append(_markers(robot))
    if options.lockstep:  # each simulation in its namespace has a clock of its own
        nodes = [replace(node, remappings=node.remappings | CLOCK) for node in nodes]
    return nodes


def driver_of(robot: RobotFile) -> list[NodeSpec]:
    """The process that stands for the robot; none where it runs already."""
    driver = robot.driver
    if driver is None:
        return []
    executable = driver.module.rpartition(".")[2]
    parameters = dict(driver.parameters)
    return [NodeSpec(driver.name, driver.module, executable, parameters, package=driver.package)]


def check_checkpoint(body: Embodiment, checkpoint: str) -> None:
    """Raises:
    CheckpointError: no such checkpoint.
    ConfigError: it is of another embodiment; the message names the difference.
    """
    directory = resolve_checkpoint(checkpoint, body.name)
    trained = embodiment_of_card(read_card(directory / CARD), directory)
    difference = body.difference(trained)
    if difference is not None:
        raise ConfigError(
            f"checkpoint {directory}: was trained on '{trained.name}', which is not this robot, "
            f"'{body.name}': {difference}. Train one on this robot's recordings "
            "('wm-planner train'), and name it by --checkpoint or 'checkpoint' of the robot file"
        )


def _cameras(robot: RobotFile, common: dict[str, Any]) -> list[NodeSpec]:
    body, nodes = robot.embodiment, []
    simulated = robot.driver is not None
    for name, source in robot.cameras.items():
        topic = observation_topic(body, name)
        parameters: dict[str, Any] = {**common, "size": source.size, "source": source.source}
        if source.crop is not None:
            parameters["crop"] = list(source.crop)
        if source.source != "topic":
            parameters["rate_hz"] = source.rate_hz
        if simulated:
            parameters["fail_after_s"] = 0.0
        single = len(body.cameras) == 1
        spec = NodeSpec(
            "camera_node" if single else f"camera_{name}",
            "wm_planner.nodes.camera_node",
            "camera_node",
            parameters,
            required=not source.optional,
            remappings=_remappings({"camera/image_raw": source.topic, "observation/image": topic}),
        )
        nodes.append(spec)
    return nodes


def _planner(robot: RobotFile, options: RunOptions, common: dict[str, Any]) -> NodeSpec:
    parameters = {
        **common,
        "embodiment": json.dumps(robot.embodiment.to_json()),
        "checkpoint": options.checkpoint,
        "versions": options.versions,
        "planner": robot.planner,
        "settings": list(robot.settings) or [""],
        "seed": options.seed,
        "device": robot.device,
        "goal": options.goal,
        "imagine": options.imagine,
        "camera_check": json.dumps(asdict(robot.camera_check)),
        "autostart": True,
    }
    return _node("planner_node", parameters, remappings=remappings(robot), managed=True)


def _explorer(robot: RobotFile, options: RunOptions) -> NodeSpec:
    if not robot.home and not robot.action.is_twist:
        raise ConfigError(
            f"robot '{robot.name}': key 'home' is missing in its file: exploring goes back there "
            f"between episodes; write home: [...], one position for each of "
            f"{', '.join(robot.action.names)}"
        )
    parameters: dict[str, Any] = {
        "embodiment": json.dumps(robot.embodiment.to_json()),
        "home": list(robot.home) or [0.0],
        "seed": options.seed,
        "recorder": "finetune_node" if options.record else "",
        **(options.explore or {}),
    }
    if isinstance(robot.position_limits, PositionLimits):
        parameters["position_low"] = list(robot.position_limits.low)
        parameters["position_high"] = list(robot.position_limits.high)
    elif robot.position_limits == DESCRIPTION and not robot.action.is_twist:
        parameters["use_description"] = True
    node = _node("explore_node", parameters, remappings=remappings(robot))
    return replace(node, ends_run=True)


def _controller(robot: RobotFile, options: RunOptions, common: dict[str, Any]) -> NodeSpec:
    action, limits = robot.action, robot.position_limits
    parameters = {
        **common,
        "action_names": list(action.names),
        "kind": action.kind,
        "low": list(action.low),
        "high": list(action.high),
        "max_rate": list(action.max_rate) or [0.0] * action.size,
        "safe_action": _safe_action(robot),
        "integrate": robot.command.integrate,
        "tracking_error": robot.command.tracking_error,
        "control_dt_s": robot.control_dt_s,
        "stale_after_s": robot.stale_after_s,
        "adapter": robot.command.adapter,
        "frame_id": robot.command.frame_id,
        "guarded": _is_guarded(robot, options),
        "autostart": options.activate,
    }
    if isinstance(limits, PositionLimits):
        parameters["position_low"] = list(limits.low)
        parameters["position_high"] = list(limits.high)
    elif limits is not None:
        parameters["position_limits"] = limits
    if robot.workspace is not None:
        box = to_dict(robot.workspace)
        parameters |= {f"workspace_{key}": value for key, value in box.items()}
    if robot.collision_distance is not None:
        parameters["self_collision"] = robot.collision_distance
        parameters["home"] = list(robot.home) or [0.0]
    if robot.state:
        parameters["robot_state"] = json.dumps(plain_states(robot.state))
    if options.lockstep:
        parameters["rows_per_plan"] = robot.frame_skip
    body = robot.embodiment
    needed = next(camera for camera in body.cameras if not camera.optional)
    seen = observation_topic(body, needed.name)  # its age is that of the observation
    return _node(
        "controller_node",
        parameters,
        remappings=_remappings({"command": robot.command.topic, "observation/image": seen})
        | remappings(robot),
        managed=True,
    )


def _is_guarded(robot: RobotFile, options: RunOptions) -> bool:
    """Whether the robot goes on with its last velocity or effort when its controller dies."""
    return not options.lockstep and not robot.sends_positions


def _guard(robot: RobotFile) -> NodeSpec:
    dt_s = robot.control_dt_s
    parameters = {
        "action_names": list(robot.action.names),
        "safe_action": _safe_action(robot),
        "adapter": robot.command.adapter,
        "interface": INTERFACE[robot.action.kind],
        "frame_id": robot.command.frame_id,
        "control_dt_s": dt_s,
        "after_s": guard_after_s(dt_s, robot.stale_after_s),
    }
    topics = _remappings({"command": robot.command.topic}) | remappings(robot)
    node = _node("command_guard", parameters, required=False, remappings=topics)
    return replace(node, respawn=True)


def _safe_action(robot: RobotFile) -> list[float]:
    """What stops the robot: zero, or the bound that is nearest, unless its file says another."""
    action = robot.action
    rest = [min(max(0.0, low), high) for low, high in zip(action.low, action.high, strict=True)]
    return list(robot.safe_action or rest)


def _recorder(robot: RobotFile, options: RunOptions) -> NodeSpec:
    parameters: dict[str, Any] = {
        "lockstep": options.lockstep,
        "output": options.bags or str(Path(options.output) / "bags"),
        "compress": robot.record.compress,
        "budget_gb": robot.record.budget_gb,
        "embodiment": json.dumps(robot.embodiment.to_json()),
    }
    if options.checkpoint:
        directory = resolve_checkpoint(options.checkpoint, robot.name)
        parameters["checkpoint"] = options.checkpoint
        parameters["checkpoint_sha256"] = read_card(directory / CARD)["sha256"]
        parameters["planner_settings"] = json.dumps(
            {"solver": robot.planner, "settings": list(robot.settings), "seed": options.seed}
        )
    if robot.state:
        parameters["robot_state"] = json.dumps(plain_states(robot.state))
    # While the controller runs, they are an operator's who takes over in between.
    if robot.record.commands and (
        not options.control or robot.record.commands != robot.command.topic
    ):
        parameters["commands"] = robot.record.commands
        parameters["commands_names"] = list(robot.record.names) or [""]
        if robot.sends_positions:
            parameters["commands_carry"] = "position"
    return _node("finetune_node", parameters, required=False, remappings=remappings(robot))


def _markers(robot: RobotFile) -> NodeSpec:
    parameters: dict[str, Any] = {
        "embodiment": json.dumps(robot.embodiment.to_json()),
        "tip": "" if robot.workspace is None else robot.workspace.link,
        "frame_id": robot.command.frame_id or "base_link",
    }
    return _node("marker_node", parameters, required=False, remappings=remappings(robot))


def remappings(robot: RobotFile) -> dict[str, str]:
    """From this package's topic names to the robot's, for every node beside its cameras."""
    return _remappings({"joint_states": robot.joint_states}) | robot.topics


def _remappings(topics: dict[str, str]) -> dict[str, str]:
    """Without those that change nothing."""
    return {name: topic for name, topic in topics.items() if topic and topic != name}


def _node(
    name: str,
    parameters: dict[str, Any],
    required: bool = True,
    remappings: dict[str, str] | None = None,
    managed: bool = False,
) -> NodeSpec:
    return NodeSpec(
        name,
        f"wm_planner.nodes.{name}",
        name,
        parameters,
        required,
        remappings=remappings or {},
        managed=managed,
    )
