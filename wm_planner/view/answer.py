"""Between rclpy's futures, which an executor completes, and those that a web server waits for."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any


def answer_of(asked: Any) -> Future:
    """A future of rclpy as one of Python, which other threads may wait for."""
    answer: Future = Future()

    def hand_over(done: Any) -> None:
        if not answer.set_running_or_notify_cancel():  # nobody waits any more
            return
        if done.exception() is not None:
            answer.set_exception(done.exception())
        else:
            answer.set_result(done.result())

    asked.add_done_callback(hand_over)
    return answer
