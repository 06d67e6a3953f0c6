"""What moves the simulated arm, what it refuses, its camera's thread and its URDF; no ROS."""

from __future__ import annotations

import math
import threading
from types import SimpleNamespace
from xml.etree import ElementTree

import gymnasium
import numpy as np
import pytest

from sim_bridge.camera import SceneCamera
from sim_bridge.controllers import (
    MAX_JOINT_SPEED,
    ForwardPosition,
    ForwardVelocity,
    TipTwist,
    trajectory_of,
)
from sim_bridge.envs.arm import JOINTS, REACH_HALF, REACH_HOME, TICK_S
from sim_bridge.envs.arm_push import TIP
from sim_bridge.urdf import urdf_of
from wm_planner.tasks import get_task

from .simulated_tasks import renderer  # noqa: F401


@pytest.fixture(scope="module")
def arm():
    return gymnasium.make(get_task("arm_reach").env_id, render=False).unwrapped


def at_home(arm):
    arm.set_state(np.concatenate([REACH_HOME, np.zeros(3)]))
    return arm


def drive(arm, controller, seconds, now_s=0.0):
    """Joint positions after each tick."""
    rows = []
    for tick in range(round(seconds / TICK_S)):
        arm.command(controller.joint_velocities(arm, now_s + tick * TICK_S))
        rows.append(arm.joints.copy())
    return np.array(rows)


def point(positions=(), time_s=1.0, **fields):
    time = SimpleNamespace(sec=int(time_s), nanosec=round(time_s % 1 * 1e9))
    values = {"velocities": [], "accelerations": [], "effort": [], **fields}
    return SimpleNamespace(positions=list(positions), time_from_start=time, **values)


def message(*points, names=JOINTS, stamp_ns=0):
    stamp = SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    header = SimpleNamespace(stamp=stamp)
    return SimpleNamespace(joint_names=list(names), points=list(points), header=header)


GOAL = REACH_HOME + 0.1


def test_velocities_go_on_until_they_end(arm):
    velocity = np.array([0.2, 0, 0, 0, 0, 0])
    rows = drive(at_home(arm), ForwardVelocity(velocity), 1.0)
    np.testing.assert_allclose(rows[-1] - REACH_HOME, velocity, atol=1e-3)
    rows = drive(at_home(arm), ForwardVelocity(velocity, ends_s=0.5), 1.0)
    np.testing.assert_allclose(rows[-1] - REACH_HOME, 0.5 * velocity, atol=1e-3)


def test_velocities_stop_at_limits_and_at_what_joints_can(arm):
    rows = drive(at_home(arm), ForwardVelocity(np.full(6, 9.0)), 1.0)
    np.testing.assert_allclose(rows[-1], REACH_HOME + REACH_HALF, atol=2e-3)
    assert np.abs(np.diff(rows, axis=0)).max() <= 1.01 * MAX_JOINT_SPEED * TICK_S


def test_positions_are_gone_to_and_held(arm):
    rows = drive(at_home(arm), ForwardPosition(GOAL), 0.4)
    np.testing.assert_allclose(rows[-1], GOAL, atol=1e-4)
    beyond = drive(at_home(arm), ForwardPosition(REACH_HOME + 9.0), 0.6)
    np.testing.assert_allclose(beyond[-1], REACH_HOME + REACH_HALF, atol=2e-3)


def test_a_twist_moves_the_tip_and_ends():
    arm = gymnasium.make(get_task("arm_push").env_id, render=False).unwrapped
    start = arm.state_at(np.array([0.45, 0.1]), np.array([0.5, -0.25, 0.0]))
    arm.set_state(start)
    drive(arm, TipTwist(np.array([0.1, -0.05]), ends_s=0.4), 1.0)
    tip = arm.tip_of(arm.joints)[:2]
    np.testing.assert_allclose(tip - start[TIP], [0.04, -0.02], atol=5e-4)


def test_a_trajectory_is_followed_in_any_joint_order(arm):
    order = [3, 0, 5, 1, 4, 2]
    names = [JOINTS[i] for i in order]
    points = [point(GOAL[order], 0.5), point(REACH_HOME[order], 1.5)]
    controller, refusal = trajectory_of(message(*points, names=names), REACH_HOME, 7.0, 10**18)
    assert refusal == ""
    rows = drive(at_home(arm), controller, 2.0, now_s=7.0)
    for second, expected in ((0.3, 0.6), (0.5, 1.0), (1.0, 0.5), (2.0, 0.0)):
        row = rows[round(second / TICK_S) - 1]
        np.testing.assert_allclose(row, REACH_HOME + expected * (GOAL - REACH_HOME), atol=2e-3)


def test_a_trajectory_with_velocities_is_cubic(arm):
    points = [point(GOAL, 1.0, velocities=[0.0] * 6)]
    controller, _ = trajectory_of(message(*points), REACH_HOME, 0.0, 10**18)
    way = [(controller.at(t) - REACH_HOME)[0] / 0.1 for t in (0.0, 0.25, 0.5, 1.0)]
    np.testing.assert_allclose(way, [0.0, 3 / 16 - 2 / 64, 0.5, 1.0], atol=1e-9)


