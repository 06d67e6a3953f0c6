"""One kind of thread: the newest item wins, a reset makes running work worthless."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class LatestWorker(Generic[Item, Result]):
    """Runs `fn` on the newest submitted item, on one daemon thread.

    An item submitted while another waits replaces it; running work is finished. After `reset`
    or `stop` has returned, no result of earlier work is or will be delivered: both wait for a
    callback that has begun. So callbacks must be short and must not wait for the thread that
    calls `reset`. Calling `submit` or `reset` from a callback is fine.

    Args:
        fn: (item, should_stop) -> result. Long work asks `should_stop()` now and then.
        on_result: called on the worker's thread with each result that is still wanted.
        on_error: called on the worker's thread with each exception of work that is still wanted.
        name: name of the thread.
    """

    def __init__(
        self,
        fn: Callable[[Item, Callable[[], bool]], Result],
        on_result: Callable[[Result], Any],
        on_error: Callable[[Exception], Any] | None = None,
        name: str = "worker",
    ) -> None:
        self._fn = fn
        self._on_result = on_result
        self._on_error = on_error
        self._condition = threading.Condition()
        # Reentrant, so that a callback may reset its own worker.
        self._delivery = threading.RLock()
        self._pending: list[Item] = []
        self._epoch = 0
        self._busy = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True while an item waits or runs."""
        with self._condition:
            return self._busy or bool(self._pending)

    def submit(self, item: Item) -> None:
        """Hand over an item; it replaces one that waits. Ignored after `stop`."""
        with self._condition:
            if self._stopping:
                return
            self._pending = [item]
            self._condition.notify_all()

    def reset(self) -> None:
        """Drop the waiting item and make running work worthless."""
        with self._delivery, self._condition:
            self._epoch += 1
            self._pending = []

    def wait_idle(self, timeout_s: float) -> bool:
        """Block until nothing waits or runs; False when that took longer than `timeout_s`."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._busy and not self._pending, timeout_s)

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the thread; False when the running work did not return within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            self._stopping = True
            self._epoch += 1
            self._pending = []
            self._condition.notify_all()
        if threading.current_thread() is self._thread:
            return False
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._pending or self._stopping)
                if self._stopping:
                    return
                item = self._pending.pop()
                epoch = self._epoch
                self._busy = True
            self._work(item, epoch)
            del item  # An idle worker must not keep the last images alive.

    def _work(self, item: Item, epoch: int) -> None:
        def worthless() -> bool:
            return self._epoch != epoch

        try:
            result = self._fn(item, worthless)
            with self._delivery:
                if worthless():
                    return
                self._on_result(result)
        except Exception as error:
            self._fail(error, worthless)

    def _fail(self, error: Exception, worthless: Callable[[], bool]) -> None:
        with self._delivery:
            if worthless():
                logger.debug("%s: dropped work failed: %s", self._thread.name, error)
                return
            if self._on_error is None:
                logger.error("%s: %s", self._thread.name, error, exc_info=error)
                return
            try:
                self._on_error(error)
            except Exception:
                logger.exception("%s: on_error failed", self._thread.name)
