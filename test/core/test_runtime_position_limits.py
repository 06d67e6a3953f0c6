"""Where joints may be: what is cut, and what a robot's description says."""

from __future__ import annotations

import numpy as np
import pytest

from wm_planner.errors import ConfigError
from wm_planner.runtime.position_limits import PositionGuard, tightened, within_positions
from wm_planner.runtime.robot_description import (
    MAX_BYTES,
    JointLimit,
    described_limits,
    joint_limits,
)
from wm_planner.runtime.safety import Limits, Measured, Reason, SafetyGate

MS = 1_000_000
NOW = 10_000 * MS
LOW, HIGH = np.array([-1.0, -2.0]), np.array([1.0, 2.0])
URDF = """<robot name="arm">
  <joint name="a" type="revolute">
    <limit lower="-1.5" upper="2" velocity="0.3" effort="7"/>
    <safety_controller soft_lower_limit="-1.2" soft_upper_limit="2.5"/>
  </joint>
  <joint name="b" type="continuous"><limit velocity="2" effort="0"/></joint>
  <joint name="c" type="prismatic"><limit lower="0" upper="0.2" velocity="0" effort="1"/></joint>
  <transmission name="t"><joint name="a"><hardwareInterface/></joint></transmission>
</robot>"""


@pytest.mark.parametrize(
    ("place", "action", "age_s", "allowed"),
    [
        (0.0, 0.5, 0.0, 0.5),  # far from everything
        (0.97, 0.5, 0.0, 0.3),  # 0.03 rad in 0.1 s
        (-0.97, -0.5, 0.0, -0.3),
        (0.97, -0.5, 0.0, -0.5),  # away from the limit
        (0.97, 0.5, 0.05, 0.3),  # measured 0.05 s ago, when it stood
        (1.0, 0.5, 0.0, 0.0),
        (1.2, 0.5, 0.0, 0.0),  # beyond: no further out, and not driven back by itself
        (1.2, 0.0, 0.0, 0.0),
        (1.2, -0.5, 0.0, -0.5),
        (-1.2, -0.5, 0.0, 0.0),
        (-1.2, 0.5, 0.0, 0.5),
    ],
)
def test_a_velocity_ends_inside(place, action, age_s, allowed):
    guard = PositionGuard("velocity", LOW, HIGH, 0.1)
    result = guard.allow(np.array([action, 0.25]), np.array([place, 0.0]), age_s)
    np.testing.assert_allclose(result, [allowed, 0.25], atol=1e-12)


@pytest.mark.parametrize(
    ("place", "action", "allowed"),
    [(0.9, 3.0, 3.0), (1.0, 3.0, 0.0), (1.1, -3.0, -3.0), (-1.0, -3.0, 0.0), (-1.1, 3.0, 3.0)],
)
def test_an_effort_does_not_push_beyond(place, action, allowed):
    guard = PositionGuard("effort", LOW, HIGH, 0.1)
    assert guard.allow(np.array([action, 1.0]), np.array([place, 0.0]), 0.0)[0] == allowed


def test_a_joint_without_limits_turns_on():
    guard = PositionGuard("velocity", np.array([-np.inf]), np.array([np.inf]), 0.1)
    assert guard.allow(np.array([0.5]), np.array([1e6]), 0.0)[0] == 0.5


def gate(guard) -> SafetyGate:
    limits = Limits(-np.ones(2), np.ones(2), np.full(2, 5.0))
    result = SafetyGate(limits, np.zeros(2), 500 * MS, 100 * MS, guard=guard)
    result.enable()
    return result


def check(gate: SafetyGate, action, place, age_ms: int = 0):
    measured = None if place is None else Measured(np.array(place), NOW - age_ms * MS)
    return gate.check(np.array(action), NOW, NOW, NOW, measured)


