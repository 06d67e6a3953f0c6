"""A six-joint arm that takes joint velocities and is seen by a camera: somebody else's driver.

It imports nothing of the package under test, and behaves as drivers do: joints come in an order of
their own, a gripper talks on the same topic in messages of its own, the camera jitters and now and
then leaves a hole. Run it with ``python stand_in_arm.py --ros-args -p seed:=1``.
"""

from __future__ import annotations

import signal
import threading

import cv2
import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String

JOINTS = ("base", "shoulder", "elbow", "forearm", "wrist", "flange")
SCRAMBLED = ("elbow", "flange", "base", "wrist", "shoulder", "forearm")
LOW = np.array([-1.6, -1.2, -2.2, -2.0, -1.6, -2.5])
HIGH = np.array([1.6, 1.2, 2.2, 2.0, 1.6, 2.5])
HOME = np.array([0.0, -0.3, 1.2, 0.0, 0.6, 0.0])
LINKS = (0.35, 0.55, 0.45, 0.18, 0.14)  # metres: column, upper arm, forearm, wrist, tool
WIDTH, HEIGHT = 160, 120
SERVO_S = 0.03  # time in which a joint takes up a new velocity
STATE_S, PICTURE_S = 0.02, 0.1
COLOURS = ((60, 60, 60), (200, 40, 40), (30, 130, 40), (40, 60, 200), (200, 140, 0))
LIMITS = "".join(
    f'<joint name="{name}" type="revolute"><parent link="l{i}"/><child link="l{i + 1}"/>'
    f'<limit lower="{low}" upper="{high}" velocity="1.5" effort="50"/></joint>'
    for i, (name, low, high) in enumerate(zip(JOINTS, LOW, HIGH, strict=True))
)
URDF = f'<robot name="stand_in">{"".join(f"<link name={chr(34)}l{i}{chr(34)}/>" for i in range(7))}'
URDF += f"{LIMITS}</robot>"


def turn(axis: str, angle: float) -> np.ndarray:
    """(3, 3) rotation about 'x', 'y' or 'z'."""
    c, s = np.cos(angle), np.sin(angle)
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def points_of(q: np.ndarray) -> np.ndarray:
    """(7, 3) base, shoulder, elbow, wrist, flange, and both ends of the gripper's bar, metres."""
    base, shoulder, elbow, forearm, wrist, flange = q
    up = np.array([0.0, 0.0, 1.0])
    pose = turn("z", base)
    points = [np.zeros(3), LINKS[0] * up]
    for turns, length in (
        ((("y", shoulder),), LINKS[1]),
        ((("y", elbow),), LINKS[2]),
        ((("z", forearm), ("y", wrist)), LINKS[3] + LINKS[4]),
    ):
        for axis, angle in turns:
            pose = pose @ turn(axis, angle)
        points.append(points[-1] + pose @ (length * up))
    bar = pose @ turn("z", flange) @ np.array([0.12, 0.0, 0.0])
    return np.array([*points, points[-1] - bar, points[-1] + bar])


def picture_of(q: np.ndarray) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8 RGB: the arm from the front, from above and a little to the side."""
    image = np.full((HEIGHT, WIDTH, 3), (225, 225, 215), np.uint8)
    image[HEIGHT * 3 // 4 :] = (170, 175, 185)
    view = turn("x", 0.45) @ turn("z", 0.5)  # x right, z up, y away
    seen = points_of(q) @ view.T
    scale = 62.0
    pixels = np.stack([WIDTH / 2 + scale * seen[:, 0], 96 - scale * seen[:, 2]], axis=1)
    fixed = np.round(pixels * 16).astype(int)  # sixteenths of a pixel
    pairs = [(0, 1), (1, 2), (2, 3), (3, 4), (5, 6)]
    for (a, b), colour, thick in zip(pairs, COLOURS, (9, 7, 6, 5, 4), strict=True):
        ends = tuple(fixed[a].tolist()), tuple(fixed[b].tolist())
        cv2.line(image, *ends, colour, thick, cv2.LINE_AA, shift=4)
    return image


class StandInArm(Node):
    """The driver; joint velocities on ``/arm/velocity``, in the order of `JOINTS`."""

    def __init__(self, **options) -> None:
        super().__init__("stand_in_arm", **options)
        declare = self.declare_parameter
        self._rng = np.random.default_rng(declare("seed", 0).value)
        self._jitter_s = declare("jitter_s", 0.005).value
        self._hole_s = declare("hole_s", 0.4).value
        self._hole_every_s = declare("hole_every_s", 20.0).value
        self._timeout_s = declare("command_timeout_s", 0.5).value
        self.q = np.array(declare("start", HOME.tolist()).value, dtype=float)
        self.velocity = np.zeros(6)
        self.commands = 0
        self._asked, self._asked_ns, self._moved_ns = np.zeros(6), 0, self._now_ns()
        self._begin_ns = self._moved_ns
        self._states = self.create_publisher(JointState, "/joint_states", 10)
        self._images = self.create_publisher(Image, "/arm_camera/image_raw", 5)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._description = self.create_publisher(String, "/robot_description", latched)
        self._description.publish(String(data=URDF))
        profile = qos_profile_sensor_data
        self.create_subscription(Float64MultiArray, "/arm/velocity", self._on_command, profile)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(STATE_S, self._on_state, clock=steady)
        self.create_timer(0.05, self._on_gripper, clock=steady)
        self._shutter = self.create_timer(PICTURE_S, self._on_picture, clock=steady)

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _on_command(self, message: Float64MultiArray) -> None:
        if len(message.data) == 6 and np.isfinite(message.data).all():
            self.commands += 1
            self._asked, self._asked_ns = np.array(message.data), self._now_ns()

    def _move(self) -> None:
        """Bring the arm to now."""
        now_ns = self._now_ns()
        passed_s, self._moved_ns = (now_ns - self._moved_ns) * 1e-9, now_ns
        asked = self._asked
        if (now_ns - self._asked_ns) * 1e-9 > self._timeout_s:
            asked = np.zeros(6)
        for part_s in [passed_s / 4] * 4:
            self.velocity += (asked - self.velocity) * (1 - np.exp(-part_s / SERVO_S))
            self.q = np.clip(self.q + self.velocity * part_s, LOW, HIGH)

    def _on_state(self) -> None:
        self._move()
        message = JointState(name=list(SCRAMBLED))
        message.header.stamp = self.get_clock().now().to_msg()
        order = [JOINTS.index(name) for name in SCRAMBLED]
        message.position = self.q[order].tolist()
        message.velocity = self.velocity[order].tolist()
        self._states.publish(message)

    def _on_gripper(self) -> None:
        message = JointState(name=["gripper_left", "gripper_right"], position=[0.02, 0.02])
        message.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(message)

    def _on_picture(self) -> None:
        jitter_s = self._jitter_s * float(np.clip(self._rng.standard_normal(), -3, 3))
        self._shutter.timer_period_ns = round((PICTURE_S + jitter_s) * 1e9)
        since_s = (self._now_ns() - self._begin_ns) * 1e-9
        # The first hole comes a quarter of the time after the start, so that short runs have one.
        if (
            self._hole_every_s
            and 0 <= ((since_s - self._hole_every_s / 4) % self._hole_every_s) < self._hole_s
        ):
            return
        self._move()
        message = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = "arm_camera"
        message.data = picture_of(self.q).tobytes()
        self._images.publish(message)


def main() -> None:
    """Run until SIGINT or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, executor = StandInArm(), SingleThreadedExecutor()
    executor.add_node(node)
    print("the arm is there", flush=True)
    while not stop.is_set():
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
