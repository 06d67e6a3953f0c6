"""The arm's driver, live: what a robot's topics promise."""

from __future__ import annotations

import time
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from geometry_msgs.msg import TwistStamped
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sim_bridge.arm_driver import PUBLISHED, ArmDriver
from sim_bridge.envs.arm import JOINTS, REACH_HALF, REACH_HOME
from wm_planner.errors import ConfigError
from wm_planner.ros.conversions import image_array, to_ns
from wm_planner.ros.qos import COMMAND, LATCHED, RELIABLE

VELOCITIES = "/forward_velocity_controller/commands"
POSITIONS = "/forward_position_controller/commands"
TRAJECTORY = "/joint_trajectory_controller/joint_trajectory"
TWIST = "/servo_node/delta_twist_cmds"


class Peer:
    """Somebody who drives the arm and hears what it says."""

    def __init__(self, graph, **parameters) -> None:
        parameters.setdefault("image_rate_hz", 5.0)
        self.graph = graph
        self.driver = graph.add(ArmDriver, **parameters)
        self.node = node = graph.peer("peer")
        self.arm: list[JointState] = []
        self.gripper: list[JointState] = []
        self.images: list[Image] = []
        self.goals: list[Image] = []
        self.distances: list[float] = []
        self.urdf: list[str] = []
        for kind, topic, take, qos in (
            (JointState, "/joint_states", self._on_joints, RELIABLE),
            (Image, "/camera/color/image_raw", self.images.append, RELIABLE),
            (Image, "/arm_driver/goal_image", self.goals.append, LATCHED),
            (
                Float64,
                "/arm_driver/distance",
                lambda m: self.distances.append(m.data),
                RELIABLE,
            ),
            (String, "/robot_description", lambda m: self.urdf.append(m.data), LATCHED),
        ):
            node.create_subscription(kind, topic, take, qos)
        kinds = {
            VELOCITIES: Float64MultiArray,
            POSITIONS: Float64MultiArray,
            TRAJECTORY: JointTrajectory,
            TWIST: TwistStamped,
        }
        self._out = {topic: node.create_publisher(k, topic, COMMAND) for topic, k in kinds.items()}
        graph.until(
            lambda: all(out.get_subscription_count() for out in self._out.values()), "the driver"
        )

    def _on_joints(self, message: JointState) -> None:
        (self.arm if message.name == list(PUBLISHED) else self.gripper).append(message)

    def send(self, topic: str, message) -> None:
        """A message, or the values of a Float64MultiArray."""
        if not isinstance(message, (JointTrajectory, TwistStamped)):
            message = Float64MultiArray(data=[float(value) for value in message])
        self._out[topic].publish(message)

    def joints(self) -> np.ndarray:
        """(6,) newest positions in the order of `JOINTS`."""
        message = self.arm[-1]
        return np.array([message.position[message.name.index(joint)] for joint in JOINTS])

    def hear(self, seconds: float) -> None:
        """Serve until joint states have gone on for so long."""
        first_ns = time.time_ns()
        self.graph.until(
            lambda: self.arm and to_ns(self.arm[-1].header.stamp) > first_ns + seconds * 1e9,
            "joint states",
        )

    def reach(self, expected: np.ndarray, what: str) -> None:
        self.graph.until(lambda: self.arm and np.allclose(self.joints(), expected, atol=3e-3), what)


def home(driver) -> np.ndarray:
    driver.arm.set_state(np.concatenate([REACH_HOME, np.zeros(3)]))
    return REACH_HOME


def test_joint_states_come_scrambled_beside_a_grippers(graph):
    peer = Peer(graph)
    graph.until(lambda: len(peer.arm) > 10 and len(peer.gripper) > 2, "joint states")
    assert sorted(PUBLISHED) == sorted(JOINTS) and PUBLISHED != JOINTS
    assert {tuple(message.name) for message in peer.gripper} == {("finger_joint",)}
    np.testing.assert_allclose(peer.joints(), peer.driver.arm.joints, atol=1e-3)
    stamps = [to_ns(message.header.stamp) for message in peer.arm]
    assert stamps == sorted(set(stamps)) and abs(stamps[-1] - time.time_ns()) < 2e9


