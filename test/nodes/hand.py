"""Somebody who drives the stand-in arm: ten velocities a second on its topic, until killed."""

import contextlib

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from std_msgs.msg import Float64MultiArray

rclpy.init()
node = rclpy.create_node("hand")
publisher = node.create_publisher(Float64MultiArray, "/arm/velocity", 10)
begin = node.get_clock().now()


def drive() -> None:
    t_s = (node.get_clock().now() - begin).nanoseconds * 1e-9
    publisher.publish(Float64MultiArray(data=(0.5 * np.sin(1.5 * t_s + np.arange(6))).tolist()))


node.create_timer(0.1, drive)
print("the hand is there", flush=True)
with contextlib.suppress(ExternalShutdownException):
    rclpy.spin(node)
