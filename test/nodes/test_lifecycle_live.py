"""Lifecycle nodes: every transition from every state, and steps that fail."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.srv import ChangeState, GetState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from wm_planner.errors import ConfigError
from wm_planner.nodes.controller_node import ControllerNode
from wm_planner.nodes.planner_node import PlannerNode
from wm_planner.ros.lifecycle import ManagedNode
from wm_planner.ros.parameters import param

from .test_planner_live import checkpoint as checkpoint

# (state, transition) -> the state that follows; all others are refused.
NEXT = {
    ("unconfigured", 1): "inactive",
    ("unconfigured", 5): "finalized",
    ("inactive", 2): "unconfigured",
    ("inactive", 3): "active",
    ("inactive", 6): "finalized",
    ("active", 4): "inactive",
    ("active", 7): "finalized",
}
ROUTE = {"unconfigured": (), "inactive": (1,), "active": (1, 3), "finalized": (5,)}
BACK = {"unconfigured": (), "inactive": (2,), "active": (4, 2)}
ASKED = (*range(11), 20, 50, 60, 99, 255)  # those of the interface, inner ones, and none at all


PARAMETERS = {
    ControllerNode: {
        "action_names": ["slide_x", "slide_y"],
        "low": [-1.0, -1.0],
        "high": [1.0, 1.0],
        "max_rate": [0.0, 0.0],
        "safe_action": [0.0, 0.0],
        "adapter": "forward",
    },
    PlannerNode: {"autostart": False},
}


class Client:
    """Somebody who asks a lifecycle node by its services."""

    def __init__(self, graph, name: str) -> None:
        self._graph, peer = graph, graph.peer("somebody")
        self._clients = {
            kind: peer.create_client(kind, f"{name}/{service}")
            for kind, service in ((ChangeState, "change_state"), (GetState, "get_state"))
        }
        for client in self._clients.values():
            graph.until(client.service_is_ready, "services")

    def _ask(self, request):
        kind = next(kind for kind in self._clients if isinstance(request, kind.Request))
        future = self._clients[kind].call_async(request)
        self._graph.until(future.done, "the answer")
        return future.result()

    def change(self, number: int, label: str = "") -> bool:
        request = ChangeState.Request()
        request.transition.id, request.transition.label = number, label
        return self._ask(request).success

    @property
    def state(self) -> str:
        return self._ask(GetState.Request()).current_state.label


def entities(node) -> set[int]:
    return {id(entity) for entity, _ in node._entities()}


@pytest.mark.parametrize("state", ROUTE)
@pytest.mark.parametrize("kind", PARAMETERS)
def test_every_transition_from_every_state_is_taken_or_refused(graph, request, kind, state):
    parameters = dict(PARAMETERS[kind])
    if kind is PlannerNode:
        parameters["checkpoint"] = request.getfixturevalue("checkpoint")
    node = graph.add(kind, **parameters)
    client = Client(graph, node.get_name())
    for step in ROUTE[state]:
        assert client.change(step)
    before = entities(node)
    for number in ASKED:
        if (state, number) not in NEXT:
            assert not client.change(number), number
    assert not client.change(0, "no_such_transition")
    assert (client.state, entities(node)) == (state, before)
    taken = [number for at, number in NEXT if at == state]
    for number in sorted(taken):  # the last one is final
        assert client.change(number), number
        after = NEXT[state, number]
        assert client.state == after
        for step in (*BACK[after], *ROUTE[state]) if after != "finalized" else ():
            assert client.change(step)


@dataclass(frozen=True)
class FaultyConfig:
    """Parameters of the node below."""

    step: str = param("", "that fails")
    expected: bool = param(True, "it fails with an error of this package")
    autostart: bool = param(False, "unused")


class Faulty(ManagedNode):
    """Connects, and fails where it is told."""

    def __init__(self, **options) -> None:
        super().__init__("faulty", FaultyConfig, **options)
        self.acting = self.failed = False

    def _fail(self, step: str) -> None:
        if step == self.config.step and not self.failed:
            self.failed = True
            raise ConfigError("planted") if self.config.expected else ZeroDivisionError("planted")

    def configure(self) -> None:
        self.create_publisher(String, "out", 1)
        self.create_subscription(String, "in", lambda _message: None, 1)
        self.create_timer(1e3, lambda: None)
        self.create_client(Trigger, "elsewhere")
        self._fail("configure")
        self.create_service(Trigger, "~/stop", lambda _request, response: response)

    def activate(self) -> None:
        self.acting = True
        self._fail("activate")

    def deactivate(self) -> None:
        self.acting = False
        self._fail("deactivate")

    def cleanup(self) -> None:
        self._fail("cleanup")

    def close(self) -> None:
        self.acting = False
        self._fail("close")


@pytest.mark.parametrize("expected", [True, False], ids=["our error", "any error"])
@pytest.mark.parametrize(
    ("step", "route", "state"),
    [
        ("configure", ["configure"], ("unconfigured", "unconfigured")),
        ("activate", ["configure", "activate"], ("inactive", "unconfigured")),
        ("deactivate", ["configure", "activate", "deactivate"], ("unconfigured",) * 2),
        ("cleanup", ["configure", "cleanup"], ("unconfigured",) * 2),
        ("close", ["configure", "activate", "shutdown"], ("finalized",) * 2),
    ],
)
def test_a_step_that_fails_leaves_nothing_behind(graph, step, route, state, expected):
    node = graph.add(Faulty, step=step, expected=expected)
    idle = entities(node)
    for name in route:
        getattr(node, f"trigger_{name}")()
    after = state[0 if expected else 1]
    assert node.state == after and not node.acting
    assert entities(node) == idle if after != "inactive" else entities(node) > idle
    if after == "unconfigured" and step != "configure":
        node.trigger_configure()
        assert node.state == "inactive"