def test_joint_states_keep_their_rate(graph):
    peer = Peer(graph, joint_rate_hz=20.0, image_width=32, image_height=32)
    graph.until(lambda: len(peer.arm) > 20, "joint states")
    gaps = np.diff([to_ns(message.header.stamp) / 1e9 for message in peer.arm])
    assert np.mean(gaps) == pytest.approx(0.05, abs=0.01)


def test_without_a_gripper_there_is_none(graph):
    peer = Peer(graph, gripper=False)
    peer.hear(0.3)
    assert not peer.gripper
    graph.until(lambda: peer.urdf, "the URDF")
    assert "finger_joint" not in peer.urdf[-1]


def test_the_urdf_says_the_limits_and_a_velocity_stops_there(graph):
    peer = Peer(graph)
    start = home(peer.driver)
    graph.until(lambda: peer.urdf, "the URDF")
    robot = ElementTree.fromstring(peer.urdf[-1])
    highest = {
        joint.get("name"): float(joint.find("limit").get("upper"))
        for joint in robot.iter("joint")
        if joint.find("limit") is not None
    }
    expected = start.copy()
    expected[1] = highest["shoulder_lift_joint"]
    assert expected[1] == pytest.approx(REACH_HOME[1] + REACH_HALF[1], abs=1e-5)
    peer.send(VELOCITIES, [0, 0.5, 0, 0, 0, 0])
    peer.reach(expected, "the limit")
    peer.hear(0.2)
    np.testing.assert_allclose(peer.joints(), expected, atol=3e-3)


@pytest.mark.parametrize("timeout_s", [0.0, 0.2])
def test_a_velocity_goes_on_unless_there_is_a_timeout(graph, timeout_s):
    peer = Peer(graph, command_timeout_s=timeout_s)
    start = home(peer.driver)
    peer.send(VELOCITIES, [0.3, 0, 0, 0, 0, 0])
    peer.graph.until(lambda: peer.arm and peer.joints()[0] > start[0] + 0.01, "motion")
    peer.hear(0.6)
    moved = peer.joints()[0] - start[0]
    if timeout_s:
        assert 0.03 < moved < 0.12, "0.2 s of it"
    else:
        assert moved > 0.15


def test_positions_are_gone_to_and_wrong_commands_refused(graph):
    peer = Peer(graph)
    goal = home(peer.driver) + 0.1
    peer.send(POSITIONS, goal)
    peer.reach(goal, "the positions")
    for wrong in ([0.1] * 5, [float("nan")] * 6, []):
        peer.send(VELOCITIES, wrong)
    peer.hear(0.3)
    np.testing.assert_allclose(peer.joints(), goal, atol=1e-3)


def test_trajectories_are_followed_and_refused_as_by_jtc(graph):
    peer = Peer(graph)
    start = home(peer.driver)
    message = JointTrajectory(joint_names=list(reversed(JOINTS)))
    message.points = [JointTrajectoryPoint(velocities=[0.2] * 6)]
    message.points[0].time_from_start.sec = 1
    peer.send(TRAJECTORY, message)  # no positions
    message.points[0].velocities = []
    message.points[0].positions = (start + 0.1)[::-1].tolist()
    message.header.stamp.sec = 1  # in the past
    peer.send(TRAJECTORY, message)
    peer.hear(0.4)
    np.testing.assert_allclose(peer.joints(), start, atol=1e-3)
    message.header.stamp.sec = 0
    peer.send(TRAJECTORY, message)
    peer.hear(0.4)
    assert 0.01 < peer.joints()[0] - start[0] < 0.09, "on the way"
    peer.reach(start + 0.1, "the end of the trajectory")


