"""A listener that says when it hears everybody: what is sent before that would be lost to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.publisher import Publisher

from wm_planner.ros.base import NodeBase
from wm_planner.ros.diagnostics import OK, array, status

_PERIOD_S = 0.2
_HOPED_S = 2.0  # that is waited for what need not come
_SUFFIX = ": listening"


class ReadyReport:
    """Repeats on ``/diagnostics`` that `node` has found a publisher of each topic, until `stop`.

    DDS finds partners pair by pair, and repairs what went wrong in that after 3 s: that two nodes
    are known to a third one does not mean that they know each other. A node tells of its publishers
    only to whom it knows, so that who has found one is found by it within a round trip; and it
    tells of all of them together, so that one topic of each node will do.

    Args:
        node: that listens.
        publisher: of its diagnostics.
        topics: that it listens to, one or more of each node.
        hoped: whether it hears also those who need not be there, for whom it waits a little.
    """

    def __init__(
        self,
        node: NodeBase,
        publisher: Publisher,
        topics: Sequence[str],
        hoped: Callable[[], bool] = lambda: True,
    ) -> None:
        self._node, self._publisher, self._hoped = node, publisher, hoped
        self._topics = [node.resolve_topic_name(topic) for topic in topics]
        self._found_s: float | None = None
        self._timer = node.create_timer(_PERIOD_S, self._tell)

    def stop(self) -> None:
        """Nobody waits any more."""
        self._timer.cancel()

    def _tell(self) -> None:
        if not all(self._node.count_publishers(topic) for topic in self._topics):
            return
        now_s = time.monotonic()
        if self._found_s is None:
            self._found_s = now_s
        if self._hoped() or now_s - self._found_s > _HOPED_S:
            stamp_ns = self._node.get_clock().now().nanoseconds
            told = status(self._node.get_name() + _SUFFIX, OK, "found every publisher", {})
            self._publisher.publish(array(stamp_ns, told))


def ready_names(message: DiagnosticArray) -> set[str]:
    """Names of the nodes that `message` says are ready."""
    names = {told.name for told in message.status}
    return {name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)}
