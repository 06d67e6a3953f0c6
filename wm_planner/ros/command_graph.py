"""Who else is on the controller's topics: who listens to commands, who else sends them, who plans.

The graph is looked at, never waited for: call `look` a few times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from wm_planner.robot import ADAPTERS, adapter_hint

GUARD = "command_guard"  # sends the safe command when the controller has died
# Begin the names of nodes that listen to commands and move nothing.
BYSTANDERS = (GUARD, "finetune_node", "_ros2cli", "rosbag2", "foxglove_bridge", "rqt", "rviz")
_UNKNOWN = "_NODE_NAME_UNKNOWN_"  # an endpoint is known before its node is
_PATIENCE = (
    120  # looks after which an endpoint without a node is somebody: a clock that steps delays names
)


@dataclass(frozen=True)
class OnGraph:
    """What one look has found.

    Attributes:
        strangers: others that publish commands, by their full names.
        planners: those that publish plans, by endpoint.
        listeners: nodes that get the commands.
        unheard: why nobody gets the commands, and the way out; '' when somebody does.
        misfit: a node beside the listeners that waits for another type; ''.
    """

    strangers: tuple[str, ...]
    planners: Mapping[Hashable, str]
    listeners: tuple[str, ...]
    unheard: str
    misfit: str


class CommandGraph:
    """Looks at who is on the topics of commands and plans.

    Args:
        node: of the controller.
        command, plan: the topics, as the node calls them.
        adapter: that makes the commands.
        create: makes the publisher of the commands. The endpoint that it adds is the node's own,
            which a name would not tell: a second controller has the same one.

    Attributes:
        publisher: that was made.
    """

    def __init__(
        self, node: Node, command: str, plan: str, adapter: str, create: Callable[[], Publisher]
    ) -> None:
        self._node, self._adapter = node, adapter
        self._command, self._plan = (node.resolve_topic_name(name) for name in (command, plan))
        self._before = {_gid(info) for info in self._publishers()}
        self._own: set[tuple[int, ...]] = set()
        self._nameless: dict[tuple[int, ...], int] = {}
        self.publisher = create()
        self._find_own()

    def look(self) -> OnGraph:
        """What is on the graph now."""
        self._find_own()
        others = [info for info in self._publishers() if _gid(info) not in self._own]
        guard = self._full_name(self._node.get_namespace(), GUARD)
        names = [self._name(info) for info in self._known(others)]
        strangers = [name for name in names if name != guard]
        planning = self._known(self._node.get_publishers_info_by_topic(self._plan))
        planners: dict[Hashable, str] = {_gid(info): self._name(info) for info in planning}
        listeners, unheard, misfit = self._listeners()
        return OnGraph(tuple(strangers), planners, tuple(listeners), unheard, misfit)

    def _publishers(self) -> list[Any]:
        return self._node.get_publishers_info_by_topic(self._command)

    def _find_own(self) -> None:
        """Once: the endpoint of this node's name that was not there before."""
        if not self._own:
            mine = self._full_name(self._node.get_namespace(), self._node.get_name())
            self._own = {
                _gid(info)
                for info in self._publishers()
                if _gid(info) not in self._before and self._name(info) == mine
            }

    def _known(self, infos: list[Any]) -> list[Any]:
        """The endpoints whose node is known, or long unknown."""
        for info in infos:
            if info.node_name == _UNKNOWN:
                self._nameless[_gid(info)] = self._nameless.get(_gid(info), 0) + 1
        return [
            info
            for info in infos
            if info.node_name != _UNKNOWN or self._nameless[_gid(info)] > _PATIENCE
        ]

    def _listeners(self) -> tuple[list[str], str, str]:
        """Who gets the commands; why nobody does; and who waits for something else."""
        sent, topic = ADAPTERS[self._adapter], self._command
        heard, misfits = [], []
        for info in self._node.get_subscriptions_info_by_topic(topic):
            if info.node_name.startswith(BYSTANDERS):
                continue
            name = self._name(info)
            if info.topic_type != sent:
                misfits.append(
                    f"{name} listens on {topic} for {info.topic_type}, and adapter "
                    f"'{self._adapter}' sends {sent}: {adapter_hint(info.topic_type)}"
                )
                continue
            asks = self._asks_more(info.qos_profile)
            if asks:
                misfits.append(
                    f"{name} listens on {topic}, and does not get what is sent: it asks for {asks}"
                )
            else:
                heard.append(name)
        misfit = misfits[0] if misfits else ""
        if heard:
            return heard, "", misfit
        nobody = (
            f"nobody listens on {topic} for {sent}: start the robot's controller, or name its "
            "topic as command.topic of the robot file"
        )
        return [], misfit or nobody, ""

    def _asks_more(self, asked: Any) -> str:
        """What of quality of service a subscription asks for and the publisher does not offer.

        Deadlines and leases are not compared: endless ones look different to different sides.
        """
        offered = self.publisher.qos_profile
        if (asked.reliability, offered.reliability) == (
            ReliabilityPolicy.RELIABLE,
            ReliabilityPolicy.BEST_EFFORT,
        ):
            return "reliability 'reliable'"
        if (asked.durability, offered.durability) == (
            DurabilityPolicy.TRANSIENT_LOCAL,
            DurabilityPolicy.VOLATILE,
        ):
            return "durability 'transient_local'"
        return ""

    def _name(self, info: Any) -> str:
        return self._full_name(info.node_namespace, info.node_name)

    @staticmethod
    def _full_name(namespace: str, name: str) -> str:
        return f"{namespace.rstrip('/')}/{name}"


def _gid(info: Any) -> tuple[int, ...]:
    return tuple(info.endpoint_gid)