def test_reset_goes_to_the_next_problem_of_the_seed(graph):
    peer = Peer(graph, seed=5)
    graph.until(lambda: peer.goals and peer.distances, "a goal")
    states = [peer.driver.arm.get_state()]
    assert peer.distances[-1] >= 0.1
    answer = graph.call(peer.node, Trigger, "/arm_driver/reset")
    assert (answer.success, answer.message) == (True, "episode 1")
    states.append(peer.driver.arm.get_state())
    graph.until(lambda: len(peer.goals) == 2, "the next goal")
    for episode, state in enumerate(states):
        rng = np.random.default_rng([5, episode])
        np.testing.assert_allclose(state, peer.driver.arm.sample_target(rng)[0], atol=1e-9)


def test_reset_stops_the_arm(graph):
    peer = Peer(graph)
    peer.send(VELOCITIES, [0.2, 0, 0, 0, 0, 0])
    peer.hear(0.2)
    graph.call(peer.node, Trigger, "/arm_driver/reset")
    start = peer.driver.arm.joints.copy()
    peer.hear(0.3)
    np.testing.assert_allclose(peer.joints(), start, atol=1e-3)


def test_the_cropped_picture_is_the_environments(graph):
    """Of the driver's 320 x 240 the middle square is what the model is trained on."""
    peer = Peer(graph, seed=1)
    graph.until(lambda: peer.goals and peer.images, "pictures")
    assert (peer.images[-1].width, peer.images[-1].height) == (320, 240)
    assert peer.images[-1].encoding == "rgb8"
    import gymnasium

    env = gymnasium.make(peer.driver.arm.task.env_id, image_size=240).unwrapped
    expected = env.render_state(peer.driver._goal).astype(float)
    env.close()
    square = image_array(peer.goals[-1])[:, 40:280].astype(float)
    assert np.abs(square - expected).mean() < 0.5


def test_pictures_are_stamped_when_they_are_taken(graph):
    peer = Peer(graph, image_rate_hz=20.0, image_jitter_s=0.01, image_width=64, image_height=48)
    graph.until(lambda: len(peer.images) >= 15, "pictures")
    stamps = np.array([to_ns(image.header.stamp) for image in peer.images]) / 1e9
    gaps = np.diff(stamps)
    assert (gaps > 0).all() and gaps.std() > 1e-3
    assert np.median(gaps) == pytest.approx(0.05, abs=0.02)


def test_a_twist_moves_the_tip_of_arm_push_only(graph):
    push = Peer(graph, scene="arm_push", image_width=32, image_height=32)
    start = push.driver.arm.state_at(np.array([0.45, 0.1]), np.array([0.5, -0.25, 0.0]))
    push.driver.arm.set_state(start)
    message = TwistStamped()
    message.header.frame_id = "camera"
    message.twist.linear.x = 0.1
    push.send(TWIST, message)
    push.hear(0.3)
    tip = push.driver.arm.tip_of(push.driver.arm.joints)
    np.testing.assert_allclose(tip[:2], start[6:8], atol=1e-3)
    message.header.frame_id = "base_link"
    push.send(TWIST, message)
    push.graph.until(
        lambda: push.driver.arm.tip_of(push.driver.arm.joints)[0] > start[6] + 0.05, "the tip"
    )
    tip = push.driver.arm.tip_of(push.driver.arm.joints)
    np.testing.assert_allclose(tip[1:], [start[7], 0.006], atol=1e-3)


def test_arm_reach_has_no_servoing(graph):
    peer = Peer(graph)
    start = home(peer.driver)
    message = TwistStamped()
    message.twist.linear.x = 0.1
    peer.send(TWIST, message)
    peer.hear(0.3)
    np.testing.assert_allclose(peer.joints(), start, atol=1e-3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"scene": "arm_reech"}, "unknown scene 'arm_reech'. Did you mean 'arm_reach'"),
        ({"joint_rate_hz": 500.0}, "joint_rate_hz: expected 0.1 .. 50, got 500"),
        ({"image_size": 96}, "unknown key 'image_size'. Did you mean 'image_width'"),
    ],
)
def test_wrong_parameters_are_named(graph, parameters, message):
    with pytest.raises(ConfigError) as error:
        graph.add(ArmDriver, **parameters)
    assert message in str(error.value)
