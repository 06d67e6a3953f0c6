"""The worker thread: newest wins, reset, failure, stop. Every wait has a deadline."""

import threading

import pytest

from wm_planner.runtime.worker import LatestWorker

DEADLINE_S = 10.0


class Steps:
    """A worker function that the test lets through item by item."""

    def __init__(self):
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.items = []
        self.stops = []

    def __call__(self, item, should_stop):
        self.items.append(item)
        self.began.release()
        assert self.may_end.acquire(timeout=DEADLINE_S)
        self.stops.append(should_stop())
        if isinstance(item, Exception):
            raise item
        return item * 10


@pytest.fixture
def steps():
    return Steps()


@pytest.fixture
def results():
    return []


@pytest.fixture
def errors():
    return []


@pytest.fixture
def worker(steps, results, errors):
    worker = LatestWorker(steps, results.append, errors.append)
    yield worker
    for _ in range(10):
        steps.may_end.release()
    assert worker.stop(DEADLINE_S)


def begin(worker, steps, item):
    worker.submit(item)
    assert steps.began.acquire(timeout=DEADLINE_S)


def test_the_newest_item_wins(worker, steps, results):
    begin(worker, steps, 1)
    worker.submit(2)
    worker.submit(3)
    worker.submit(4)
    assert worker.busy
    steps.may_end.release()
    steps.may_end.release()
    assert worker.wait_idle(DEADLINE_S)
    assert steps.items == [1, 4]
    assert results == [10, 40]
    assert steps.stops == [False, False]
    assert not worker.busy


def test_reset_makes_running_and_waiting_work_worthless(worker, steps, results):
    begin(worker, steps, 1)
    worker.submit(2)
    worker.reset()
    worker.submit(3)
    steps.may_end.release()
    steps.may_end.release()
    assert worker.wait_idle(DEADLINE_S)
    assert steps.items == [1, 3]
    assert steps.stops == [True, False]
    assert results == [30]


def test_a_failure_is_data_and_the_next_success_clears_it(worker, steps, results, errors):
    failure = RuntimeError("no")
    begin(worker, steps, failure)
    steps.may_end.release()
    assert worker.wait_idle(DEADLINE_S)
    assert errors == [failure]
    begin(worker, steps, 2)
    steps.may_end.release()
    assert worker.wait_idle(DEADLINE_S)
    assert errors == [failure]
    assert results == [20]


def test_a_failure_of_worthless_work_is_dropped(worker, steps, errors):
    begin(worker, steps, RuntimeError("stopped early"))
    worker.reset()
    steps.may_end.release()
    assert worker.wait_idle(DEADLINE_S)
    assert errors == []


def test_no_result_arrives_once_reset_has_returned(steps):
    """reset waits for a delivery that has begun: a safe command sent next stays the last."""
    in_callback, leave_callback = threading.Event(), threading.Event()
    order = []

    def deliver(_):
        in_callback.set()
        assert leave_callback.wait(DEADLINE_S)
        order.append("result")

    worker = LatestWorker(lambda item, should_stop: item, deliver)
    worker.submit(1)
    assert in_callback.wait(DEADLINE_S)

    def reset():
        worker.reset()
        order.append("reset returned")

    thread = threading.Thread(target=reset)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()  # it waits for the callback
    leave_callback.set()
    thread.join(DEADLINE_S)
    assert order == ["result", "reset returned"]
    assert worker.stop(DEADLINE_S)


def test_callbacks_may_reset_and_submit():
    results = []

    def deliver(item):
        results.append(item)
        worker.reset()
        if item < 3:
            worker.submit(item + 1)

    worker = LatestWorker(lambda item, should_stop: item, deliver)
    worker.submit(1)
    assert worker.wait_idle(DEADLINE_S)
    assert results == [1, 2, 3]
    assert worker.stop(DEADLINE_S)


def test_failing_callbacks_do_not_end_the_thread(caplog):
    def fail(_):
        raise ValueError("callback")

    worker = LatestWorker(lambda item, should_stop: item, fail, fail)
    for item in range(3):
        worker.submit(item)
        assert worker.wait_idle(DEADLINE_S)
        assert "on_error failed" in caplog.text
        caplog.clear()
    assert worker.stop(DEADLINE_S)


def test_a_failure_without_on_error_is_logged(caplog):
    worker = LatestWorker(lambda item, should_stop: 1 / item, print, name="planner")
    worker.submit(0)
    assert worker.wait_idle(DEADLINE_S)
    assert "planner: division by zero" in caplog.text
    assert worker.stop(DEADLINE_S)


def test_stop_reports_work_that_does_not_return(steps, results):
    worker = LatestWorker(steps, results.append)
    begin(worker, steps, 1)
    assert not worker.stop(0.01)
    steps.may_end.release()
    assert worker.stop(DEADLINE_S)
    assert steps.stops == [True]
    assert results == []
    worker.submit(2)
    assert not worker.busy


def test_the_thread_does_not_keep_the_process_alive(worker):
    assert worker._thread.daemon
