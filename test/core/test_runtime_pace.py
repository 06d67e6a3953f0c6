"""Replanning at the model's step: cameras of many rates, slow plans, clocks that jump."""

from __future__ import annotations

import numpy as np
import pytest

from wm_planner.runtime.pace import JUMP_NS, Pace

MS = 1_000_000
PERIOD, TOLERANCE = 500 * MS, 50 * MS


def begun(pace: Pace, stamps) -> list[int]:
    """Milliseconds of the observations that are planned from, by a planner that is fast."""
    return [stamp // MS for stamp in stamps if pace.is_due(stamp) and pace.begin(stamp)]


@pytest.mark.parametrize("rate_hz", [30, 15, 12, 10, 8, 5, 3, 2])
def test_a_camera_of_any_rate_gives_as_many_plans(rate_hz):
    stamps = [round(i * 1e9 / rate_hz) for i in range(20 * rate_hz)]
    times = begun(Pace(PERIOD, TOLERANCE), stamps)
    assert times[0] == 0 and len(times) in (39, 40, 41)
    # Never later than the next picture, and on average exactly a period apart.
    due = 500 * np.arange(len(times))
    assert np.all(np.subtract(times, due) <= 1000 / rate_hz + 1)
    assert np.all(np.subtract(times, due) >= -50)


def test_a_camera_as_slow_as_the_plans_may_be_unsteady():
    rng = np.random.default_rng(0)
    stamps = [round(i * PERIOD + rng.uniform(-20, 20) * MS) + PERIOD for i in range(100)]
    assert len(begun(Pace(PERIOD, TOLERANCE), stamps)) == 100


def test_a_slower_camera_gives_a_plan_for_every_picture():
    assert begun(Pace(PERIOD, TOLERANCE), [i * 1000 * MS for i in range(4)]) == [
        0,
        1000,
        2000,
        3000,
    ]


def test_a_plan_that_took_longer_is_followed_at_once_and_nothing_is_made_up_for():
    pace = Pace(PERIOD, TOLERANCE)
    assert pace.begin(0)
    assert pace.is_due(510 * MS) and pace.is_due(1690 * MS)  # while the first is being made
    assert pace.begin(1700 * MS)
    assert not pace.is_due(1733 * MS) and not pace.is_due(1900 * MS)
    assert pace.is_due(1950 * MS)


def test_what_was_due_when_it_came_is_not_planned_from_twice():
    """A second picture came between the first and the beginning of its plan."""
    pace = Pace(PERIOD, TOLERANCE)
    assert pace.is_due(0) and pace.is_due(33 * MS)
    assert pace.begin(0) and not pace.begin(33 * MS)


def test_an_older_observation_is_never_planned_from():
    for pace in (Pace(PERIOD, TOLERANCE), Pace(0)):
        assert pace.begin(5000 * MS)
        assert not pace.is_due(5000 * MS) and not pace.is_due(4400 * MS)


def test_a_new_goal_and_another_clock_begin_afresh():
    pace = Pace(PERIOD, TOLERANCE)
    assert pace.begin(5000 * MS)
    assert pace.begin(5033 * MS, "another goal"), "at once"
    assert not pace.is_due(5066 * MS, "another goal")
    assert pace.is_due(5000 * MS, "a third") and not pace.begin(5033 * MS, "another goal")
    pace.clear()
    assert pace.begin(5100 * MS) and not pace.is_due(5200 * MS)
    assert pace.begin(5100 * MS - JUMP_NS - 1)  # the simulator was reset
    assert not pace.is_due(5100 * MS - JUMP_NS + 33 * MS)
    assert pace.is_due(5100 * MS - JUMP_NS + 500 * MS)


def test_without_a_period_every_newer_observation_is_due():
    assert begun(Pace(0), [0, 1 * MS, 1 * MS, 2 * MS]) == [0, 1, 2]
