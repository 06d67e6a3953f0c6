"""Listens to what a robot says of itself; see `wm_planner.robot_state`."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from wm_planner.errors import ConfigError
from wm_planner.robot_state import TOPIC, StateTopic
from wm_planner.ros.bounded import excess
from wm_planner.ros.diagnostics import ERROR, OK, status

LOOK_S = 0.5  # between two looks at who publishes
TELL_S = 0.1
_DEPTH = 10


def message_type(name: str) -> type:
    """The class of a message type.

    Raises:
        ConfigError: its package is not installed, or has no such message.
    """
    package, _, kind = name.split("/")
    try:
        found: type = getattr(importlib.import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"state: message type {name} is not installed here ({error}); install {package}, or "
            "source the workspace that holds it"
        ) from error
    return found


class StateWatch:
    """Whether a robot executes its commands, by all that it says of itself.

    Args:
        node: that listens.
        states: of the robot file.
        heard: called after each message.

    Raises:
        ConfigError: a message type is not installed, or has no such field.
    """

    def __init__(
        self, node: Node, states: Sequence[StateTopic], heard: Callable[[], None] | None = None
    ) -> None:
        self._topics = [_Listener(node, state, heard) for state in states]

    def look(self) -> None:
        """Listen as the publishers of now need it; call it every `LOOK_S`."""
        for topic in self._topics:
            topic.look()

    def why_not(self) -> str:
        """Why the robot does not execute commands, for people; empty: it does."""
        return "; ".join(filter(None, (topic.why_not() for topic in self._topics)))


class StateRecord:
    """Tells a recorder whether the robot executes its commands: at each change, and twice a second.

    Args:
        node: that listens; its timers are steady.
        states: of the robot file; without any nothing is told.
        write: takes the message.

    Raises:
        ConfigError: see `StateWatch`.
    """

    def __init__(
        self, node: Node, states: Sequence[StateTopic], write: Callable[[DiagnosticStatus], None]
    ) -> None:
        self._watch = StateWatch(node, states, self.tell)
        self._write = write
        self._told: tuple[str, float] | None = None
        if states:
            node.create_timer(LOOK_S, self._watch.look)
            node.create_timer(TELL_S, self.tell)

    def tell(self) -> None:
        """Tell it, where that is due."""
        why, now_s = self._watch.why_not(), time.monotonic()
        if self._told is None or self._told[0] != why or now_s - self._told[1] >= LOOK_S:
            self._told = why, now_s
            self._write(status(TOPIC, ERROR if why else OK, why or "obeys", {}))


class _Listener:
    def __init__(
        self, node: Node, state: StateTopic, heard: Callable[[], None] | None = None
    ) -> None:
        self._node, self.state, self._heard = node, state, heard
        self._kind = message_type(state.type)
        self._topic = node.resolve_topic_name(state.topic)
        if not any(part.isdecimal() for part in state.field.split(".")):
            state.value(self._kind())
        self._subscription: Subscription | None = None
        self._value: Any = None
        self._problem = "nothing has come yet"  # instead of a value
        self._since_s = 0.0
        self.look()

    def look(self) -> None:
        """A driver that publishes changes only has latched the newest one; others have not."""
        infos = self._node.get_publishers_info_by_topic(self._topic)
        types = {info.topic_type for info in infos} - {self.state.type}
        if types:  # such messages never come
            self._problem = f"is of type {', '.join(sorted(types))}, expected {self.state.type}"
        profiles = [info.qos_profile for info in infos if info.topic_type == self.state.type]
        if self._subscription is not None and not profiles:
            return
        latched = {p.durability for p in profiles} == {DurabilityPolicy.TRANSIENT_LOCAL}
        reliable = {p.reliability for p in profiles} == {ReliabilityPolicy.RELIABLE}
        wanted = QoSProfile(
            depth=_DEPTH,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )
        if self._subscription is not None:
            now = self._subscription.qos_profile
            if (now.durability, now.reliability) == (wanted.durability, wanted.reliability):
                return
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._node.create_subscription(
            self._kind, self.state.topic, self._on_bytes, wanted, raw=True
        )

    def _on_bytes(self, data: bytes) -> None:
        """What cannot be read is no good value."""
        self._since_s, self._problem = time.monotonic(), ""
        try:
            beyond = excess(data, self._kind)
            if beyond:
                raise ConfigError(beyond)
            self._value = self.state.value(deserialize_message(data, self._kind))
        except Exception as error:  # the middleware lets out whatever damaged bytes bring about
            self._problem = f"a message cannot be read: {error}"
        if self._heard is not None:
            self._heard()

    def why_not(self) -> str:
        state = self.state
        if not self._problem and not self.state.is_good(self._value):
            return state.told(self._value)
        problem = self._problem
        age_s = time.monotonic() - self._since_s
        if not problem and state.max_age_s is not None and age_s > state.max_age_s:
            problem = f"the newest value is {age_s:.2f} s old, max_age_s is {state.max_age_s:g}"
        if not problem and not self._node.count_publishers(self._topic):
            problem = "nobody publishes it any more"
        return f"{state.topic}: {problem}" if problem else ""
