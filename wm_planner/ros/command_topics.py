"""What others command a robot with: the message types, and finding out which one a topic has."""

from __future__ import annotations

from collections.abc import Callable

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from wm_planner.config import suggest
from wm_planner.errors import ConfigError
from wm_planner.ros.qos import recorded

TYPES: dict[str, type] = {
    "std_msgs/msg/Float64MultiArray": Float64MultiArray,
    "trajectory_msgs/msg/JointTrajectory": JointTrajectory,
    "geometry_msgs/msg/Twist": Twist,
    "geometry_msgs/msg/TwistStamped": TwistStamped,
    "sensor_msgs/msg/JointState": JointState,
}


def command_type(name: str) -> type:
    """The type of that name, if it can be recorded as a command.

    Raises:
        ConfigError: it is not.
    """
    if name not in TYPES:
        raise ConfigError(
            f"commands of type '{name}' cannot be recorded.{suggest(name, TYPES)} Record what the "
            "robot's controller makes of them, for example its JointState"
        )
    return TYPES[name]


def type_on_graph(node: Node, topic: str) -> str | None:
    """Type of a topic, by those who publish or, before anybody does, subscribe to it.

    Raises:
        ConfigError: two types are used on it.
    """
    found = node.get_publishers_info_by_topic(topic) or [
        info
        for info in node.get_subscriptions_info_by_topic(topic)
        if info.node_name != node.get_name()
    ]
    types = sorted({info.topic_type for info in found})
    if len(types) > 1:
        raise ConfigError(f"topic {topic} has several types: {', '.join(types)}; give one of them")
    return types[0] if types else None


class CommandTopic:
    """Subscribes to a topic of commands once the graph tells its type.

    Args:
        node: that listens.
        topic: empty: there is none.
        kind: name of the message type; empty: as found on the graph.
        subscribe: (topic, type, profile) -> subscription.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        kind: str,
        subscribe: Callable[[str, type, QoSProfile], Subscription],
    ) -> None:
        self._node, self._kind, self._subscribe = node, kind, subscribe
        self._topic = node.resolve_topic_name(topic) if topic else ""
        self._subscription: Subscription | None = None

    @property
    def heard(self) -> bool:
        """Whether somebody publishes on it who is heard; true without a topic."""
        if not self._topic:
            return True
        return self._subscription is not None and self._node.count_publishers(self._topic) > 0

    def look(self) -> None:
        """Look at the graph; call it now and then.

        Raises:
            ConfigError: commands of that type cannot be recorded, or there are several.
        """
        if not self._topic:
            return
        profile = self._profile()
        old = self._subscription
        if old is not None:
            if old.qos_profile.reliability == profile.reliability:
                return
            self._node.destroy_subscription(old)
            self._subscription = None
        name = self._kind or type_on_graph(self._node, self._topic)
        if name is not None:
            self._subscription = self._subscribe(self._topic, command_type(name), profile)

    def _profile(self) -> QoSProfile:
        """Reliable, unless somebody publishes who is not: they would not be heard."""
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        effort = {info.qos_profile.reliability for info in publishers}
        return recorded(ReliabilityPolicy.BEST_EFFORT not in effort)
