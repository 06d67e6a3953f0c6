"""Lifecycle nodes whose failures are seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from wm_planner.errors import WmPlannerError
from wm_planner.ros.parameters import read_parameters


class ManagedNode(LifecycleNode):
    """A lifecycle node with strict parameters; subclasses fill in the four steps.

    rclpy swallows an exception in a transition callback; here it is logged, kept, and, at
    autostart, raised.
    """

    def __init__(self, name: str, config_class: type, **options: Any) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **options)
        self.config: Any = read_parameters(self, config_class)
        self._failure: Exception | None = None
        self._starting = False
        self._lasting: set[int] = set()  # entities that rclpy itself made

    def configure(self) -> None:
        """Load and connect."""

    def activate(self) -> None:
        """Begin to act."""

    def deactivate(self) -> None:
        """Stop acting."""

    def cleanup(self) -> None:
        """Undo `configure`."""

    def start(self) -> None:
        """Configure and activate at once when the parameter ``autostart`` says so.

        Raises:
            Exception: what made a transition fail.
        """
        if not self.config.autostart:
            return
        self._starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                raise self._failure or WmPlannerError(f"{self.get_name()} could not start")
        self._starting = False

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """See `configure`."""
        self._lasting = {id(entity) for entity, _ in self._entities()}
        result = self._guard(self.configure)
        if result != TransitionCallbackReturn.SUCCESS:  # it may be tried again
            self._disconnect()
        return result

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """See `activate`."""
        return self._guard(self.activate)

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """See `deactivate`."""
        return self._guard(self.deactivate)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """See `cleanup`; what `configure` connected is destroyed."""
        self._disconnect()
        return self._guard(self.cleanup)

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """Leave nothing running."""
        return self._guard(self.close)

    def close(self) -> None:
        """Called once before the process ends, from whatever state."""

    def _disconnect(self) -> None:
        for entity, destroy in self._entities():
            if id(entity) not in self._lasting:
                destroy(entity)

    def _entities(self) -> list[tuple[Any, Callable[[Any], Any]]]:
        return [
            *((entity, self.destroy_publisher) for entity in self.publishers),
            *((entity, self.destroy_subscription) for entity in self.subscriptions),
            *((entity, self.destroy_timer) for entity in self.timers),
            *((entity, self.destroy_service) for entity in self.services),
        ]

    def _guard(self, step: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            step()
        except Exception as error:
            self._failure = error
            expected = isinstance(error, WmPlannerError)
            if not self._starting:  # `start` raises it
                text = str(error) if expected else f"{type(error).__name__}: {error}"
                self.get_logger().error(text)
            return TransitionCallbackReturn.FAILURE if expected else TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS
