"""`robot check` of a robot that comes up while it is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")

from sensor_msgs.msg import JointState
from std_msgs.msg import String

from wm_planner.cli.robot_inspection import Inspection
from wm_planner.cli.robot_session import NAME
from wm_planner.robot import read_robot

from .waiting import until

ROBOT = read_robot(Path(__file__).parent / "stand_in.yaml")


def joint_lines(inspection: Inspection) -> str:
    return "\n".join(line.text for line in inspection.sections()[0].lines)


def test_what_appears_last_is_not_of_a_wrong_type(graph):
    node, driver = graph.peer(NAME), graph.peer("driver")
    inspection = Inspection(node, ROBOT)
    assert "nobody publishes /joint_states" in joint_lines(inspection)
    driver.create_publisher(JointState, "/joint_states", 10)
    until(lambda: node.get_publishers_info_by_topic("/joint_states"), "the publisher is seen")
    assert "no message came, although /driver publishes it" in joint_lines(inspection)


def test_a_topic_of_another_type_is_named(graph):
    node, driver = graph.peer(NAME), graph.peer("driver")
    inspection = Inspection(node, ROBOT)
    driver.create_publisher(String, "/joint_states", 10)
    until(lambda: node.get_publishers_info_by_topic("/joint_states"), "the publisher is seen")
    assert "is of type std_msgs/msg/String, expected sensor_msgs/msg/JointState" in joint_lines(
        inspection
    )


def test_a_driver_that_starts_late_is_heard(graph):
    node, driver = graph.peer(NAME), graph.peer("driver")
    inspection = Inspection(node, ROBOT)
    assert not inspection.hears_all()
    publisher = driver.create_publisher(JointState, "/joint_states", 10)
    message = JointState(name=ROBOT.action.names, position=[0.0] * len(ROBOT.action.names))

    def is_heard() -> bool:
        publisher.publish(message)
        return "is of type" not in joint_lines(inspection) and bool(inspection._joints.heard)

    graph.until(is_heard, "the joints")
