"""Messages that are too large are refused before anything of them is converted."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from wm_planner.ros.bounded import excess, trajectory_size
from wm_planner.ros.conversions import (
    MAX_NAMES,
    MAX_POINTS,
    action_array,
    plan_from_message,
    plan_message,
)
from wm_planner.types import Plan

DT_NS = 10**8


@pytest.mark.parametrize("frame", ["", "a", "base_link"])
@pytest.mark.parametrize("names", [[], ["a"], ["shoulder_pan", "x", "elbow_joint"]])
@pytest.mark.parametrize("num_points", [0, 1, 7])
def test_names_and_points_are_counted_in_the_bytes(frame, names, num_points):
    message = JointTrajectory(header=Header(frame_id=frame), joint_names=names)
    message.points = [JointTrajectoryPoint(positions=[1.0] * len(names))] * num_points
    data = serialize_message(message)
    assert trajectory_size(data) == (len(names), num_points)
    assert trajectory_size(data[:10]) == (0, 0)


def test_what_is_too_large_is_named_with_its_bound_and_at_once():
    rows = np.zeros((MAX_POINTS + 1, 2), np.float32)
    message = plan_message(Plan(1, DT_NS, rows), ["a", "b"], "velocity")
    data = serialize_message(message)
    text = excess(data, JointTrajectory)
    assert text == f"it has {MAX_POINTS + 1} points, at most {MAX_POINTS} are read"
    begin = time.process_time()
    for _ in range(1000):
        excess(data, JointTrajectory)
    assert time.process_time() - begin < 1.0  # to convert it takes as long a single time
    with pytest.raises(ValueError, match=f"{MAX_POINTS + 1} points, at most"):
        plan_from_message(message, ["a", "b"], "velocity", DT_NS)
    assert action_array(message, "velocity", 2) is None
    many = JointTrajectory(joint_names=["a"] * (MAX_NAMES + 1))
    assert f"{MAX_NAMES + 1} joints" in excess(serialize_message(many), JointTrajectory)
    with pytest.raises(ValueError, match=f"{MAX_NAMES + 1} joints, at most"):
        plan_from_message(many, ["a", "b"], "velocity", DT_NS)
    assert excess(serialize_message(JointState(name=["joint"] * 100)), JointState) == ""
    states = serialize_message(JointState(name=["joint"] * 30_000))
    assert excess(states, JointState).endswith("bytes, at most 262144 are read")
    told = serialize_message(String(data="x" * 2 * 2**20))
    assert (excess(told, String), excess(told, Header)[-16:]) == ("", "1048576 are read")


def test_a_plan_of_the_greatest_size_is_read():
    rows = np.arange(2 * MAX_POINTS, dtype=np.float32).reshape(-1, 2)
    message = plan_message(Plan(1, DT_NS, rows), ["a", "b"], "velocity")
    plan = plan_from_message(message, ["a", "b"], "velocity", DT_NS)
    np.testing.assert_array_equal(plan.actions, rows)
