"""The learner's voice on the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from wm_planner.ros.base import NodeBase
from wm_planner.ros.diagnostics import OK, WARN, array, status

NAME = "learner"
STATUS = f"{NAME}: round"


class LearnerNode(NodeBase):
    """Tells of the newest round, again and again."""

    def __init__(self, **options: Any) -> None:
        super().__init__(NAME, None, **options)
        self._newest: DiagnosticStatus | None = None

    def tell(self, bad: bool, text: str, values: Mapping[str, Any]) -> None:
        """Of a round; values that are None are left out."""
        known = {key: value for key, value in values.items() if value is not None}
        self._newest = status(STATUS, WARN if bad else OK, text, known)
        self.tell_again()

    def tell_again(self) -> None:
        """For those who came later."""
        if self._newest is not None:
            stamp_ns = self.get_clock().now().nanoseconds
            self._status.publish(array(stamp_ns, self._newest))
