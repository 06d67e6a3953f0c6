"""The safety gate: each refusal, the limits, and what follows a refusal."""

import numpy as np
import pytest

from wm_planner.errors import ConfigError
from wm_planner.runtime.safety import Limits, Measured, Reason, SafetyGate

MS = 1_000_000
NOW = 10_000 * MS
LIMITS = Limits(low=[-1.0, -2.0], high=[1.0, 2.0], max_rate=[5.0, 10.0])


def make_gate(limits=LIMITS, safe=(0.0, 0.0), enabled=True, **options):
    gate = SafetyGate(limits, np.array(safe), 500 * MS, 100 * MS, **options)
    if enabled:
        gate.enable()
    return gate


def check(gate, action=(0.1, 0.2), observed=NOW, planned=NOW, now=NOW):
    return gate.check(None if action is None else np.array(action), observed, planned, now)


def test_an_allowed_action_passes_unchanged():
    command = check(make_gate())
    assert command.reason is Reason.OK
    np.testing.assert_array_equal(command.action, [0.1, 0.2])


def test_starts_disabled_and_sends_the_safe_action():
    command = check(make_gate(enabled=False, safe=(0.3, -0.4)))
    assert command.reason is Reason.DISABLED
    np.testing.assert_array_equal(command.action, [0.3, -0.4])


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"action": None}, Reason.NO_PLAN),
        ({"planned": None}, Reason.NO_PLAN),
        ({"observed": None}, Reason.STALE),
        ({"observed": NOW - 501 * MS}, Reason.STALE),
        ({"planned": NOW - 501 * MS}, Reason.STALE),
        ({"observed": NOW + 501 * MS}, Reason.STALE),
        ({"planned": NOW + 501 * MS}, Reason.STALE),
        ({"observed": NOW - 500 * MS, "planned": NOW + 500 * MS}, Reason.OK),
        ({"action": (0.1,)}, Reason.BAD_SHAPE),
        ({"action": ((0.1, 0.2),)}, Reason.BAD_SHAPE),
        ({"action": (np.nan, 0.2)}, Reason.NON_FINITE),
        ({"action": (0.1, -np.inf)}, Reason.NON_FINITE),
        ({"action": (1.5, 0.0)}, Reason.LIMITED),
    ],
)
def test_reason(case, reason):
    command = check(make_gate(safe=(0.05, 0.0)), **case)
    assert command.reason is reason
    assert np.all(np.isfinite(command.action))
    if reason.refused:
        np.testing.assert_array_equal(command.action, [0.05, 0.0])


def test_order_of_the_reasons():
    """With everything wrong at once, reasons appear in order as the faults are mended."""
    gate = make_gate(enabled=False)
    gate.stop()
    wrong = {"action": None, "observed": None}
    assert check(gate, **wrong).reason is Reason.STOPPED
    gate.enable()
    gate.disable()
    assert check(gate, **wrong).reason is Reason.DISABLED
    gate.enable()
    assert check(gate, **wrong).reason is Reason.NO_PLAN
    wrong["action"] = (np.nan,)
    assert check(gate, **wrong).reason is Reason.STALE
    wrong["observed"] = NOW
    assert check(gate, **wrong).reason is Reason.BAD_SHAPE
    wrong["action"] = (np.nan, 9.0)
    assert check(gate, **wrong).reason is Reason.NON_FINITE
    wrong["action"] = (0.0, 9.0)
    assert check(gate, **wrong).reason is Reason.LIMITED


def test_stop_is_latched_until_enable():
    gate = make_gate()
    gate.stop()
    assert check(gate).reason is Reason.STOPPED
    gate.disable()
    assert check(gate).reason is Reason.STOPPED
    gate.enable()
    assert check(gate).reason is Reason.OK


def test_clamp_without_rate_limit():
    gate = make_gate(Limits(low=[-1.0, -2.0], high=[1.0, 2.0]))
    command = check(gate, (7.0, -7.0))
    np.testing.assert_array_equal(command.action, [1.0, -2.0])
    assert command.reason is Reason.LIMITED


