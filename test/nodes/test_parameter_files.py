"""Parameter files, robot files and the bringup table agree with what the nodes declare."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from sim_bridge.arm_driver import ArmDriverConfig
from sim_bridge.bridge_node import BridgeConfig
from wm_planner.bringup import RunOptions, bring_up
from wm_planner.config import from_dict
from wm_planner.errors import ConfigError
from wm_planner.models.catalog import shipped_checkpoints
from wm_planner.nodes.camera_node import CameraConfig, CameraNode
from wm_planner.nodes.command_guard import GuardConfig
from wm_planner.nodes.controller_node import ControllerConfig
from wm_planner.nodes.explore_node import ExploreConfig
from wm_planner.nodes.finetune_node import FinetuneConfig
from wm_planner.nodes.marker_node import MarkerConfig
from wm_planner.nodes.planner_node import PlannerNodeConfig
from wm_planner.parameter_file import write_parameters
from wm_planner.robot import COLLISION_DISTANCE, CommandSink, PositionLimits, Workspace, read_robot
from wm_planner.ros.adapters import CommandAdapter
from wm_planner.simulation import SimOptions, simulation
from wm_planner.tasks import task_names

ROOT = Path(__file__).parents[2]
CONFIGS = {
    "camera_node": CameraConfig,
    "planner_node": PlannerNodeConfig,
    "controller_node": ControllerConfig,
    "command_guard": GuardConfig,
    "finetune_node": FinetuneConfig,
    "explore_node": ExploreConfig,
    "marker_node": MarkerConfig,
    "bridge_node": BridgeConfig,
    "arm_driver": ArmDriverConfig,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_parameter_file_holds_every_key_with_its_default_and_meaning(name):
    text = (ROOT / "config" / "nodes" / f"{name}.yaml").read_text()
    values = yaml.safe_load(text)[f"/**/{name}"]["ros__parameters"]
    fields = dataclasses.fields(CONFIGS[name])
    needed = [field for field in fields if field.default is dataclasses.MISSING]
    for field in needed:  # nothing that a robot would be moved by is made up
        assert re.search(rf"# {field.name}: .* # {re.escape(field.metadata['doc'])}", text)
    fields = [field for field in fields if field not in needed]
    assert list(values) == [field.name for field in fields]
    for field in fields:
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert values[field.name] == default, field.name
        assert f"# {field.metadata['doc']}" in text


@pytest.mark.parametrize("file", sorted((ROOT / "config" / "robots").glob("*.yaml")), ids=str)
def test_robot_file_gives_nodes_that_accept_their_parameters(file):
    for spec in bring_up(read_robot(file), RunOptions(markers=True)):
        built = from_dict(CONFIGS[spec.executable], spec.parameters, spec.name)
        if spec.name == "controller_node":
            assert built.autostart is False
            CommandAdapter(
                built.adapter, built.action_names, built.command_interface, 1, built.frame_id
            )


def controller_of(**changes) -> ControllerConfig:
    robot = replace(read_robot(ROOT / "config" / "robots" / "example_forward.yaml"), **changes)
    spec = next(s for s in bring_up(robot, RunOptions()) if s.name == "controller_node")
    return from_dict(ControllerConfig, spec.parameters, spec.name)


def test_what_the_robot_file_says_of_limits_reaches_the_controller():
    robot = read_robot(ROOT / "config" / "robots" / "example_forward.yaml")
    built = controller_of()
    assert (built.kind, built.integrate) == (robot.action.kind, robot.command.integrate)
    assert built.max_rate == robot.action.max_rate
    built = controller_of(position_limits="robot_description")
    assert built.position_limits == "robot_description" and not built.has_lists
    size = robot.action.size
    lists = PositionLimits((-1.0,) * size, (2.0,) * size)
    built = controller_of(position_limits=lists)
    assert (built.position_low, built.position_high) == (lists.low, lists.high)
    built = controller_of(position_limits=None, workspace=None)
    assert not built.needs_positions
    assert not (built.has_space or built.needs_description or built.states)
    command = CommandSink("/commands", "forward", integrate=True, tracking_error=0.1)
    built = controller_of(command=command)
    assert built.integrates and built.tracking_error == 0.1
    positions = replace(robot.action, kind="position")
    assert controller_of(action=positions).holds
    with pytest.raises(ValueError, match="zero, which stops it, must lie within its bounds"):
        controller_of(action=replace(robot.action, low=(0.1,) * size))


def test_where_it_may_go_and_whether_it_obeys_reach_controller_and_recorder():
    robot = read_robot(ROOT / "config" / "robots" / "example_forward.yaml")
    box = Workspace("tool0", (0.0, -1.0, 0.0), (1.0, 1.0, 1.0), "base_link")
    built = controller_of(workspace=box, self_collision=True, position_limits=None)
    assert (built.workspace, built.self_collision) == (box, COLLISION_DISTANCE)
    assert built.home == robot.home and built.needs_positions and built.needs_description
    assert controller_of(self_collision=0.0).self_collision == 0.0
    assert controller_of(self_collision=False).self_collision < 0
    mode = {"topic": "/mode", "type": "std_msgs/msg/Int8", "field": "data", "good": [7, 8]}
    told = replace(robot, state=[mode, {**mode, "topic": "/safety", "max_age_s": 0.5}])
    for spec in bring_up(told, RunOptions()):
        if spec.name in ("controller_node", "finetune_node"):
            assert from_dict(CONFIGS[spec.name], spec.parameters, "").states == told.state


@pytest.mark.parametrize("file", sorted((ROOT / "config" / "robots").glob("*.yaml")), ids=str)
def test_every_robot_can_explore(file):
    robot = read_robot(file)
    specs = bring_up(robot, RunOptions(explore={"episodes": 2, "seconds": 5.0}))
    (spec,) = [spec for spec in specs if spec.name == "explore_node"]
    config = from_dict(ExploreConfig, spec.parameters, spec.name)
    assert spec.ends_run and spec.required
    assert config.use_description == (robot.position_limits == "robot_description")
    endless = "".join(f'<joint name="{n}" type="continuous"/>' for n in robot.action.names)
    box = config.box(f"<robot>{endless}</robot>" if config.use_description else None)
    assert (box.low < box.high).all()
    if config.has_limits:  # a person wrote them: all of them, less the margin
        low, high = (np.array(getattr(robot.position_limits, end)) for end in ("low", "high"))
        assert box.low == pytest.approx(low + config.margin * (high - low))
        assert box.high == pytest.approx(high - config.margin * (high - low))
    else:  # the joints could go anywhere, and nobody knows what stands there
        assert box.half.max() <= 0.5 + 1e-9


@pytest.mark.parametrize("task", [t for t in task_names() if f"{t}-base" in shipped_checkpoints()])
@pytest.mark.parametrize("lockstep", [True, False])
def test_simulation_table_gives_nodes_that_accept_their_parameters(task, lockstep):
    specs = simulation(SimOptions(task=task, lockstep=lockstep))
    for spec in specs:
        parameters = dict(spec.parameters)
        parameters.pop("use_sim_time", None)
        from_dict(CONFIGS[spec.name], parameters, spec.name)
    assert [spec.name for spec in specs if spec.ends_run] == ["bridge_node"]


def test_unknown_robot_key_names_file_and_nearest(tmp_path):
    text = (ROOT / "config" / "robots" / "example_forward.yaml").read_text()
    file = tmp_path / "arm.yaml"
    file.write_text(text.replace("stale_after_s:", "stale_aftr_s:"))
    with pytest.raises(ConfigError, match="arm.yaml.*stale_aftr_s.*stale_after_s"):
        read_robot(file)


def test_parameters_are_described_with_their_ranges(graph):
    node = graph.add(CameraNode, fail_after_s=0.0)
    rate = node.describe_parameter("rate_hz")
    assert rate.read_only and "hertz" in rate.description
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (
        0.01,
        1000.0,
    )
    assert node.describe_parameter("size").integer_range[0].from_value == 16
    assert not node.describe_parameter("loop").integer_range


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"rate_hz": float("nan")}, "rate_hz: expected 0.01 .. 1000, got nan"),
        ({"rate_hz": -1.0}, "rate_hz: expected 0.01 .. 1000, got -1.0"),
        ({"size": 8}, "size: expected 16 .. inf, got 8"),
        ({"crop": [0, 0, -1, 4]}, "crop: expected 0 .. inf"),
    ],
)
def test_value_out_of_range_names_key_value_and_range(graph, parameters, text):
    with pytest.raises(ConfigError, match=text):
        graph.add(CameraNode, **parameters)


def test_ros_reads_every_name_and_number_as_it_was_written(graph, tmp_path):
    """Joints may be called y, on, null or 1e3; a list may be there twice."""
    import rclpy

    names = ["x", "y", "n", "on", "Yes", "null", "~", "1e3", "07", ".inf", "a: b", "# c", "é"]
    numbers = [1.0, 1e-5, -2.5e9, math.inf]
    values = {"names": names, "again": names, "numbers": numbers, "flag": True, "count": 3}
    file = write_parameters("any_node", values, tmp_path / "parameters")
    node = graph.serve(
        rclpy.create_node(
            "another_name",
            namespace="/left",
            context=graph.context,
            cli_args=["--ros-args", "--params-file", str(file)],
            automatically_declare_parameters_from_overrides=True,
        )
    )
    for name, value in values.items():
        read = node.get_parameter(name).value
        assert (list(read) if isinstance(value, list) else read) == value