def test_the_gate_says_limited_and_needs_to_know_where_the_robot_is():
    guarded = gate(PositionGuard("velocity", LOW, HIGH, 0.1))
    command = check(guarded, (0.4, 0.0), (0.98, 0.0))
    np.testing.assert_allclose(command.action, [0.2, 0.0])
    assert command.reason is Reason.LIMITED and command.target is None
    assert check(guarded, (0.4, 0.0), (0.0, 0.0)).reason is Reason.OK
    assert check(guarded, (0.4, 0.0), None).reason is Reason.STALE
    assert check(guarded, (0.4, 0.0), (0.0, 0.0), age_ms=501).reason is Reason.STALE


def test_rates_go_on_from_what_was_allowed():
    guarded = gate(PositionGuard("velocity", LOW, HIGH, 0.1))
    check(guarded, (0.5, 0.0), (0.0, 0.0))
    assert check(guarded, (1.0, 0.0), (1.0, 0.0)).action[0] == 0.0  # stopped by the limit
    assert check(guarded, (1.0, 0.0), (0.0, 0.0)).action[0] == 0.5


def test_random_driving_never_leaves_the_limits():
    rng = np.random.default_rng(0)
    guarded, place = gate(PositionGuard("velocity", LOW, HIGH, 0.1)), np.zeros(2)
    for _ in range(2000):
        action = guarded.check(
            rng.uniform(0.2, 1.0, 2) * rng.choice([1, 1, -1]), NOW, NOW, NOW, Measured(place, NOW)
        ).action
        place = place + 0.1 * action
        assert np.all(place >= LOW - 1e-9) and np.all(place <= HIGH + 1e-9)


@pytest.mark.parametrize("rates", [None, [5.0, 2.0]])
@pytest.mark.parametrize("latency", [0, 1, 2])
def test_a_robot_that_brakes_late_and_slowly_stays_inside(rates, latency):
    """It follows commands no faster than max_rate, and is seen `latency` periods late."""
    rng = np.random.default_rng(1)
    guard = PositionGuard("velocity", LOW, HIGH, 0.1, None if rates is None else np.array(rates))
    guard.begin(np.zeros(2))
    fine, per_tick = 0.001, 100
    brake = np.full(2, np.inf) if rates is None else np.array(rates)
    place, speed, seen = np.zeros(2), np.zeros(2), [np.zeros(2)] * 3
    furthest = np.zeros(2)
    for tick in range(600):
        wanted = rng.uniform(0.2, 1.0, 2) * (1 if tick % 60 < 40 else -1)
        command = guard.allow(wanted, seen[-1 - latency], 0.1 * latency)
        for _ in range(per_tick):
            speed = speed + np.clip(command - speed, -brake * fine, brake * fine)
            place = place + fine * speed
        seen.append(place)
        furthest = np.maximum(furthest, np.abs(place))
    assert np.all(furthest <= HIGH + 1e-3)
    assert np.all(furthest >= HIGH - 0.02)  # and gets there


def test_an_effort_ends_before_a_fast_joint_is_at_its_limit():
    guard = PositionGuard("effort", LOW, HIGH, 0.1)
    push = np.array([3.0, 0.0])
    pushed = [guard.allow(push, np.array([x, 0.0]), 0.0)[0] for x in (0.5, 0.7, 0.9)]
    assert pushed == [3.0, 3.0, 0.0]  # at 2 rad/s it is beyond 1.0 in a period
    assert guard.allow(-push, np.array([1.1, 0.0]), 0.0)[0] == -3.0
    guard.refuse(None)  # what was seen before is no speed of now
    assert guard.allow(push, np.array([0.9, 0.0]), 0.0)[0] == 3.0


def test_positions_have_both_limits():
    limits = within_positions(Limits([-3.0, -1.0], [3.0, 1.0], [1.0, 1.0]), LOW, HIGH)
    assert limits.low.tolist() == [-1.0, -1.0] and limits.high.tolist() == [1.0, 1.0]
    with pytest.raises(ConfigError, match="leave nothing"):
        within_positions(Limits([2.0, -1.0], [3.0, 1.0]), LOW, HIGH)


