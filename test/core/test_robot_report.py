"""What `robot check` finds: stamps, joints, crops, commands and limits, without ROS."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wm_planner.cli.robot_findings import (
    Party,
    camera_lines,
    command_lines,
    joint_lines,
    limit_lines,
)
from wm_planner.cli.robot_report import HEADINGS, Heard, Mark, clock_lines, rate_lines, row_of
from wm_planner.cli.robot_space import space_lines, state_lines
from wm_planner.errors import ConfigError
from wm_planner.evaluation.table import aligned
from wm_planner.robot import CameraSource, PositionLimits, read_robot
from wm_planner.runtime.robot_description import joint_limits

NOW = 1_700_000_000 * 10**9
FLOATS = "std_msgs/msg/Float64MultiArray"
ROBOT = read_robot(Path(__file__).parents[1] / "nodes" / "stand_in.yaml")
URDF = """<robot name="r">
  <joint name="base" type="revolute"><limit lower="-1.5" upper="1.5" velocity="1" effort="1"/>
    <safety_controller soft_lower_limit="-1.0" soft_upper_limit="2.0" k_velocity="1"/></joint>
  <joint name="wheel" type="continuous"/>
  <joint name="stuck" type="fixed"/>
  <transmission name="t"><joint name="base"><hardwareInterface>x</hardwareInterface></joint>
  </transmission>