def test_a_stamped_trajectory_begins_when_it_says(arm):
    now_ns = 10**18
    ahead = message(point(GOAL, 1.0), stamp_ns=now_ns + 10**9)
    controller, _ = trajectory_of(ahead, REACH_HOME, 5.0, now_ns)
    np.testing.assert_allclose(controller.times_s, [5.0, 7.0])
    begun = message(point(REACH_HOME, 1.0), point(GOAL, 3.0), stamp_ns=now_ns - 2 * 10**9)
    controller, _ = trajectory_of(begun, REACH_HOME, 5.0, now_ns)
    np.testing.assert_allclose(controller.times_s, [5.0, 6.0])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (message(point([], 1.0, velocities=[0.1] * 6)), "no positions"),
        (message(), "empty trajectory"),
        (message(point(GOAL), names=JOINTS[:5]), "don't match"),
        (message(point(GOAL), names=(*JOINTS[:5], "elbow")), "don't match"),
        (message(point(GOAL[:5])), "5 positions for 6 joints"),
        (message(point(GOAL, velocities=[0.0] * 5)), "5 velocities for 6 joints"),
        (message(point(GOAL, velocities=[0.1] * 6)), "last point is not zero"),
        (message(point(GOAL, effort=[1.0] * 6)), "effort"),
        (message(point(GOAL, 1.0), point(GOAL, 1.0)), "strictly increasing"),
        (message(point([math.nan] * 6)), "not finite"),
        (message(point(GOAL, 1.0), stamp_ns=10**18 - 2 * 10**9), "ends 1.000 s in the past"),
    ],
)
def test_what_jtc_refuses_is_refused(given, why):
    controller, refusal = trajectory_of(given, REACH_HOME, 5.0, 10**18)
    assert controller is None and why in refusal


def test_a_camera_keeps_its_rate_with_jitter_and_draws_goals_between(arm):
    at_home(arm)
    stamps, goals, enough = [], [], threading.Event()

    def deliver(stamp, picture):
        assert picture.shape == (24, 32, 3) and picture.any()
        stamps.append(stamp)
        if len(stamps) == 12:
            enough.set()

    taken = iter(range(1, 1000))
    camera = SceneCamera(
        arm.model,
        "front",
        32,
        24,
        0.01,
        0.004,
        np.random.default_rng(0),
        lambda: (next(taken), arm.data.qpos.copy()),
        deliver,
    )
    camera.draw(arm.data.qpos.copy(), lambda stamp, picture: goals.append(picture.copy()))
    camera.start()
    assert enough.wait(30)
    camera.stop()
    assert not camera.is_alive() and camera.error is None
    assert stamps == list(range(1, len(stamps) + 1)) and len(goals) == 1


def test_what_ends_a_camera_is_kept(arm):
    def capture():
        raise RuntimeError("no scene")

    camera = SceneCamera(
        arm.model, "front", 32, 24, 0.01, 0.0, np.random.default_rng(0), capture, print
    )
    camera.start()
    camera.join(30)
    assert str(camera.error) == "no scene"


def rotation(rpy):
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def turn(axis, angle):
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def numbers(element, key):
    return np.array([float(value) for value in element.get(key).split()])


def test_urdf_has_the_arms_kinematics_and_limits(arm):
    robot = ElementTree.fromstring(urdf_of(arm, 3.0, "finger_joint"))
    joints = {joint.get("name"): joint for joint in robot.iter("joint")}
    values = dict(zip(JOINTS, REACH_HOME + [0.3, -0.1, 0.2, 0.1, -0.4, 0.5], strict=True))
    place, axes = np.zeros(3), np.eye(3)
    link = "base_link"
    while link != "tool0":
        (joint,) = [
            j
            for j in joints.values()
            if j.find("parent").get("link") == link and j.get("name") != "finger_joint"
        ]
        origin = joint.find("origin")
        place = place + axes @ numbers(origin, "xyz")
        axes = axes @ rotation(numbers(origin, "rpy"))
        if joint.get("type") == "revolute":
            axes = axes @ turn(numbers(joint.find("axis"), "xyz"), values[joint.get("name")])
        link = joint.find("child").get("link")
    np.testing.assert_allclose(place, arm.tip_of(np.array(list(values.values()))), atol=1e-4)
    for joint, low, high in zip(JOINTS, *arm.limits, strict=True):
        limit = joints[joint].find("limit")
        assert float(limit.get("lower")) == pytest.approx(low, abs=1e-5)
        assert float(limit.get("upper")) == pytest.approx(high, abs=1e-5)
        assert limit.get("velocity") == "3"
    assert {link.get("name") for link in robot.iter("link")} >= {"base_link", "tool0", "finger"}
