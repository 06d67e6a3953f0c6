"""The one way a node process starts and ends, from Humble on."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from wm_planner.errors import WmPlannerError
from wm_planner.ros.logs import find_log_directory

WAKE_S = 0.02  # a timer may be so late before it is looked after
Spin = Callable[[float], None]


class Stopped(Exception):
    """The process was asked to end."""


class Waker:
    """Ends a wait that outlasts a timer.

    Some middlewares wait by the system's clock. When that is set back while no message comes,
    timers on a steady clock would be as late. Enter it around each wait.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._since_s: float | None = None
        self._ended = False
        threading.Thread(target=self._run, daemon=True).start()

    def __enter__(self) -> None:
        self._since_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._since_s = None

    def end(self) -> None:
        """Wake nobody any more."""
        self._ended = True

    def _run(self) -> None:
        while not self._ended:
            time.sleep(WAKE_S)
            since_s = self._since_s
            if since_s is not None and time.monotonic() - since_s > WAKE_S and self._is_late():
                self._executor.wake()

    def _is_late(self) -> bool:
        timers = [timer for node in self._executor.get_nodes() for timer in node.timers]
        try:
            return any(timer.is_ready() for timer in timers)
        except Exception:  # one was destroyed meanwhile
            return False


def spin_forever(node: Any, spin: Spin) -> int:
    """Body of most nodes; ends when the node sets its ``exit_code``."""
    while getattr(node, "exit_code", None) is None:
        spin(0.1)
    return node.exit_code


def run_node(
    factory: Callable[[], Node],
    args: list[str] | None = None,
    body: Callable[[Any, Spin], int] = spin_forever,
) -> int:
    """Build a node, run `body`, close the node.

    SIGINT and SIGTERM end the process within a tenth of a second of the body's next spin, after
    the node's ``close()``; an error that a user can mend is one line and exit code 2.

    Args:
        factory: makes the node.
        args: command line with ROS arguments; None takes sys.argv.
        body: (node, spin) -> exit code; ``spin(timeout_s)`` serves callbacks.
    """
    try:
        find_log_directory(os.environ)
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except WmPlannerError as error:
        return _refused(None, error)
    except RuntimeError as error:  # a parameter file or an argument that ROS cannot read
        return _refused(None, " ".join(str(error).split()))
    stopping, started = threading.Event(), threading.Event()

    def on_signal(*_: object) -> None:
        stopping.set()
        # Loading a model takes seconds without a spin; afterwards callbacks are not cut short.
        if not started.is_set():
            raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    executor = SingleThreadedExecutor()
    node: Any = None

    waker = Waker(executor)

    def spin(timeout_s: float) -> None:
        with waker:
            executor.spin_once(timeout_sec=min(timeout_s, 0.1))
        if stopping.is_set():
            raise Stopped

    try:
        node = factory()
        executor.add_node(node)
        if hasattr(node, "start"):
            node.start()
        started.set()
        return body(node, spin)
    except Stopped:
        return 0
    except (WmPlannerError, ParameterException) as error:
        return _refused(node, error)
    finally:
        started.set()
        waker.end()
        if node is not None:
            if hasattr(node, "close"):
                node.close()
            executor.remove_node(node)
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()


def _refused(node: Any, error: object) -> int:
    name = node.get_name() if node is not None else Path(sys.argv[0]).stem
    print(f"{name}: error: {error}", file=sys.stderr)
    return 2
