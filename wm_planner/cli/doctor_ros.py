"""What `wm-planner doctor` finds out about ROS: rclpy, discovery of processes, a camera's topic."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from wm_planner.cli.doctor import Finding, Level
from wm_planner.errors import WmPlannerError
from wm_planner.extras import way_out

START_S = 60.0  # until the other process is there; on a machine at rest, one second
DISCOVER_S = 10.0  # from then on; most often far less than one
TOPIC = "wm_planner_doctor"


def ros() -> Iterator[Finding]:
    """Whether rclpy can be imported and started, and two processes find each other."""
    try:
        import rclpy
        from rclpy.utilities import get_rmw_implementation_identifier
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "rclpy"
        level = Level.WARN if missing else Level.FAIL
        yield Finding("ROS", level, f"rclpy cannot be imported ({error}): {way_out('rclpy')}")
        yield Finding("DDS", level, "nothing can be discovered without rclpy")
        return
    name = os.environ.get("ROS_DISTRO", "from wheels")
    domain = os.environ["ROS_DOMAIN_ID"]
    try:
        middleware = get_rmw_implementation_identifier()
        rclpy.init(domain_id=int(domain))
    except Exception as error:  # of the middleware, whatever it raises
        wanted = os.environ.get("RMW_IMPLEMENTATION")
        way = f"unset RMW_IMPLEMENTATION={wanted}, or install it" if wanted else "install one"
        yield Finding("ROS", Level.FAIL, f"no middleware: {_line(error)}; {way}")
        yield Finding("DDS", Level.FAIL, "nothing can be discovered without a middleware")
        return
    yield Finding("ROS", Level.OK, f"rclpy ({name}), {middleware}")
    try:
        yield discovery(domain, domain)
    finally:
        rclpy.try_shutdown()


def discovery(domain: str, others: str, limit_s: float = DISCOVER_S) -> Finding:
    """Send a message to another process and wait for its answer; rclpy is started.

    Args:
        domain: in which this process is.
        others: in which the other one is.
        limit_s: how long to wait for it.
    """
    token = f"t{os.getpid()}"
    environment = {**os.environ, "ROS_DOMAIN_ID": others}
    command = [sys.executable, "-m", "wm_planner.cli.doctor_probes", "answer", token]
    with Peer(f"{token}_ask", f"{TOPIC}/{token}/ask", f"{TOPIC}/{token}/answer") as peer:
        other = subprocess.Popen([*command, str(limit_s)], env=environment, stdout=subprocess.PIPE)
        try:
            answers = other.stdout
            assert answers is not None
            peer.spin(lambda: bool(select.select([answers], [], [], 0)[0]), START_S)
            begin_s = time.monotonic()
            answered = peer.spin(lambda: bool(peer.heard), limit_s, says=True)
            took_s = time.monotonic() - begin_s
        finally:
            other.kill()
            other.communicate()
        seen = sorted(name for name in peer.others() if token not in name)
    where = f"domain {domain}, {os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET').lower()}"
    if not answered:
        text = (
            f"two processes did not find each other within {limit_s:g} s ({where}): let the "
            "firewall pass UDP on ports 7400 to 65000 of this machine, turn on multicast (ip link "
            "set lo multicast on), and look at RMW_IMPLEMENTATION and FASTDDS_DEFAULT_PROFILES_FILE"
        )
        return Finding("DDS", Level.FAIL, text)
    nodes = f"; other nodes: {', '.join(seen[:5])}{' ...' if len(seen) > 5 else ''}" if seen else ""
    return Finding("DDS", Level.OK, f"another process answered in {took_s:.1f} s ({where}){nodes}")


def answer(token: str, limit_s: str) -> Iterator[Finding]:
    """The other process of `discovery`: tells that it is there, and answers until it is ended."""
    import rclpy

    rclpy.init(domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    topics = f"{TOPIC}/{token}/answer", f"{TOPIC}/{token}/ask"
    with Peer(f"{token}_answer", *topics) as peer:
        yield Finding("DDS", Level.OK, "the other process is there")
        peer.spin(lambda: bool(peer.heard), float(limit_s))
        peer.spin(lambda: False, float(limit_s), says=True)


class Peer:
    """A node that says something on one topic and hears another; rclpy is started."""

    def __init__(self, name: str, says: str, hears: str) -> None:
        from rclpy.node import Node
        from std_msgs.msg import String

        self.heard: list[Any] = []
        self._message = String(data=name)
        self._node = Node(f"{TOPIC}_{name}", start_parameter_services=False)
        self._publisher = self._node.create_publisher(String, says, 10)
        self._node.create_subscription(String, hears, self.heard.append, 10)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._node.destroy_node()

    def others(self) -> list[str]:
        """Names of all nodes on the graph, with their namespaces."""
        found = self._node.get_node_names_and_namespaces()
        return [f"{space.rstrip('/')}/{name}" for name, space in found]

    def spin(self, done: Callable[[], bool], limit_s: float, says: bool = False) -> bool:
        """Serve the node until `done()`; False when that took too long."""
        import rclpy

        deadline_s = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > deadline_s:
                return False
            if says:
                self._publisher.publish(self._message)
            rclpy.spin_once(self._node, timeout_sec=0.05)
        return True


def camera_topic(topic: str) -> Iterator[Finding]:
    """Hear one picture of a topic."""
    try:
        import rclpy
    except ImportError as error:
        text = f"{topic}: rclpy cannot be imported ({error}): {way_out('rclpy')}"
        yield Finding("camera", Level.FAIL, text)
        return
    rclpy.init(domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    try:
        yield _picture(topic)
    except WmPlannerError as error:
        yield Finding("camera", Level.FAIL, f"{topic}: {error}")
    finally:
        rclpy.try_shutdown()


def _picture(topic: str) -> Finding:
    import rclpy
    from rclpy.node import Node
    from sensor_msgs.msg import CompressedImage, Image

    from wm_planner.data.image_message import image_array
    from wm_planner.ros.command_topics import type_on_graph
    from wm_planner.ros.qos import SENSOR

    types = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
    node = Node(f"{TOPIC}_camera", start_parameter_services=False)
    heard: list[Any] = []
    found = None
    deadline_s = time.monotonic() + DISCOVER_S
    while not heard and time.monotonic() < deadline_s:
        rclpy.spin_once(node, timeout_sec=0.05)
        if found is None and (found := type_on_graph(node, topic)) is not None:
            if found not in types:
                text = f"{topic} has the type {found}: name a topic of Image or CompressedImage"
                return Finding("camera", Level.FAIL, text)
            node.create_subscription(types[found], topic, heard.append, SENSOR)
    if not heard:
        text = f"{topic}: no picture within {DISCOVER_S:g} s"
        who = "its publisher sends none" if found else "nobody publishes it (ros2 topic list)"
        return Finding("camera", Level.FAIL, f"{text}; {who}")
    try:
        height, width, _ = image_array(heard[0]).shape
    except WmPlannerError as error:
        return Finding("camera", Level.FAIL, f"{topic}: {error}")
    return Finding("camera", Level.OK, f"{topic}: {width} x {height} pixels, {found}")


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


PROBES: dict[str, Callable[..., Iterator[Finding]]] = {
    "ros": ros,
    "answer": answer,
    "topic": camera_topic,
}
