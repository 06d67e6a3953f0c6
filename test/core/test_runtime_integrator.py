"""Velocities and deltas as positions: limits, wind-up, and what was executed in truth."""

from __future__ import annotations

import numpy as np
import pytest

from wm_planner.errors import ConfigError
from wm_planner.runtime.integrator import Integrator
from wm_planner.runtime.safety import Limits, Measured, Reason, SafetyGate

MS = 1_000_000
NOW = 10_000 * MS
LOW, HIGH = np.array([-1.0]), np.array([1.0])


def integrator(kind: str = "velocity", low=LOW, high=HIGH, lead: float = 0.2) -> Integrator:
    result = Integrator(kind, low, high, 0.1, lead)
    result.begin(np.zeros(len(low)))
    return result


def allow(parts: Integrator, action: float, place: float) -> float:
    return float(parts.allow(np.array([action]), np.array([place]), 0.0)[0])


@pytest.mark.parametrize(("kind", "step"), [("velocity", 0.05), ("position_delta", 0.5)])
def test_actions_add_up(kind, step):
    parts = integrator(kind, lead=9.0)
    for number in range(1, 3):
        assert allow(parts, 0.5, 0.0) == 0.5
        assert parts.target[0] == pytest.approx(number * step)


def test_a_blocked_robot_is_not_pushed_harder_and_harder():
    """Blocked at 0: the target stops one tracking error ahead, and comes back at once."""
    parts = integrator()
    executed = [allow(parts, 0.9, 0.0) for _ in range(10)]
    assert executed[:2] == [0.9, 0.9] and executed[2] == pytest.approx(0.2)
    assert executed[3:] == pytest.approx([0.0] * 7)
    assert parts.target[0] == pytest.approx(0.2)
    assert allow(parts, -0.9, 0.0) == pytest.approx(-0.9)
    assert parts.target[0] == pytest.approx(0.11)


def test_the_target_follows_a_robot_that_is_pushed():
    parts = integrator()
    assert allow(parts, 0.0, -0.5) == pytest.approx(-3.0)  # what happened, whatever was wanted
    assert parts.target[0] == pytest.approx(-0.3)


def test_limits_end_the_motion_and_only_the_motion():
    parts = integrator(lead=9.0)
    parts.begin(np.array([0.97]))
    assert allow(parts, 0.5, 0.97) == pytest.approx(0.3)
    assert parts.target[0] == 1.0
    assert allow(parts, 0.5, 1.0) == 0.0
    assert allow(parts, -0.5, 1.0) == -0.5


def test_a_robot_beyond_its_limit_goes_no_further_and_does_not_leap_back():
    parts = integrator()
    parts.begin(np.array([1.3]))
    assert allow(parts, 0.5, 1.3) == 0.0 and parts.target[0] == 1.3
    assert allow(parts, -0.5, 1.3) == -0.5 and parts.target[0] == pytest.approx(1.25)
    assert allow(parts, 0.5, 1.28) == 0.0, "no further out than it is"


def gate(kind: str = "velocity", rate: float = 100.0) -> SafetyGate:
    limits = Limits([-0.5], [0.5], [rate])
    guard = Integrator(kind, LOW, HIGH, 0.1, 0.2)
    result = SafetyGate(limits, np.zeros(1), 500 * MS, 100 * MS, guard=guard)
    result.begin(np.array([0.3]))
    result.enable()
    return result


def check(gate: SafetyGate, action, place, now: int = NOW, age_ms: int = 0):
    measured = None if place is None else Measured(np.array([place]), now - age_ms * MS)
    wanted = None if action is None else np.array([action])
    return gate.check(wanted, now, now, now, measured)


def test_the_gate_sends_positions_and_says_what_was_executed():
    guarded = gate()
    command = check(guarded, 0.4, 0.3)
    assert (command.reason, command.action[0]) == (Reason.OK, 0.4)
    assert command.target[0] == pytest.approx(0.34)
    limited = check(guarded, 7.0, 0.34)
    assert (limited.reason, limited.action[0]) == (Reason.LIMITED, 0.5)
    assert limited.target[0] == pytest.approx(0.39)


def test_a_refusal_holds_where_the_robot_is_and_does_not_follow_it_down():
    guarded = gate()
    for _ in range(3):
        check(guarded, 0.5, 0.3)
    held = check(guarded, None, 0.32)
    assert held.reason is Reason.NO_PLAN and held.action[0] == 0.0
    assert held.target[0] == 0.32
    sagging = check(guarded, None, 0.30)
    assert sagging.target[0] == 0.32
    on = check(guarded, 0.1, 0.31)  # and goes on from there
    assert on.target[0] == pytest.approx(0.33)
    assert check(guarded, None, 0.29).target[0] == 0.29


def test_where_nobody_knows_the_position_the_target_stays():
    guarded = gate()
    target = check(guarded, 0.5, 0.3).target[0]
    stale = check(guarded, 0.5, 0.1, age_ms=501)
    assert stale.reason is Reason.STALE and stale.target[0] == target
    assert check(gate(), 0.5, None).reason is Reason.STALE


def test_a_stop_holds_too():
    guarded = gate("position_delta")
    check(guarded, 0.1, 0.3)
    guarded.stop()
    command = check(guarded, 0.1, 0.35)
    assert (command.reason, command.action[0], command.target[0]) == (Reason.STOPPED, 0.0, 0.35)


def test_rates_go_on_from_what_was_executed():
    guarded = gate(rate=2.0)
    for _ in range(6):
        last = check(guarded, 0.5, 0.3)
    assert last.action[0] == pytest.approx(0.0, abs=1e-9), "blocked"
    assert check(guarded, -0.5, 0.3).action[0] == pytest.approx(-0.2)


@pytest.mark.parametrize("kind", ["velocity", "position_delta"])
def test_targets_are_the_sum_of_what_was_executed_and_keep_every_limit(kind):
    rng, scale = np.random.default_rng(1), {"velocity": 0.1, "position_delta": 1.0}[kind]
    guarded, place, target = gate(kind), 0.3, 0.3
    for _ in range(2000):
        command = check(guarded, rng.uniform(-0.8, 1.0), place)
        assert not command.reason.refused
        target += command.action[0] * scale
        assert command.target[0] == pytest.approx(target, abs=1e-9)
        assert -1.0 <= command.target[0] <= 1.0 and abs(command.target[0] - place) <= 0.2 + 1e-12
        place += rng.uniform(0, 0.5) * (command.target[0] - place)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Integrator("effort", LOW, HIGH, 0.1, 0.2), "kind 'effort'"),
        (lambda: Integrator("velocity", HIGH, LOW, 0.1, 0.2), "must be below"),
        (lambda: Integrator("velocity", LOW, HIGH, 0.1, 0.0), "tracking_error"),
    ],
)
def test_a_wrong_value_is_named(build, words):
    with pytest.raises(ConfigError, match=words):
        build()