def test_a_description_gives_positions_speeds_and_efforts():
    assert described_limits(URDF, ["c", "a", "b"]) == [
        JointLimit(0.0, 0.2, np.inf, 1.0),
        JointLimit(-1.2, 2.0, 0.3, 7.0),
        JointLimit(-np.inf, np.inf, 2.0, np.inf),
    ]
    assert joint_limits(URDF, ["a"]) == [(-1.2, 2.0)]


@pytest.mark.parametrize(
    ("kind", "bounds", "rates"),
    [
        ("velocity", [0.3, 1.0], [9.0, 9.0]),
        ("position_delta", [0.03, 0.2], [9.0, 9.0]),
        ("effort", [1.0, 1.0], [9.0, 9.0]),
        ("position", [1.0, 1.0], [0.3, 2.0]),
    ],
)
def test_speeds_of_the_joints_tighten_the_action(kind, bounds, rates):
    limits = Limits(-np.ones(2), np.ones(2), np.full(2, 9.0))
    result = tightened(limits, kind, 0.1, described_limits(URDF, ["a", "b"]))
    np.testing.assert_allclose(result.high, bounds)
    np.testing.assert_allclose(result.low, np.negative(bounds))
    np.testing.assert_allclose(result.max_rate, rates)
    with pytest.raises(ConfigError, match="nothing is left"):
        tightened(Limits([0.5], [1.0]), "velocity", 0.1, described_limits(URDF, ["a"]))


MIMIC = """<robot name="hand">
  <joint name="m" type="prismatic"><limit lower="0" upper="1" velocity="1" effort="1"/></joint>
  <joint name="f" type="revolute"><mimic joint="m" multiplier="-2" offset="0.5"/>
    <limit lower="-0.7" upper="0.3" velocity="0.5" effort="1"/></joint>
  <joint name="g" type="continuous"><mimic joint="m"/></joint>
</robot>"""


def test_what_mimics_a_joint_narrows_its_limits():
    (limit,) = described_limits(MIMIC, ["m"])
    np.testing.assert_allclose([limit.low, limit.high, limit.speed], [0.1, 0.6, 0.25])


BOMB = '<!DOCTYPE r [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]><robot name="&b;"/>'


@pytest.mark.parametrize(
    ("text", "names", "words"),
    [
        (BOMB, ["a"], "declares a document type"),
        ('<!DOCTYPE r SYSTEM "file:///etc/passwd"><robot/>', ["a"], "declares a document type"),
        ("<robot>" + " " * MAX_BYTES + "</robot>", ["a"], "at most"),
        ("<robot", ["a"], "is not XML"),
        ("", ["a"], "is not XML"),
        (URDF, ["aa"], "no joint 'aa'.*Did you mean 'a'"),
        (URDF.replace('velocity="0.3"', 'velocity="fast"'), ["a"], "velocity is 'fast'"),
        (URDF.replace('velocity="0.3"', 'velocity="-0.3"'), ["a"], "'a': velocity is -0.3"),
        (URDF.replace('lower="-1.5"', 'lower="nan"'), ["a"], "'a': lower is 'nan'"),
        (URDF.replace('soft_upper_limit="2.5"', 'soft_upper_limit="-3"'), ["a"], "cannot move"),
        (URDF.replace('lower="-1.5" upper="2"', ""), ["a"], "'a' cannot move.*position_limits"),
        (URDF.replace('name="b"', 'name="a"'), ["a"], "two joints are called 'a'"),
        (MIMIC, ["f"], "'f' mimics 'm'"),
        (MIMIC.replace('offset="0.5"', 'offset="5"'), ["m"], "'m' cannot move"),
        (MIMIC.replace('multiplier="-2"', 'multiplier="two"'), ["m"], "multiplier is 'two'"),
    ],
)
def test_a_description_that_cannot_be_used_is_named(text, names, words):
    with pytest.raises(ConfigError, match=words):
        described_limits(text, names)


def test_limits_that_are_none_are_named():
    with pytest.raises(ConfigError, match="position limits: low"):
        PositionGuard("velocity", np.array([1.0]), np.array([1.0]), 0.1)
