"""Lifecycle nodes whose failures are seen, and leave nothing running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import Transition
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rosgraph_msgs.msg import Clock

from wm_planner.errors import WmPlannerError
from wm_planner.ros.base import NodeBase

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR


class ManagedNode(NodeBase, LifecycleNode):
    """A lifecycle node with strict parameters; subclasses fill in the four steps.

    rclpy swallows an exception in a transition callback; here it is logged, kept, and, at
    autostart, raised. What fails leaves the node in a state from which it can be tried again:

    - `configure`: unconfigured, and nothing connected.
    - `activate`: inactive, by way of `deactivate`.
    - `deactivate`: unconfigured, by way of `cleanup`, and nothing connected.
    - `cleanup` and shutdown go on: they end unconfigured and finalized, and nothing connected.

    A transition that the present state does not have is refused; rclpy would end the process.
    """

    def __init__(self, name: str, config_class: type, **options: Any) -> None:
        super().__init__(name, config_class, **options)
        self._failure: Exception | None = None
        self._starting = False
        for service in self.services:  # rclpy makes those of the lifecycle past `create_service`
            if service is self._service_change_state:
                change = self._only_possible(service.callback)
                service.callback = self._guarded(
                    "service ~/change_state", change, lambda _error, _request, response: response
                )
        self._keep()

    def configure(self) -> None:
        """Load and connect."""

    def activate(self) -> None:
        """Begin to act."""

    def deactivate(self) -> None:
        """Stop acting; also called where `activate` failed half-way."""

    def cleanup(self) -> None:
        """Undo `configure`; also called where `configure` failed half-way."""

    @property
    def acts(self) -> bool:
        """Whether it is active, or on its way there or back."""
        return self.state not in ("unconfigured", "inactive", "finalized")

    @property
    def state(self) -> str:
        """Of the lifecycle."""
        return str(self._state_machine.current_state[1])

    def start(self) -> None:
        """Configure and activate at once when the parameter ``autostart`` says so.

        Raises:
            Exception: what made a transition fail.
        """
        if not self.config.autostart:
            return
        self._starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != SUCCESS:
                raise self._failure or WmPlannerError(f"{self.get_name()} could not start")
        self._starting = False

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """See `configure`."""
        self._keep()  # also what a subclass has made, or was asked for since
        result = self._try(self.configure)
        if result == FAILURE:
            self._undo(self.cleanup)
        return result

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """See `activate`."""
        result = self._try(self.activate)
        if result == FAILURE and not self._tell_of(self.deactivate):
            return ERROR
        return result

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """See `deactivate`; what fails half-way must not stay active."""
        return SUCCESS if self._try(self.deactivate) == SUCCESS else ERROR

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """See `cleanup`; what `configure` connected is destroyed."""
        self._undo(self.cleanup)
        return SUCCESS

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """Leave nothing running."""
        self._undo(self.close)
        return SUCCESS

    def on_error(self, state: Any) -> TransitionCallbackReturn:
        """After an unexpected exception: silent and unconnected, to be configured again."""
        self._undo(self.deactivate, self.cleanup)
        return SUCCESS

    def close(self) -> None:
        """Called once before the process ends, from whatever state."""

    def destroy_node(self) -> None:
        """Take the node off the graph at once.

        rclpy keeps the state machine, and with it the node's place on the graph, until Python
        collects its garbage.
        """
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def _only_possible(self, change: Callable[..., Any]) -> Callable[..., Any]:
        """The service's callback for transitions that the present state has."""

        def change_state(request: Any, response: Any) -> Any:
            asked: Transition = request.transition
            possible = {t[1]: t[0] for t in self._state_machine.available_transitions}
            if asked.label in possible or (not asked.label and asked.id in possible.values()):
                return change(request, response)
            named = ", ".join(sorted(possible)) or "none"
            self.get_logger().error(
                f"transition {asked.label or asked.id} is refused: the node is {self.state}, "
                f"which has {named}"
            )
            response.success = False
            return response

        return change_state

    def _keep(self) -> None:
        """What is there now stays whatever the state is."""
        self._lasting = {id(entity) for entity, _ in self._entities()}

    def _undo(self, *steps: Callable[[], None]) -> None:
        """Take these steps, whatever they raise, and destroy what `configure` connected."""
        for step in steps:
            self._tell_of(step)
        for entity, destroy in self._entities():
            if id(entity) not in self._lasting:
                destroy(entity)

    def _entities(self) -> list[tuple[Any, Callable[[Any], Any]]]:
        """All but the subscription of the clock, which rclpy makes where it is asked to."""
        heard = [each for each in self.subscriptions if each.msg_type is not Clock]
        return [
            *((entity, self.destroy_publisher) for entity in self.publishers),
            *((entity, self.destroy_subscription) for entity in heard),
            *((entity, self.destroy_timer) for entity in self.timers),
            *((entity, self.destroy_service) for entity in self.services),
            *((entity, self.destroy_client) for entity in self.clients),
        ]

    def _try(self, step: Callable[[], None]) -> TransitionCallbackReturn:
        """A transition's step; what it raises is kept as its reason."""
        try:
            step()
        except Exception as error:
            self._failure = error
            if not self._starting:  # `start` raises it
                self.get_logger().error(_text(error))
            return FAILURE if isinstance(error, WmPlannerError) else ERROR
        return SUCCESS

    def _tell_of(self, step: Callable[[], None]) -> bool:
        """A step back; False, and a line in the log, when it raises."""
        try:
            step()
        except Exception as error:
            self.get_logger().error(f"{step.__name__}: {_text(error)}")
            return False
        return True


def _text(error: Exception) -> str:
    expected = isinstance(error, WmPlannerError)
    return str(error) if expected else f"{type(error).__name__}: {error}"
