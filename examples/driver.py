"""The driver of your own robot: joint states and pictures go out, velocities come in.

Usage: python examples/driver.py, then `wm-planner robot check examples/gantry.yaml`.

The robot here is a gantry over a table, and it is only imagined: three functions stand for its
hardware. Replace them, and the topics and names in gantry.yaml, by those of your robot. Nothing of
wm_planner is imported: a driver that your robot has already does as well, whoever wrote it.
"""

import signal
import threading
import time

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray

AXES, LOW, HIGH = ["x_axis", "y_axis"], np.zeros(2), np.array([0.6, 0.4])  # metres
TIMEOUT_S = 0.3  # without a command for so long the robot stops by itself; gantry.yaml says so too


class Hardware:
    """Replace these functions by calls to your motors and your camera."""

    place, velocity, since_s = np.array([0.3, 0.2]), np.zeros(2), time.monotonic()

    def positions(self) -> np.ndarray:
        """(2,) metres."""
        now_s = time.monotonic()
        self.place = np.clip(self.place + self.velocity * (now_s - self.since_s), LOW, HIGH)
        self.since_s = now_s
        return self.place

    def move(self, velocity: np.ndarray) -> None:
        """Set (2,) velocities, m/s."""
        self.positions()
        self.velocity = velocity

    def picture(self) -> np.ndarray:
        """(120, 200, 3) uint8 RGB: a red disc of 12 pixels, the tool; 1 m is 200 pixels."""
        x, y = (40, 20) + 200 * self.positions()
        rows, columns = np.mgrid[:120, :200]
        disc = np.hypot(columns - x, rows - y) < 6
        return np.where(disc[..., None], (200, 30, 30), (230, 230, 220)).astype(np.uint8)


class Driver(Node):
    """Publishes /joint_states at 50 Hz and /camera/image_raw at 10 Hz; obeys /gantry/velocity."""

    def __init__(self) -> None:
        super().__init__("gantry_driver")
        self.robot, self.heard_s = Hardware(), 0.0
        self.states = self.create_publisher(JointState, "/joint_states", 10)
        self.pictures = self.create_publisher(Image, "/camera/image_raw", 5)
        self.create_subscription(Float64MultiArray, "/gantry/velocity", self.on_command, 1)
        self.create_timer(0.02, self.on_state)
        self.create_timer(0.1, self.on_picture)

    def on_command(self, message: Float64MultiArray) -> None:
        velocity = np.array(message.data)
        if velocity.shape == (2,) and np.isfinite(velocity).all():
            self.robot.move(velocity)
            self.heard_s = time.monotonic()

    def on_state(self) -> None:
        if time.monotonic() - self.heard_s > TIMEOUT_S:
            self.robot.move(np.zeros(2))  # whoever commanded it is gone
        message = JointState(name=AXES, position=self.robot.positions().tolist())
        message.header.stamp = self.get_clock().now().to_msg()  # when it was measured
        self.states.publish(message)

    def on_picture(self) -> None:
        message = Image(height=120, width=200, encoding="rgb8", step=600)
        message.header.stamp = self.get_clock().now().to_msg()  # when it was taken
        message.data = self.robot.picture().tobytes()
        self.pictures.publish(message)


if __name__ == "__main__":
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    driver = Driver()
    while not stop.is_set():
        rclpy.spin_once(driver, timeout_sec=0.1)
    driver.robot.move(np.zeros(2))  # whoever ends the driver stops the robot
    driver.destroy_node()
    rclpy.try_shutdown()
