"""When a goal counts as reached, and what limits would cut from a plan."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wm_planner.embodiment import ActionSpace, Embodiment
from wm_planner.runtime.arrival import Arrival, proprio_distance
from wm_planner.runtime.cuts import Cuts
from wm_planner.runtime.safety import Limits

SECOND = 10**9
BODY = Embodiment(
    "toy", 0.1, 5, ActionSpace(("a", "b"), (-1, -1), (1, 1)), ("a/position", "b/position"),
    angles=("b/position",),
)  # fmt: skip


def test_distance_is_of_the_worst_entry_and_angles_wrap() -> None:
    assert proprio_distance(np.array([0.1, 0.0]), np.array([0.4, 0.0]), BODY) == pytest.approx(0.3)
    short_way = proprio_distance(np.array([0.0, 3.1]), np.array([0.0, -3.1]), BODY)
    assert short_way == pytest.approx(2 * math.pi - 6.2)
    assert proprio_distance(np.array([3.1, 0.0]), np.array([-3.1, 0.0]), BODY) == pytest.approx(6.2)


def test_arrived_is_near_by_every_measure_for_long_enough_at_the_same_time() -> None:
    arrival = Arrival({"proprio": 0.1, "picture": 0.5}, for_s=1.0)
    for t in (0, 1, 2):
        arrival.add("proprio", t * SECOND, 0.05)
    assert not arrival.arrived  # nothing is known of the picture
    arrival.add("picture", 2 * SECOND, 0.4)
    assert not arrival.arrived  # it has just come within
    arrival.add("picture", 3 * SECOND, 0.4)
    assert not arrival.arrived  # the proprioception of now is not known
    arrival.add("proprio", 3 * SECOND, 0.1)
    assert arrival.arrived


@pytest.mark.parametrize("distance", [0.2, math.nan])
def test_leaving_begins_anew(distance: float) -> None:
    arrival = Arrival({"proprio": 0.1}, for_s=1.0)
    arrival.add("proprio", 0, 0.0)
    arrival.add("proprio", SECOND // 2, distance)
    arrival.add("proprio", SECOND, 0.0)
    assert not arrival.arrived
    arrival.add("proprio", 2 * SECOND, 0.0)
    assert arrival.arrived
    arrival.clear()
    assert not arrival.arrived


def test_nothing_arrives_when_nothing_is_asked() -> None:
    arrival = Arrival({"proprio": None, "picture": None}, for_s=0.0)
    arrival.add("proprio", 0, 0.0)
    assert not arrival.arrived


def test_cuts_by_bounds_and_by_rates() -> None:
    limits = Limits(np.array([-1.0]), np.array([1.0]), np.array([2.0]))
    rows = np.array([[0.2], [0.4], [0.9], [0.6], [1.5]])
    # 0.9 is reached in two steps of 0.2 from 0.4, so 0.6 is what was sent before the last row.
    cuts = Cuts(limits, 0.1)
    cuts.add(rows, np.zeros(1))
    assert cuts.counts["bound"] == 1 and cuts.counts["any"] == 2
    free = Limits(np.array([-1.0]), np.array([1.0]))
    cuts = Cuts(free, 0.1)
    cuts.add(rows, np.zeros(1))
    assert cuts.counts["any"] == 1
