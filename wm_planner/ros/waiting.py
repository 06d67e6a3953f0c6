"""A lifecycle node whose activation may need something that has not come yet."""

from __future__ import annotations

from typing import Any

from wm_planner.errors import ConfigError
from wm_planner.ros.lifecycle import SUCCESS, ManagedNode

RETRY_S = 0.2  # autostart: until what is missing is asked for again


class NotYetError(ConfigError):
    """Something that activation needs has not come yet, or something is in its way."""


class WaitingNode(ManagedNode):
    """At autostart it activates as soon as what that needs is there.

    Attributes:
        exit_code: 2 when activation failed for another reason; None while the node goes on.
    """

    def __init__(self, name: str, config_class: type, **options: Any) -> None:
        super().__init__(name, config_class, **options)
        self.exit_code: int | None = None
        self._waiting: Any = None

    def start(self) -> None:
        """At autostart: configure at once, and activate as soon as what that needs has come.

        Raises:
            Exception: what made a transition fail, other than waiting.
        """
        try:
            super().start()
        except NotYetError as error:
            self._starting = False
            self.get_logger().info(f"waiting: {error}")
            self._waiting = self.create_timer(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._starting = True  # the reason has been told
        done = self.state == "active" or self.trigger_activate() == SUCCESS
        self._starting = False
        if done or not isinstance(self._failure, NotYetError):
            self.destroy_timer(self._waiting)
        if not done and not isinstance(self._failure, NotYetError):
            self.get_logger().error(str(self._failure))
            self.exit_code = 2
