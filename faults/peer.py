"""What the campaign asks of the nodes, and what it publishes itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from faults.observer import INTRUDER
from faults.processes import Processes
from wm_planner.ros.qos import COMMAND

ANSWER_S = 10.0
INACTIVE, ACTIVE, FINALIZED = 2, 3, 4


def until(condition: Callable[[], Any], timeout_s: float) -> bool:
    """Wait for a condition; whether it came to hold."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.005)
    return True


class Peer:
    """A node of the campaign's own, which another thread serves.

    Args:
        node: that asks.
        processes: of the graph: a process that has ended is not waited for.
        command_topic: of the robot.
    """

    def __init__(self, node: Node, processes: Processes, command_topic: str) -> None:
        self.node, self._processes, self._command_topic = node, processes, command_topic
        self._publishers: dict[tuple[type, str], Any] = {}
        self._clients: dict[str, Any] = {}

    def publisher(self, kind: type, topic: str, profile: Any = COMMAND) -> Any:
        """A publisher of the campaign's own, which stays."""
        key = kind, topic
        if key not in self._publishers:
            self._publishers[key] = self.passing_publisher(kind, topic, profile)
        return self._publishers[key]

    def passing_publisher(self, kind: type, topic: str, profile: Any) -> Any:
        """A publisher that the caller destroys; somebody listens to it."""
        publisher = self.node.create_publisher(kind, topic, profile)
        until(publisher.get_subscription_count, 5.0)
        return publisher

    def call(self, kind: type, service: str, request: Any, timeout_s: float = ANSWER_S) -> Any:
        """Answer of a service; None where none came."""
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        client = self._clients[service]
        node = service.strip("/").partition("/")[0]

        def over() -> bool:
            return client.service_is_ready() or not self._processes.alive(node)

        if not until(over, timeout_s) or not self._processes.alive(node):
            return None
        future = client.call_async(request)
        until(lambda: future.done() or not self._processes.alive(node), timeout_s)
        return future.result() if future.done() else None

    def trigger(self, service: str) -> Any:
        """Call a service that takes nothing."""
        return self.call(Trigger, service, Trigger.Request())

    def transition(self, node: str, number: int, timeout_s: float = ANSWER_S) -> bool:
        """Ask for a transition of a lifecycle node; whether it was made."""
        request = ChangeState.Request()
        request.transition.id = number
        answer = self.call(ChangeState, f"/{node}/change_state", request, timeout_s)
        return answer is not None and answer.success

    def state(self, node: str) -> int:
        """State of a lifecycle node; 0: it does not say."""
        answer = self.call(GetState, f"/{node}/get_state", GetState.Request(), 5.0)
        return 0 if answer is None else answer.current_state.id

    def make_active(self, node: str) -> None:
        """Bring a lifecycle node to 'active', whatever state it is in; start it where it ended."""
        for _ in range(8):
            if not self._processes.alive(node):
                self._processes.start(node)
                return
            state = self.state(node)
            if state == ACTIVE:
                return
            if state in (0, FINALIZED):
                self._processes.kill(node)
            else:
                self.transition(node, 3 if state == INACTIVE else 1)

    def set_parameter(self, node: str, name: str, value: Any) -> bool:
        """Set a parameter at run time; whether it was taken."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        answer = self.call(SetParameters, f"/{node}/set_parameters", request, 5.0)
        return answer is not None and all(result.successful for result in answer.results)

    def intruder(self) -> Callable[[Sequence[float]], None]:
        """A second publisher of commands; what it gives publishes one."""
        self._intruder = self.node.create_publisher(Float64MultiArray, self._command_topic, COMMAND)

        def command(values: Sequence[float]) -> None:
            message = Float64MultiArray(data=list(values))
            message.layout.data_offset = INTRUDER
            self._intruder.publish(message)

        return command

    def end_intruder(self) -> None:
        """Destroy it."""
        self.node.destroy_publisher(self._intruder)
