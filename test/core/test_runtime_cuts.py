"""What a dry run counts: known answers for each limit and each kind of action."""

from __future__ import annotations

import numpy as np
import pytest

from wm_planner.runtime.cuts import CUTS, Cuts
from wm_planner.runtime.position_limits import PositionGuard
from wm_planner.runtime.safety import Limits, Measured, Reason, SafetyGate

LIMITS = Limits([-1.0], [1.0], [2.0])  # 0.2 per control period of 0.1 s
FREE = Limits([-9.0], [9.0])
RANGE = np.array([-0.5]), np.array([0.5])


def count(rows, limits=LIMITS, kind="velocity", place=None, within=None, before=0.0):
    cuts = Cuts(limits, 0.1, kind, within)
    where = None if place is None else np.array([place])
    cuts.add(np.array(rows)[:, None], np.array([before]), where)
    return [cuts.counts[name] for name in CUTS]


def test_a_plan_within_all_limits_is_not_cut():
    assert count([0.2, 0.4, 0.3], place=0.0, within=RANGE) == [0, 0, 0, 0]


def test_bounds_and_rates_are_told_apart():
    # 1.5 is beyond the bound, and 1.0 still further than 0.2 from 0.
    assert count([1.5, 0.3, 0.9]) == [1, 2, 0, 2]
    assert count([1.1, 1.0], before=0.9) == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("kind", "rows", "cut"),
    [
        # From 0.35: 0.45, then 0.5 of the wanted 0.55, then nothing more; back is free.
        ("velocity", [1.0, 1.0, 1.0, -1.0], 2),
        ("position_delta", [0.1, 0.1, 0.1, -0.1], 2),
        ("position", [0.45, 0.55, 0.65, 0.4], 2),
        ("effort", [1.0, 1.0, 1.0, -1.0], 0),
    ],
)
def test_position_limits_by_the_kind_of_action(kind, rows, cut):
    assert count(rows, FREE, kind, 0.35, RANGE) == [0, 0, cut, cut]


def test_an_effort_that_pushes_further_out_is_cut():
    assert count([1.0, -1.0], FREE, "effort", 0.6, RANGE) == [0, 0, 1, 1]


@pytest.mark.parametrize(("place", "within"), [(None, RANGE), (0.45, None)])
def test_nobody_counts_what_nobody_knows(place, within):
    assert count([1.0, 1.0], FREE, "velocity", place, within) == [0, 0, 0, 0]


def test_float32_at_a_bound_is_no_cut():
    limits = Limits([-0.1], [0.1])
    assert count(np.full(3, 0.1, np.float32), limits)[3] == 0


def test_it_counts_what_the_gate_would_do():
    """The same plan through the gate, with a robot that follows."""
    rng = np.random.default_rng(0)
    rows = rng.normal(0.2, 0.6, (200, 1))
    gate = SafetyGate(
        LIMITS, np.zeros(1), 10**12, 10**8, guard=PositionGuard("velocity", *RANGE, 0.1)
    )
    gate.enable()
    place, limited = np.zeros(1), 0
    for row in rows:
        command = gate.check(row, 0, 0, 0, Measured(place, 0))
        limited += command.reason is Reason.LIMITED
        place = place + 0.1 * command.action
    assert count(rows[:, 0], place=0.0, within=RANGE)[2] > 0
    assert count(rows[:, 0], place=0.0, within=RANGE)[3] == limited