def test_rate_limit_steps_from_the_last_sent_action():
    gate = make_gate()
    sent = [check(gate, (1.0, 2.0)) for _ in range(4)]
    np.testing.assert_allclose([c.action[0] for c in sent], [0.5, 1.0, 1.0, 1.0])
    np.testing.assert_allclose([c.action[1] for c in sent], [1.0, 2.0, 2.0, 2.0])
    assert [str(c.reason) for c in sent] == ["limited", "ok", "ok", "ok"]


def test_a_refusal_is_sent_at_once_and_restarts_the_rate_limiter():
    gate = make_gate()
    for _ in range(3):
        check(gate, (1.0, 2.0))
    stop = check(gate, (np.nan, 0.0))
    np.testing.assert_array_equal(stop.action, [0.0, 0.0])
    np.testing.assert_allclose(check(gate, (1.0, 2.0)).action, [0.5, 1.0])


def test_enable_restarts_the_rate_limiter():
    gate = make_gate()
    check(gate, (1.0, 2.0))
    gate.disable()
    gate.enable()
    np.testing.assert_allclose(check(gate, (-1.0, -2.0)).action, [-0.5, -1.0])


def test_float32_bounds_are_not_reported_as_limited():
    gate = make_gate(Limits(low=[-0.1], high=[0.1]), safe=(0.0,))
    command = gate.check(np.array([0.1], np.float32), NOW, NOW, NOW)
    assert command.reason is Reason.OK
    assert command.action[0] == 0.1


def test_every_command_lies_in_the_limits_and_the_rate():
    rng = np.random.default_rng(0)
    gate = make_gate()
    last = gate.safe_action
    for _ in range(500):
        action = rng.normal(0, 3, 2)
        if rng.random() < 0.1:
            action[0] = np.nan
        command = check(gate, action)
        assert np.all(command.action >= LIMITS.low) and np.all(command.action <= LIMITS.high)
        if not command.reason.refused:
            assert np.all(np.abs(command.action - last) <= LIMITS.max_rate * 0.1 + 1e-12)
        last = command.action


def test_hold_repeats_the_last_action_of_a_position_robot():
    gate = make_gate(enabled=False, hold=True)
    gate.set_safe_action(np.array([0.8, 1.0]))  # measured
    gate.enable()
    np.testing.assert_allclose(check(gate, (0.9, 1.1)).action, [0.9, 1.1])
    gate.stop()
    np.testing.assert_allclose(check(gate, (-1.0, -1.0)).action, [0.9, 1.1])


def test_the_caller_cannot_change_the_gate_through_a_command():
    gate = make_gate()
    check(gate, None).action[:] = 9.0
    gate.safe_action[:] = 9.0
    np.testing.assert_array_equal(check(gate, None).action, [0.0, 0.0])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Limits(low=[0.0], high=[0.0]), "limits.low"),
        (lambda: Limits(low=[0.0], high=[1.0, 2.0]), r"limits.high: expected shape \(1,\)"),
        (lambda: Limits(low=[-np.inf], high=[1.0]), "finite"),
        (lambda: Limits(low=[], high=[]), "limits.low"),
        (lambda: Limits(low=["x"], high=[1.0]), "numbers"),
        (lambda: Limits(low=[0.0], high=[1.0], max_rate=[0.0]), "max_rate"),
        (lambda: SafetyGate(LIMITS, [0.0, 3.0], 1, 1), "outside the limits"),
        (lambda: SafetyGate(LIMITS, [0.0], 1, 1), "safe_action"),
        (lambda: SafetyGate(LIMITS, [np.nan, 0.0], 1, 1), "finite"),
        (lambda: SafetyGate(LIMITS, [0.0, 0.0], 0, 1), "stale_after_ns"),
        (lambda: SafetyGate(LIMITS, [0.0, 0.0], 1, -1), "control_dt_ns"),
        (lambda: SafetyGate(LIMITS, [0.0, 0.0], 1, 1, True, None, 0.0), "tracking_error"),
    ],
)
def test_a_wrong_value_is_named(build, words):
    with pytest.raises(ConfigError, match=words):
        build()


def held(gate, action, place, now=NOW, age_ms=0):
    measured = Measured(np.array(place), now - age_ms * MS)
    return gate.check(None if action is None else np.array(action), now, now, now, measured)


