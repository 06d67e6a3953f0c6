"""What every node of this package is built on: no message ends it, and its timers are steady."""

from __future__ import annotations

import functools
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher

from wm_planner.errors import ConfigError
from wm_planner.ros.bounded import bounded
from wm_planner.ros.diagnostics import WARN, array, status
from wm_planner.ros.parameters import check_parameter_files, read_parameters
from wm_planner.ros.qos import RECORD

REPORT_S = 1.0
MOST_TEXT = 500  # letters of an error
SIM_TIME = "use_sim_time"
DIAGNOSTICS = "/diagnostics"


class StatusPublisher(Publisher):
    """Of ``/diagnostics``, which all robots share: puts the namespace before a status's name."""

    namespace = ""

    def publish(self, message: DiagnosticArray) -> None:
        """Publish statuses that name their nodes without a namespace."""
        for each in message.status if self.namespace else ():
            each.name = f"{self.namespace}/{each.name.removeprefix(f'{self.namespace}/')}"
        super().publish(message)


class NodeBase(Node):
    """A node whose callbacks never end it, whose timers no step of a clock holds up.

    An exception in a callback of a subscription, service or timer is logged, counted, and told on
    ``/diagnostics``; the node goes on. Timers run on a steady clock unless they are given another:
    the system's clock may be set, and simulated time may stand still. ``use_sim_time`` cannot be
    changed while the node acts.

    Args:
        name: of the node.
        config_class: dataclass of its parameters, which become ``config``; None: it has none.
        options: of `rclpy.node.Node`.

    Raises:
        ConfigError: a parameter cannot be used, or a parameter file does not reach this node.
    """

    config: Any
    ends_with: tuple[type[Exception], ...] = ()  # raised in a timer, they end the node on purpose
    # Of the class, because rclpy makes services before the rest of `__init__` runs.
    _newest_raised = ""
    _steady = Clock(clock_type=ClockType.STEADY_TIME)

    def __init__(self, name: str, config_class: type | None = None, **options: Any) -> None:
        if config_class is not None:
            options.setdefault("automatically_declare_parameters_from_overrides", True)
        try:
            super().__init__(name, **options)
        except ValueError as error:  # rclpy cannot declare a key without a value
            raise ConfigError(f"parameters of {name}: {error}; is a value null?") from error
        self._raised: Counter[str] = Counter()  # exceptions by where they were raised
        if config_class is not None:
            for text in check_parameter_files(self.get_fully_qualified_name(), name):
                self.get_logger().warning(text)
            self.config = read_parameters(self, config_class)
        self._status = self.create_publisher(DiagnosticArray, DIAGNOSTICS, RECORD)
        self.create_timer(REPORT_S, self._report_raised)
        self.add_on_set_parameters_callback(self._keep_clock)

    @property
    def acts(self) -> bool:
        """Whether it does something that a change of its clock would spoil."""
        return True

    def create_publisher(self, msg_type: Any, topic: str, *args: Any, **options: Any) -> Any:
        """As of `rclpy.node.Node`; what is told on ``/diagnostics`` carries the namespace."""
        if topic != DIAGNOSTICS:
            return super().create_publisher(msg_type, topic, *args, **options)
        options["publisher_class"] = StatusPublisher
        publisher: Any = super().create_publisher(msg_type, topic, *args, **options)
        publisher.namespace = self.get_namespace().strip("/")
        return publisher

    def hear_diagnostics(self, callback: Callable[[DiagnosticArray], None]) -> Any:
        """Subscribe to what the nodes of this namespace tell; their names come without it."""
        prefix = f"{self.get_namespace().strip('/')}/".lstrip("/")

        def of_this_robot(message: DiagnosticArray) -> None:
            message.status = [each for each in message.status if each.name.startswith(prefix)]
            for each in message.status:
                each.name = each.name.removeprefix(prefix)
            if message.status:
                callback(message)

        return self.create_subscription(DiagnosticArray, DIAGNOSTICS, of_this_robot, RECORD)

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Any, *args: Any, **options: Any
    ) -> Any:
        """As of `rclpy.node.Node`; what `callback` raises does not end the node.

        Messages beyond their bounds are refused, unless `callback` takes the bytes itself.
        """
        if not options.get("raw"):
            callback, options["raw"] = bounded(self, msg_type, topic, callback), True
        callback = self._guarded(f"topic {topic}", callback)
        return super().create_subscription(msg_type, topic, callback, *args, **options)

    def create_service(self, srv_type: Any, srv_name: str, callback: Any, **options: Any) -> Any:
        """As of `rclpy.node.Node`; where `callback` raises, the answer is the empty response."""
        callback = self._guarded(f"service {srv_name}", callback, _refused)
        return super().create_service(srv_type, srv_name, callback, **options)

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Any,
        callback_group: Any = None,
        clock: Clock | None = None,
        *args: Any,
        **options: Any,
    ) -> Any:
        """As of `rclpy.node.Node`, on a steady clock unless another is given."""
        name = f"timer {getattr(callback, '__name__', '')}".rstrip()
        callback = self._guarded(name, callback, ends_with=self.ends_with)
        return super().create_timer(
            timer_period_sec, callback, callback_group, clock or self._steady, *args, **options
        )

    def _guarded(
        self,
        where: str,
        callback: Callable[..., Any],
        otherwise: Callable[..., Any] = lambda *_: None,
        ends_with: tuple[type[Exception], ...] = (),
    ) -> Callable[..., Any]:
        """`callback`, which no longer raises anything but `ends_with`.

        Args:
            where: what calls it, for log and diagnostics.
            callback: of any number of arguments.
            otherwise: (what was raised, arguments) -> what is returned then.
            ends_with: what it may raise.
        """

        @functools.wraps(callback)  # rclpy looks at the signature
        def guarded(*args: Any) -> Any:
            try:
                return callback(*args)
            except ends_with:
                raise
            except Exception as error:
                self._count_raised(where, error)
                return otherwise(error, *args)

        return guarded

    def _count_raised(self, where: str, error: Exception) -> None:
        """Log and count what a callback has raised."""
        self._raised[where] += 1
        text = f"{where}: {type(error).__name__}: {error}"[:MOST_TEXT]  # it may quote a message
        raised = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(raised.filename).name}:{raised.lineno}"
        self.get_logger().error(f"passed over: {text} ({place})", throttle_duration_sec=1.0)
        first, self._newest_raised = not self._newest_raised, text
        if first:
            self._report_raised()

    def _report_raised(self) -> None:
        if not self._newest_raised:
            return
        text = f"{sum(self._raised.values())} passed over, at last {self._newest_raised}"
        told = status(f"{self.get_name()}: callbacks", WARN, text, self._raised)
        self._status.publish(array(self.get_clock().now().nanoseconds, told))

    def _keep_clock(self, parameters: list[Parameter]) -> SetParametersResult:
        """Another clock in the middle of a motion would make every age meaningless."""
        for parameter in parameters:
            if parameter.name == SIM_TIME and self.acts:
                now = self.get_parameter(SIM_TIME).value
                if parameter.value != now:
                    reason = (
                        f"{SIM_TIME} is {str(now).lower()} and cannot be changed while "
                        f"{self.get_name()} acts; set it before the node starts, or while it is "
                        "inactive"
                    )
                    return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)


def _refused(error: Exception, _request: Any, response: Any) -> Any:
    if hasattr(response, "message"):
        response.message = f"{type(error).__name__}: {error}"
    return response
