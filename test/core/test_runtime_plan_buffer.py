"""Which row of which plan is due."""

import numpy as np
import pytest

from wm_planner.errors import NonFiniteActionError
from wm_planner.runtime.plan_buffer import PlanBuffer
from wm_planner.types import Plan

DT = 100


def make_plan(stamp=1000, rows=3, value=0.0):
    actions = np.stack([np.arange(rows), np.full(rows, value)], axis=1).astype(np.float32)
    return Plan(stamp_ns=stamp, dt_ns=DT, actions=actions)


@pytest.mark.parametrize(
    ("now", "row"),
    [(999, None), (1000, 0), (1099, 0), (1100, 1), (1299, 2), (1300, None), (9999, None)],
)
def test_the_row_due(now, row):
    buffer = PlanBuffer()
    buffer.put(make_plan())
    due = buffer.due(now)
    assert (None if due is None else due[0][0]) == row


def test_nothing_is_due_without_a_plan():
    assert PlanBuffer().due(0) is None


def test_a_late_plan_starts_at_the_row_of_now():
    """Latency skips rows; it does not delay them."""
    buffer = PlanBuffer()
    buffer.put(make_plan(1000, rows=10))
    assert buffer.due(1150)[0][0] == 1
    buffer.put(make_plan(1100, rows=10, value=5.0))
    action, plan = buffer.due(1350)
    np.testing.assert_array_equal(action, [2, 5])
    assert plan.stamp_ns == 1100


def test_older_is_ignored_and_the_same_stamp_replaces():
    buffer = PlanBuffer()
    assert buffer.put(make_plan(1000, value=1.0))
    assert not buffer.put(make_plan(900, value=2.0))
    assert buffer.due(1000)[0][1] == 1.0
    assert buffer.put(make_plan(1000, value=3.0))
    assert buffer.due(1000)[0][1] == 3.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_non_finite_plan_is_refused_and_the_old_one_stays(bad):
    buffer = PlanBuffer()
    buffer.put(make_plan(1000))
    plan = make_plan(1100)
    plan.actions[2, 1] = bad
    with pytest.raises(NonFiniteActionError, match="stamp 1100 .* row 2"):
        buffer.put(plan)
    assert buffer.plan.stamp_ns == 1000


def test_a_clock_that_moves_backwards_clears():
    buffer = PlanBuffer()
    buffer.put(make_plan(1000))
    assert buffer.due(1200) is not None
    assert buffer.due(1100) is None
    assert buffer.plan is None
    assert buffer.put(make_plan(100))
    assert buffer.due(1100 - 1000 + 50) is None  # backwards again: cleared again
    assert buffer.put(make_plan(100))
    assert buffer.due(200)[0][0] == 1


def test_the_same_time_twice_is_not_backwards():
    buffer = PlanBuffer()
    buffer.put(make_plan(1000))
    assert buffer.due(1000) is not None
    assert buffer.due(1000) is not None


def test_clear():
    buffer = PlanBuffer()
    buffer.put(make_plan(1000))
    buffer.clear()
    assert buffer.due(1000) is None


def test_the_caller_cannot_change_the_plan():
    buffer = PlanBuffer()
    buffer.put(make_plan(1000))
    buffer.due(1000)[0][:] = 7
    assert buffer.due(1000)[0][0] == 0


def test_a_plan_of_the_future_gives_way():
    """Its stamp came from another clock: it must not keep all others out."""
    buffer = PlanBuffer()
    buffer.due(1000)
    assert buffer.put(make_plan(10**15))
    assert buffer.due(1050) is None
    assert buffer.put(make_plan(1000))
    assert buffer.due(1100)[0][0] == 1
    assert not buffer.put(make_plan(900))