def test_a_blocked_position_robot_holds_where_it_is_not_where_it_was_told_to_go():
    gate = make_gate(enabled=False, hold=True)
    gate.begin(np.array([0.0, 0.0]))
    gate.enable()
    for _ in range(4):
        command = held(gate, (1.0, 0.0), (0.0, 0.0))
    np.testing.assert_allclose(command.action, [1.0, 0.0])
    np.testing.assert_allclose(held(gate, None, (0.01, 0.0)).action, [0.01, 0.0])
    # While the refusal goes on, the place stays: the arm is not followed down.
    np.testing.assert_allclose(held(gate, None, (-0.05, 0.0)).action, [0.01, 0.0])
    np.testing.assert_allclose(held(gate, (1.0, 0.0), (0.01, 0.0)).action, [0.51, 0.0])
    gate.stop()
    np.testing.assert_allclose(held(gate, None, (0.2, 0.0)).action, [0.2, 0.0])


def test_what_is_held_lies_within_the_limits():
    gate = make_gate(hold=True)
    held(gate, (0.9, 0.0), (0.9, 0.0))
    np.testing.assert_allclose(held(gate, None, (1.3, 0.0)).action, [1.0, 0.0])


def test_a_blocked_robot_is_not_told_to_go_further_than_the_tracking_error():
    """It would leap once it is free."""
    gate = make_gate(enabled=False, hold=True, tracking_error=0.6)
    gate.begin(np.array([0.0, 0.0]))
    gate.enable()
    commands = [held(gate, (1.0, 0.0), (0.0, 0.0)) for _ in range(50)]  # a step is 0.5
    assert max(command.action[0] for command in commands) == 0.5
    assert {command.reason for command in commands} == {Reason.LIMITED, Reason.TRACKING_ERROR}
    refused = [command for command in commands if command.reason is Reason.TRACKING_ERROR]
    assert all(command.action.tolist() == [0.0, 0.0] for command in refused)
    assert held(gate, (0.2, 0.0), (0.0, 0.0), age_ms=501).reason is Reason.STALE


def test_a_robot_that_is_said_to_be_far_outside_is_not_made_to_leap_to_a_limit():
    gate = make_gate(enabled=False, hold=True, tracking_error=0.6)
    gate.begin(np.array([0.5, 0.0]))
    gate.enable()
    held(gate, (0.6, 0.0), (0.5, 0.0))
    command = held(gate, (0.7, 0.0), (9.0, 0.0))
    assert command.reason is Reason.TRACKING_ERROR
    np.testing.assert_allclose(command.action, [0.6, 0.0])


def test_hold_is_where_the_robot_is_also_where_zero_lies_outside_of_the_limits():
    gate = make_gate(
        Limits([0.5, 1.0], [1.5, 2.0], [1.0, 1.0]), (0.5, 1.0), enabled=False, hold=True
    )
    gate.begin(np.array([0.9, 1.2]))
    gate.enable()
    np.testing.assert_allclose(held(gate, None, (0.9, 1.2)).action, [0.9, 1.2])
    held(gate, (1.0, 1.3), (0.9, 1.2))
    gate.disable()
    np.testing.assert_allclose(held(gate, None, (0.95, 1.25)).action, [0.95, 1.25])


def test_an_old_position_is_no_place_to_go_back_to():
    gate = make_gate(enabled=False, hold=True)
    gate.begin(np.array([0.5, 0.0]))
    gate.enable()
    held(gate, (0.6, 0.1), (0.5, 0.0))
    np.testing.assert_allclose(held(gate, None, (0.1, 0.0), age_ms=501).action, [0.6, 0.1])


def test_a_robot_outside_of_its_limits_does_not_begin():
    gate = make_gate(enabled=False, hold=True)
    with pytest.raises(ConfigError, match="outside the limits"):
        gate.begin(np.array([1.5, 0.0]))


def test_other_limits_hold_from_the_next_tick():
    gate = make_gate(enabled=False)
    gate.set_limits(Limits([-0.2, -0.2], [0.2, 0.2]), None)
    gate.enable()
    np.testing.assert_allclose(check(gate, (1.0, 1.0)).action, [0.2, 0.2])
    with pytest.raises(ConfigError, match="outside the limits"):
        gate.set_limits(Limits([0.1, 0.1], [0.2, 0.2]), None)
