"""Live nodes in a private domain: loopback only, conditions with deadlines.

All tests of a process share one context, and so one DDS participant: to make and destroy one per
test is what no robot does, and where Fast DDS deadlocks (eProsima/Fast-DDS, issues 6193 and 6502).
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .domains import claim_domain

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


class Graph:
    """Nodes of a context that share one executor."""

    def __init__(self, context: rclpy.context.Context) -> None:
        from rclpy.executors import SingleThreadedExecutor

        self.context = context
        self._executor = SingleThreadedExecutor(context=context)
        self._nodes: list[Any] = []
        self._unfinished = False

    def add(self, kind: type, /, **parameters: Any) -> Any:
        """Make a node with ROS parameters and serve it."""
        from rclpy.parameter import Parameter

        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        try:
            return self.serve(kind(context=self.context, parameter_overrides=overrides))
        except Exception:
            self._unfinished = True
            raise

    def peer(self, name: str) -> Any:
        """A bare node of the test's own."""
        return self.serve(rclpy.create_node(name, context=self.context))

    def serve(self, node: Any) -> Any:
        """Serve an existing node."""
        self._executor.add_node(node)
        self._nodes.append(node)
        return node

    def remove(self, node: Any) -> None:
        """Serve a node no longer, as if its process had ended well."""
        self._executor.remove_node(node)
        self._nodes.remove(node)
        if hasattr(node, "close"):
            node.close()
        node.destroy_node()

    def spin(self, timeout_s: float) -> None:
        """Serve callbacks for at most `timeout_s` or one callback."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
        """Serve callbacks until the condition holds; fail with `what` at the deadline."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
            self.spin(0.01)
        return value

    def call(self, node: Any, kind: type, service: str) -> Any:
        """Call a service from `node` and return the response."""
        client = node.create_client(kind, service)
        self.until(client.service_is_ready, f"service {service}")
        future = client.call_async(kind.Request())
        self.until(future.done, f"answer of {service}")
        return future.result()

    def close(self) -> None:
        """Close and destroy all."""
        for node in reversed(self._nodes):
            if hasattr(node, "close"):
                node.close()
            node.destroy_node()
        self._executor.shutdown()
        if self._unfinished:  # a node whose making failed stays on the graph until it is collected
            gc.collect()


@pytest.fixture(scope="session")
def context() -> Iterator[rclpy.context.Context]:
    """A context whose participant lives until the end, in a domain of its own."""
    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=claim_domain())
    anchor = rclpy.create_node("anchor", context=context)  # a participant goes with its last node
    yield context
    anchor.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def graph(context: rclpy.context.Context) -> Iterator[Graph]:
    """A graph that holds the test's nodes and no others."""
    graph = Graph(context)
    yield graph
    graph.close()
