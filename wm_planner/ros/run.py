"""The one way a node process starts and ends, from Humble on."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from wm_planner.errors import WmPlannerError
from wm_planner.ros.logs import find_log_directory

WAKE_S = 0.02  # a timer may be so late before it is looked after
AGAIN_S = 0.1  # while a node starts, the exception that ends it is raised again after so long
START_END_S = 0.7  # a node that still starts, and has nothing to lose, ends within so long
LEAVE_S = 10.0  # a node that was closed has left the graph by then, or its process is ended
SIGNALS = (signal.SIGINT, signal.SIGTERM)
Spin = Callable[[float], None]


class Stopped(BaseException):
    """The process was asked to end. Nothing but `run_node` shall catch it."""


class _Ending:
    """What SIGINT and SIGTERM do to a node.

    A node that runs is asked to end at its next spin. One that still starts is interrupted, since
    loading a model takes seconds without a spin: by an exception, which is raised again where
    something has swallowed it, and in the end by a thread, for code that returns to Python late.
    """

    def __init__(self) -> None:
        self.asked, self._started = threading.Event(), threading.Event()
        for number in (*SIGNALS, signal.SIGALRM):
            signal.signal(number, self._on_signal)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()

    def started(self) -> None:
        """From here on the node ends by itself; callbacks are not cut short."""
        self._started.set()
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number in SIGNALS:
            self.asked.set()
        if not self._started.is_set():
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            raise Stopped

    def _watch(self, reader: int) -> None:
        while os.read(reader, 1)[0] not in SIGNALS:
            pass
        if not self._started.wait(START_END_S):
            os._exit(0)


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
) -> NoReturn:
    """Build a node, run `body`, close the node, end the process.

    SIGINT and SIGTERM end the process within a tenth of a second of the body's next spin, after
    the node's ``close()``; an error that a user can mend is one line and exit code 2. A node that
    does not leave the graph within `LEAVE_S` after its ``close()`` ends with exit code 1, and says
    where it hung.

    Args:
        factory: makes the node.
        args: command line with ROS arguments; None takes sys.argv.
        body: (node, spin) -> exit code; ``spin(timeout_s)`` serves callbacks.
    """
    code = 1
    try:
        code = _run(factory, args, body)
    except Stopped:  # once more, on its way out
        code = 0
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        # The node has left the graph. To take the interpreter down with torch in it would last
        # longer than all of the above.
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _run(
    factory: Callable[[], Node], args: list[str] | None, body: Callable[[Any, Spin], int]
) -> int:
    try:
        find_log_directory(os.environ)
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except WmPlannerError as error:
        return _refused(None, error)
    except RuntimeError as error:  # a parameter file or an argument that ROS cannot read
        return _refused(None, " ".join(str(error).split()))
    executor = SingleThreadedExecutor()
    node: Any = None
    waker = Waker(executor)
    ending = _Ending()

    def spin(timeout_s: float) -> None:
        with waker:
            executor.spin_once(timeout_sec=min(timeout_s, 0.1))
        if ending.asked.is_set():
            raise Stopped

    try:
        node = factory()
        executor.add_node(node)
        if hasattr(node, "start"):
            node.start()
        ending.started()
        return body(node, spin)
    except Stopped:
        return 0
    except (WmPlannerError, ParameterException) as error:
        return _refused(node, error)
    finally:
        ending.started()
        waker.end()
        if node is not None:
            if hasattr(node, "close"):
                node.close()
            # DDS has been seen to wait forever here, inside C, where no signal or thread of Python
            # is served. What the node had to keep is kept: nothing is lost but the clean end.
            faulthandler.dump_traceback_later(LEAVE_S, exit=True)
            executor.remove_node(node)
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()


def _refused(node: Any, error: object) -> int:
    name = node.get_name() if node is not None else Path(sys.argv[0]).stem
    print(f"{name}: error: {error}", file=sys.stderr)
    return 2
