"""Markers of a plan: of a task in the plane, and of an arm by its URDF."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from wm_planner.nodes.marker_node import MarkerNode
from wm_planner.ros.conversions import image_message, joint_state_message, plan_message
from wm_planner.ros.qos import COMMAND, LATCHED, RELIABLE
from wm_planner.tasks import get_task
from wm_planner.types import Plan

PICTURE = np.zeros((4, 4, 3), np.uint8)
KINDS = {
    "plan": (JointTrajectory, COMMAND),
    "joint_states": (JointState, RELIABLE),
    "goal/image": (Image, LATCHED),
    "goal/joint_states": (JointState, LATCHED),
    "robot_description": (String, LATCHED),
}


class Drawing:
    """The markers of a robot, newest first, and who tells what is drawn."""

    def __init__(self, graph, body, **parameters) -> None:
        self.graph, self.body = graph, body
        self.node = graph.add(MarkerNode, embodiment=json.dumps(body.to_json()), **parameters)
        peer = graph.peer("others")
        self._out = {
            topic: peer.create_publisher(kind, topic, profile)
            for topic, (kind, profile) in KINDS.items()
        }
        self.markers: dict[str, Marker] = {}
        peer.create_subscription(MarkerArray, "plan/markers", self._on_markers, RELIABLE)
        graph.until(lambda: peer.count_publishers("plan/markers"), "the node")

    def _on_markers(self, message: MarkerArray) -> None:
        self.markers.update({marker.ns: marker for marker in message.markers})

    def tell(self, topic: str, message) -> None:
        self._out[topic].publish(message)

    def until(self, name: str, count: int, again) -> np.ndarray:
        """(N, 3) points of a marker, once it has so many."""

        def drawn() -> bool:
            again()
            return name in self.markers and len(self.markers[name].points) == count

        self.graph.until(drawn, f"{count} points of {name}")
        return np.array([[p.x, p.y, p.z] for p in self.markers[name].points])


def test_a_plan_in_the_plane_is_drawn_from_where_the_robot_is(graph):
    task = get_task("wall")
    body = task.embodiment
    drawing = Drawing(graph, body, metres=task.metres, step=task.action_step)
    plan = Plan(1, body.dt_ns, np.full((3, 2), 0.5, np.float32))

    def tell() -> None:
        here, goal = np.array([20.0, 30.0]), np.array([40.0, 50.0])
        drawing.tell("joint_states", joint_state_message(here, body.proprio, 1))
        drawing.tell("goal/joint_states", joint_state_message(goal, body.proprio, 7))
        drawing.tell("goal/image", image_message(PICTURE, 7))
        drawing.tell("plan", plan_message(plan, body.action.names, "velocity"))

    points = drawing.until("plan", 4, tell)
    expected = [[0.20, 0.30, 0], [0.21, 0.31, 0], [0.22, 0.32, 0], [0.23, 0.33, 0]]
    np.testing.assert_allclose(points, expected, atol=1e-9)
    np.testing.assert_allclose(drawing.until("goal", 1, tell), [[0.4, 0.5, 0]])
    np.testing.assert_allclose(drawing.until("robot", 1, tell), [[0.2, 0.3, 0]])
    assert drawing.markers["plan"].header.frame_id == "world"

    def clear() -> None:
        drawing.tell("goal/image", image_message(np.zeros((0, 0, 3), np.uint8), 8))
        drawing.tell("plan", JointTrajectory())

    drawing.until("plan", 0, clear)
    drawing.until("goal", 0, clear)
    assert {drawing.markers[name].action for name in ("plan", "goal")} == {Marker.DELETE}


def test_the_plan_of_an_arm_is_the_way_of_its_tip(graph):
    mujoco = pytest.importorskip("mujoco", reason="the URDF's kinematics need MuJoCo")
    import gymnasium

    import sim_bridge  # noqa: F401
    from sim_bridge.urdf import urdf_of

    task = get_task("arm_reach")
    body = task.embodiment
    arm = gymnasium.make(task.env_id, render=False).unwrapped
    drawing = Drawing(graph, body)
    drawing.tell("robot_description", String(data=urdf_of(arm, 0.5, "finger_joint")))
    here = np.array([-0.2, -1.5, 1.8, -1.87, -1.57, 0.0])
    arm.data.qpos[:6] = here
    mujoco.mj_kinematics(arm.model, arm.data)
    tip = arm.data.site("tip").xpos.copy()
    plan = Plan(1, body.dt_ns, np.tile([0.5, 0, 0, 0, 0, 0], (2, 1)).astype(np.float32))

    def tell() -> None:
        drawing.tell("joint_states", joint_state_message(here, body.proprio, 1))
        drawing.tell("plan", plan_message(plan, body.action.names, "velocity"))

    points = drawing.until("plan", 3, tell)
    arm.close()
    np.testing.assert_allclose(points[0], tip, atol=1e-4)
    radii = np.linalg.norm(points[:, :2], axis=1)
    np.testing.assert_allclose(radii, radii[0], atol=1e-3)  # it turns about the base
    assert abs(np.arctan2(*points[2, 1::-1]) - np.arctan2(*points[0, 1::-1])) == pytest.approx(0.1)


def test_what_cannot_be_drawn_is_told(graph):
    body = get_task("arm_reach").embodiment
    drawing = Drawing(graph, body)
    told: list[str] = []
    drawing.node.hear_diagnostics(lambda m: told.extend(s.message for s in m.status))

    def asked() -> bool:
        drawing.tell("joint_states", joint_state_message(np.zeros(6), body.proprio, 1))
        return any("nobody publishes robot_description" in text for text in told)

    graph.until(asked, "the reason")


def test_each_thing_that_is_not_drawn_has_its_reason(graph):
    body = get_task("point_maze").embodiment
    drawing = Drawing(graph, body)
    told: list[str] = []
    drawing.node.hear_diagnostics(lambda m: told.extend(s.message for s in m.status))
    drawing.tell("robot_description", String(data="<robot>"))

    def asked() -> bool:
        told.clear()
        still = np.zeros(len(body.proprio))
        drawing.tell("joint_states", joint_state_message(still, body.proprio, 1))
        graph.until(lambda: told, "diagnostics")
        return "no joint states" not in told[-1]

    graph.until(asked, "the joint states")
    assert told[-1].startswith("the URDF cannot be drawn")  # though the robot's place is
