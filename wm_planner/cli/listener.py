"""A command's own node, served by the command."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from wm_planner.bringup import enclave_arguments
from wm_planner.ros.logs import find_log_directory

ENCLAVE = "wm_planner_robot"  # whose keys every command has


class Listener:
    """A node in a context of its own, which leaves signals to the command.

    Args:
        domain_id: where it meets others.
        make_node: makes the node with the options of `rclpy.node.Node` that it is given.
        enclave: whose keys the node has.

    Attributes:
        node: as made.
    """

    def __init__(
        self, domain_id: int, make_node: Callable[..., Any], enclave: str = ENCLAVE
    ) -> None:
        find_log_directory(os.environ)
        self._context = Context()
        rclpy.init(
            args=["--ros-args", *enclave_arguments(enclave, os.environ)],
            context=self._context,
            domain_id=domain_id,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self.node = make_node(context=self._context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the node."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def spin(self, timeout_s: float = 0.05) -> None:
        """Serve one message, waiting up to `timeout_s` for it."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def spin_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Spin until `done()`; False when that took longer than `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline_s:
                return False
            self.spin()
        return True