</robot>"""


def heard(times_s: list[float], age_s: float = 0.0) -> Heard:
    result = Heard()
    for t in times_s:
        result.add(NOW + round((t - age_s) * 1e9), NOW + round(t * 1e9))
    return result


def texts(lines, mark: Mark) -> str:
    return "\n".join(line.text for line in lines if line.mark == mark)


def joints(*names: str, velocity: bool = False) -> SimpleNamespace:
    zeros = [0.0] * len(names)
    return SimpleNamespace(
        name=list(names), position=zeros, velocity=zeros if velocity else [], effort=[]
    )


def test_rate_jitter_gap_and_age() -> None:
    regular = heard([i * 0.1 for i in range(21)], age_s=0.02)
    assert regular.rate_hz == pytest.approx(10.0)
    assert regular.jitter_s == pytest.approx(0.0, abs=1e-9)
    assert regular.age_s == pytest.approx(0.02)
    uneven = heard([0.0, 0.08, 0.2, 0.28, 0.4])
    assert uneven.jitter_s == pytest.approx(0.02, abs=2e-3)
    assert heard([0.0, 0.1, 0.6]).gap_s == pytest.approx(0.5)
    assert row_of("/a", "T", regular)[2:] == ("10.0 Hz", "0.0 ms", "20 ms")
    assert row_of("/a", "T", heard([0.0]))[2] == "1 message"
    lengths = {len(line.split("  ")[0]) for line in aligned([HEADINGS, row_of("/a", "T", regular)])}
    assert lengths == {5, 2}  # 'topic', and '/a' padded to it


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(3.0, "3 s behind"), (-3.0, "3 s ahead of"), (NOW * 1e-9 - 5, "decades behind")],
)
def test_stamps_of_another_clock_are_named(age_s: float, text: str) -> None:
    lines = list(clock_lines(heard([0.0, 0.1], age_s), stale_after_s=1.0))
    assert text in texts(lines, Mark.WRONG) and "chrony" in texts(lines, Mark.WRONG)


def test_stamps_that_nobody_filled_in_are_named() -> None:
    unstamped = Heard()
    unstamped.add(0, NOW)
    assert "stamps are zero" in texts(clock_lines(unstamped, 1.0), Mark.WRONG)
    assert not [*clock_lines(Heard(), 1.0), *clock_lines(heard([0.0, 0.1]), 1.0)]


def test_a_topic_that_is_too_slow_or_pauses_is_named() -> None:
    slow = list(rate_lines(heard([0.0, 1.0, 2.0]), 2.0, "a model step of 0.5 s", 0.25))
    assert "1.0 Hz, and a model step of 0.5 s needs at least 2 Hz" in texts(slow, Mark.WRONG)
    pause = list(rate_lines(heard([*np.arange(0, 1, 0.1), 1.5]), 2.0, "", 0.25))
    assert "0.60 s" in texts(pause, Mark.NOTE)


def test_joints_are_found_in_any_order_beside_other_devices() -> None:
    names = list(ROBOT.action.names)
    lines = list(joint_lines(ROBOT, [joints(*reversed(names)), joints("gripper")]))
    assert "6 of 6" in texts(lines, Mark.FINE) and "gripper" in texts(lines, Mark.NOTE)
    split = list(joint_lines(ROBOT, [joints(*names[:3]), joints(*names[3:])]))
    assert "2 messages" in texts(split, Mark.NOTE) and not texts(split, Mark.WRONG)


def test_a_missing_joint_or_quantity_is_named_with_the_way_out() -> None:
    lines = list(joint_lines(ROBOT, [joints("bass", *ROBOT.action.names[1:])]))
    assert "no joint 'base'" in texts(lines, Mark.WRONG)
    assert "Did you mean 'bass'" in texts(lines, Mark.WRONG)
    robot = dataclasses.replace(ROBOT, proprio=("base/velocity",))
    lines = list(joint_lines(robot, [joints(*ROBOT.action.names)]))
    assert "'base' comes without velocity" in texts(lines, Mark.WRONG)
    assert not texts(joint_lines(robot, [joints(*ROBOT.action.names, velocity=True)]), Mark.WRONG)


def test_a_crop_that_reaches_outside_is_named() -> None:
    picture = np.zeros((120, 160, 3), np.uint8)
    source = CameraSource(topic="/a", crop=(20, 0, 120, 120), size=64)
    assert "160 x 120 rgb8; crop 20, 0, 120, 120" in texts(
        camera_lines(source, picture, "rgb8"), Mark.FINE
    )
    outside = dataclasses.replace(source, crop=(80, 0, 120, 120))
    assert "reaches outside" in texts(camera_lines(outside, picture, "rgb8"), Mark.WRONG)
    large = dataclasses.replace(source, crop=None, size=224)
    assert "enlarged from 120" in texts(camera_lines(large, picture, "rgb8"), Mark.NOTE)


def test_who_listens_to_the_command() -> None:
    right, other = Party("/arm", FLOATS), Party("/arm", "trajectory_msgs/msg/JointTrajectory")
    assert "/arm listens" in texts(command_lines(ROBOT, [right], [], {}), Mark.FINE)
    lines = list(command_lines(ROBOT, [other], [Party("/teleop", FLOATS)], {}))
    assert "command.adapter: joint_trajectory" in texts(lines, Mark.WRONG)
    assert "/teleop commands the robot now" in texts(lines, Mark.NOTE)
    told = texts(lines, Mark.NOTE)
    assert "repeats its last command for ever" in told and "command.timeout_s" in told
    lines = list(command_lines(ROBOT, [], [], {"/velocity": [FLOATS], "/other": ["x"]}))
    assert "nobody listens" in texts(lines, Mark.WRONG)
    assert "topics of type std_msgs/msg/Float64MultiArray: /velocity" in texts(lines, Mark.WRONG)


def test_what_stops_the_robot_when_commands_cease() -> None:
    command = dataclasses.replace(ROBOT.command, timeout_s=0.5)
    robot = dataclasses.replace(ROBOT, command=command)
    assert "stops 0.5 s after the last" in texts(command_lines(robot, [], [], {}), Mark.FINE)
    holds = dataclasses.replace(ROBOT.command, integrate=True)
    robot = dataclasses.replace(ROBOT, command=holds)
    assert "holds the last position" in texts(command_lines(robot, [], [], {}), Mark.NOTE)
    for timeout_s, text in ((0.0, "above 0"), (61.0, "at most 60"), (0.15, "two control periods")):
        with pytest.raises(ValueError, match=text):
            short = dataclasses.replace(ROBOT.command, timeout_s=timeout_s)
            dataclasses.replace(ROBOT, command=short)


def test_a_step_beyond_the_tracking_error_is_told() -> None:
    fast = dataclasses.replace(ROBOT.action, kind="position", max_rate=(9.0,) * 6)
    robot = dataclasses.replace(ROBOT, action=fast)
    told = texts(command_lines(robot, [], [], {}), Mark.WRONG)
    assert "tracking_error 0.2 is below the step of one control period, 0.9" in told


def test_limits_and_where_the_robot_is() -> None:
    lists = PositionLimits((-1.0,) * 6, (1.0,) * 6)
    robot = dataclasses.replace(ROBOT, position_limits=lists, home=(0.0,) * 6)
    assert not texts(limit_lines(robot, None, {"base": 0.5}), Mark.WRONG)
    assert "'base' is at 1.500" in texts(limit_lines(robot, None, {"base": 1.5}), Mark.WRONG)
    away = dataclasses.replace(robot, home=(2.0,) + (0.0,) * 5)
    assert "home of joint 'base'" in texts(limit_lines(away, None, {}), Mark.WRONG)
    assert "robot_state_publisher" in texts(limit_lines(ROBOT, None, {}), Mark.WRONG)
    described = "".join(
        f'<joint name="{name}" type="revolute"><limit lower="-1" upper="0.9"/></joint>'
        for name in ROBOT.action.names
    )
    wider = texts(limit_lines(robot, f"<robot>{described}</robot>", {}), Mark.WRONG)
    assert "of joint 'base' are -1 .. 1, the URDF says -1 .. 0.9" in wider
    assert "cannot be held against the URDF" in texts(limit_lines(robot, URDF, {}), Mark.NOTE)
    assert "no joint 'shoulder'" in texts(limit_lines(ROBOT, URDF, {}), Mark.WRONG)


def test_the_free_space_and_where_the_robot_is() -> None:
    pytest.importorskip("mujoco", reason="needs the 'sim' extra")
    from .test_free_space import BOX, NAMES
    from .test_free_space import URDF as PLANAR

    places = dict(zip(NAMES, (0.5, 0.5, 0.5), strict=True))
    action = dataclasses.replace(
        ROBOT.action, names=NAMES, low=(-1,) * 3, high=(1,) * 3, max_rate=()
    )
    robot = dataclasses.replace(
        ROBOT,
        action=action,
        position_limits=None,
        workspace=BOX,
        self_collision=0.05,
        home=(0.0, 1.0, 1.0),
    )
    lines = list(space_lines(robot, PLANAR, places))
    assert not texts(lines, Mark.WRONG), texts(lines, Mark.WRONG)
    assert "the robot is in its free space" in texts(lines, Mark.FINE)
    assert "1 pairs of shapes are watched" in texts(lines, Mark.NOTE)
    outside = list(space_lines(robot, PLANAR, dict.fromkeys(NAMES, 0.0)))
    assert "the robot is outside of its free space: workspace: tip above x" in texts(
        outside, Mark.WRONG
    )
    away = dataclasses.replace(robot, home=(0.0, 0.0, 0.0))
    assert "home is outside" in texts(space_lines(away, PLANAR, places), Mark.WRONG)
    assert "no position of elbow" in texts(
        space_lines(robot, PLANAR, {"shoulder": 0.0, "wrist": 0.0}), Mark.WRONG
    )
    assert "start robot_state_publisher" in texts(space_lines(robot, None, places), Mark.WRONG)
    assert "robot_description: " in texts(space_lines(robot, URDF, places), Mark.WRONG)
    assert "write workspace:" in texts(space_lines(ROBOT, None, places), Mark.NOTE)
    assert "write self_collision:" in texts(space_lines(ROBOT, None, places), Mark.NOTE)


def test_a_base_that_takes_twists_has_no_tip_to_keep_in_a_space() -> None:
    file = Path(__file__).parents[2] / "config" / "robots" / "example_servo.yaml"
    base = dataclasses.replace(read_robot(file), workspace=None)
    assert list(space_lines(base, None, {})) == []


def test_what_the_robot_says_of_itself() -> None:
    assert "write state:" in texts(state_lines(ROBOT, {}), Mark.NOTE)
    mode = {"topic": "/mode", "type": "std_msgs/msg/Int8", "field": "data", "good": [7]}
    robot = dataclasses.replace(ROBOT, state=mode)
    assert "/mode: the robot executes" in texts(state_lines(robot, {"/mode": ""}), Mark.FINE)
    assert texts(state_lines(robot, {"/mode": "nothing came"}), Mark.WRONG) == "nothing came"


def test_limits_out_of_a_description() -> None:
    assert joint_limits(URDF, ["wheel", "base"]) == [(-np.inf, np.inf), (-1.0, 1.5)]
    with pytest.raises(ConfigError, match="joint 'stuck' cannot move"):
        joint_limits(URDF, ["stuck"])
    with pytest.raises(ConfigError, match="is not XML"):
        joint_limits("robot: {}", ["base"])
    with pytest.raises(ConfigError, match="lower is 'low', no number"):
        joint_limits(URDF.replace('"-1.5"', '"low"'), ["base"])
