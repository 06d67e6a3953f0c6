"""`wm-planner robot ...` as a user types it, with the stand-in arm for a robot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from wm_planner.data.goal_file import load_goal  # noqa: E402
from wm_planner.robot import read_robot  # noqa: E402

from .domains import claim_domain  # noqa: E402

HERE = Path(__file__).parent
FILE = HERE / "stand_in.yaml"
PATH = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
ENVIRONMENT = {**os.environ, "ROS_DOMAIN_ID": str(claim_domain()), "PYTHONPATH": PATH}


def robot(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "wm_planner.cli.main", "robot", *map(str, arguments)]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, **options
    )


def changed(tmp_path: Path, **changes: str) -> Path:
    """The robot file with other lines."""
    text = FILE.read_text()
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "robot.yaml"
    file.write_text(text)
    return file


@pytest.fixture
def arm() -> Iterator[None]:
    """The arm as a robot that runs already."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "stand_in_arm.py")], env=ENVIRONMENT, stderr=subprocess.PIPE
    )
    yield
    process.terminate()
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors


def test_check_starts_the_driver_and_misses_nothing():
    result = robot("check", FILE, "--seconds", "1.5")
    assert result.returncode == 0, result.stdout + result.stderr
    for text in (
        "/joint_states",
        "6 of 6",
        "passed over: gripper_left, gripper_right",
        "160 x 120 rgb8; crop 20, 0, 120, 120 becomes 64 x 64",
        "/stand_in_arm listens for std_msgs/msg/Float64MultiArray",
        "limits of 6 joints read from robot_description",
        "nothing is missing",
    ):
        assert text in result.stdout, text


def test_check_names_what_is_wrong_of_a_robot_that_runs(arm, tmp_path):
    file = changed(
        tmp_path,
        driver=("driver: {module: stand_in_arm, name: stand_in_arm}\n", ""),
        camera=("/arm_camera/image_raw", "/arm_camera/image"),
        joint=("proprio: [base/position", "proprio: [bass/position"),
        adapter=("adapter: forward", "adapter: joint_trajectory"),
    )
    result = robot("check", file, "--seconds", "1")
    assert result.returncode == 1, result.stdout + result.stderr
    for text in (
        "nobody publishes /arm_camera/image ",
        "topics of that type: /arm_camera/image_raw",
        "no joint 'bass'",
        "Did you mean 'base'",
        "write command.adapter: forward",
        "3 to mend",
    ):
        assert text in result.stdout, text


def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path):
    file = changed(tmp_path, key=("stale_after_s:", "stale_aftr_s:"))
    for action in (["check"], ["goal", "--output", str(tmp_path / "goal")]):
        result = robot(*action[:1], file, *action[1:])
        assert result.returncode == 2
        assert "Did you mean 'stale_after_s'" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_goal_is_what_the_planner_sees(arm, tmp_path):
    file = changed(tmp_path, driver=("driver: {module: stand_in_arm, name: stand_in_arm}\n", ""))
    result = robot("goal", file, "--output", tmp_path / "goal")
    assert result.returncode == 0, result.stdout + result.stderr
    body = read_robot(file).embodiment
    picture, proprio = load_goal(tmp_path / "goal", body)
    np.testing.assert_allclose(proprio, read_robot(file).home, atol=1e-3)
    assert picture.shape == (64, 64, 3) and picture.std() > 10
    again = robot("goal", file, "--output", tmp_path / "goal")
    assert again.returncode == 2 and "holds a goal already" in again.stderr
