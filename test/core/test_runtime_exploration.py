"""Exploring motion of every kind of action, through the controller's gate and a simulated robot."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from wm_planner.embodiment import ActionSpace
from wm_planner.errors import ConfigError
from wm_planner.runtime.control import ControlLoop
from wm_planner.runtime.exploration import GoHome, Motion, Stay, Wander
from wm_planner.runtime.following import FollowWatch
from wm_planner.runtime.motion import Box, allowed_box, motion_track
from wm_planner.runtime.plan_stream import PlanStream
from wm_planner.runtime.safety import Command, Limits, Reason, SafetyGate

DT_S = 0.1
DT_NS = 10**8
BOX = Box(np.array([-1.0, -0.5, -2.0]), np.array([1.0, 0.7, 1.5]))
HOME = np.array([0.3, 0.0, -0.4])
JOINTS = ("shoulder", "elbow", "wrist")
AXES = ("linear.x", "linear.y", "angular.z")
ACTIONS = {
    "velocity": ActionSpace(JOINTS, (-0.8, -0.5, -1.0), (0.8, 0.5, 1.0), max_rate=(4.0, 1.0, 0.0)),
    "position": ActionSpace(JOINTS, (-1.0,) * 3, (1.0,) * 3, "position", (0.6, 0.4, 1.0)),
    "position_delta": ActionSpace(
        JOINTS, (-0.05,) * 3, (0.05,) * 3, "position_delta", (0.3, 0.1, 0.0)
    ),
    "effort": ActionSpace(JOINTS, (-1.0,) * 3, (1.0,) * 3, "effort", (10.0, 5.0, 0.0)),
    "twist": ActionSpace(AXES, (-0.2, -0.2, -0.5), (0.2, 0.2, 0.5), max_rate=(0.5, 0.5, 2.0)),
}


class Robot:
    """A simulated robot behind a controller whose ticks jitter."""

    def __init__(self, kind: str, position: np.ndarray, seed: int = 0, box: Box = BOX) -> None:
        self.action = ACTIONS[kind]
        self.rng = np.random.default_rng(seed)
        self.position, self.speed = np.array(position, dtype=float), np.zeros(3)
        if kind == "position":
            box = Box(np.maximum(box.low, self.action.low), np.minimum(box.high, self.action.high))
        self.box = box
        self.stream = PlanStream(motion_track(self.action, DT_S, box), DT_NS, 0.5)
        self.holds = kind == "position"
        rates = np.where(np.array(self.action.max_rate) > 0, self.action.max_rate, 1e12)
        limits = Limits(np.array(self.action.low), np.array(self.action.high), rates)
        gate = SafetyGate(limits, np.zeros(3), 1_500_000_000, DT_NS, self.holds)
        if self.holds:
            gate.set_safe_action(self.position)
        gate.enable()
        self.loop = ControlLoop(gate, ("joint_states",))
        self.tick = 0
        self.sent: list[Command] = []
        self.path: list[np.ndarray] = []

    def plan(self, motion: Motion, now_ns: int) -> None:
        """What the explorer does: from joint states that are a little old."""
        seen_ns = now_ns - int(self.rng.integers(0, 20_000_000))
        position = None if self.action.is_twist else self.position
        speed = self.speed if self.action.kind == "effort" else None
        plan = self.stream.next(motion, now_ns, seen_ns, position, speed)
        if plan is not None:
            self.loop.put(plan)

    def run(self, motion: Motion, seconds: float, refresh: int = 5) -> None:
        """Plan every so many ticks, a random part of a period before one of them."""
        for _ in range(round(seconds / DT_S)):
            base_ns = 10**12 + self.tick * DT_NS
            if self.tick % refresh == 0 or self.action.kind == "effort":
                self.plan(motion, base_ns - int(self.rng.integers(30_000_000, 90_000_000)))
            now_ns = base_ns + int(self.rng.integers(-25_000_000, 25_000_000))
            self.loop.sensed("joint_states", now_ns)
            command = self.loop.tick(now_ns)
            self.sent.append(command)
            self.stream.ticked(now_ns, command.action)
            self._move(command.action)
            self.tick += 1

    def _move(self, action: np.ndarray) -> None:
        kind = self.action.kind
        if kind == "effort":
            for _ in range(10):
                self.speed = self.speed + (action - 0.8 * self.speed) * DT_S / 10
                self.position = self.position + self.speed * DT_S / 10
        elif kind == "position":
            self.position = action
        else:
            self.position = self.position + action * (1 if kind == "position_delta" else DT_S)
        self.path.append(self.position)

    @property
    def way(self) -> np.ndarray:
        """(N, A) positions in the box's frame: a twist begins in its middle."""
        return np.array(self.path) + (self.box.middle if self.action.is_twist else 0)

    @property
    def rows(self) -> np.ndarray:
        return np.array([command.action for command in self.sent])

    def reasons(self) -> set[Reason]:
        """Of all commands behind the first, for which there was no plan yet."""
        return {command.reason for command in self.sent[1:]}


def started(kind: str) -> Robot:
    """A robot in the middle of the box, of which a twist knows nothing."""
    return Robot(kind, np.zeros(3) if kind == "twist" else HOME)


@functools.cache
def ten_minutes(kind: str) -> Robot:
    robot = started(kind)
    robot.run(Wander(seed=3), 600)
    return robot


@pytest.mark.parametrize("kind", ACTIONS)
def test_ten_minutes_stay_in_the_box_and_the_gate_has_nothing_to_cut(kind):
    robot = ten_minutes(kind)
    # The controller ticks before the first plan has come.
    assert robot.reasons() <= {Reason.NO_PLAN, Reason.OK}
    assert [command.reason for command in robot.sent].count(Reason.NO_PLAN) <= 6
    slack = 0.25 if kind == "effort" else 0.03  # the ticks jitter, and the robot is seen late
    assert (robot.way > robot.box.low - slack).all()
    assert (robot.way < robot.box.high + slack).all()


@pytest.mark.parametrize("kind", ACTIONS)
def test_motion_covers_the_box_and_the_speeds(kind):
    robot = ten_minutes(kind)
    spread = np.ptp(robot.way, axis=0) / (2 * robot.box.half)
    assert (spread > (0.7 if kind == "effort" else 0.8)).all(), spread
    rows = robot.rows
    if kind == "position":
        rows = np.diff(rows, axis=0) / DT_S / np.array(robot.action.max_rate)
    else:
        rows = rows / np.array(robot.action.high)
    assert (np.abs(rows).max(axis=0) > 0.9).all() and np.abs(rows).max() <= 1.0 + 1e-6
    fastest = np.abs(rows).max(axis=1)
    for low, high in ((0.02, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.01)):
        assert ((fastest > low) & (fastest <= high)).mean() > 0.03, (low, high)
    if kind != "effort":  # which is changed according to where the joint is
        same = np.isclose(rows[1:], rows[:-1], atol=1e-3).all(axis=1)
        held = np.convolve(same, np.ones(3), "valid") == 3  # for four periods at least
        assert 0.1 < held.mean() < 0.8


@pytest.mark.parametrize("kind", ACTIONS)
def test_the_same_seed_gives_the_same_motion_and_another_another(kind):
    rows = []
    for seed, episode in ((5, 0), (5, 0), (6, 0), (5, 1)):
        robot = started(kind)
        robot.run(Wander(seed, episode), 20)
        rows.append(robot.rows)
    assert np.array_equal(rows[0], rows[1])
    assert not np.allclose(rows[0], rows[2]) and not np.allclose(rows[0], rows[3])


@pytest.mark.parametrize("kind", [kind for kind in ACTIONS if kind != "twist"])
@pytest.mark.parametrize("start", [(0.9, -0.4, 1.4), (-1.0, 0.8, -2.2)])
def test_homing_ends_at_home_also_from_outside_of_the_box(kind, start):
    start = np.clip(start, -1.0, 1.0) if kind == "position" else np.array(start)
    robot = Robot(kind, start)
    home = GoHome(HOME)
    seconds = home.seconds(start, robot.stream.track)
    robot.run(home, 2 + (2 if kind != "effort" else 15) * seconds)
    np.testing.assert_allclose(robot.position, HOME, atol=0.05 if kind == "effort" else 0.01)
    assert robot.reasons() <= {Reason.NO_PLAN, Reason.OK}
    if kind != "effort":
        speeds = np.diff(np.array(robot.path), axis=0) / DT_S
        track = robot.stream.track
        assert (np.abs(speeds) <= 0.3 * np.minimum(track.high, -track.low) + 1e-6).all()
        assert robot.stream.is_still(10**12 + robot.tick * DT_NS)


@pytest.mark.parametrize("kind", ["velocity", "position", "position_delta"])
def test_a_stopped_explorer_leaves_a_robot_at_rest(kind):
    robot = started(kind)
    robot.run(Wander(seed=2), 30)
    robot.run(Stay(), 0.5)
    robot.run(Stay(), 3, refresh=1000)  # no plan any more
    steps = np.abs(np.diff(np.array(robot.path), axis=0)).max(axis=1)
    assert steps[250:300].max() > 0.01 and steps[-20:].max() < 1e-6
    assert Reason.LIMITED not in robot.reasons()


def test_a_robot_outside_of_the_box_rests_there_and_is_led_back_by_motion():
    robot = Robot("velocity", np.array([1.02, 0.0, 0.0]))
    robot.run(Stay(), 2)
    assert robot.stream.is_still(10**12 + robot.tick * DT_NS)
    np.testing.assert_array_equal(robot.position, [1.02, 0.0, 0.0])
    robot.run(Wander(seed=0), 10)
    assert (robot.position < BOX.high).all()


def test_late_plans_brake_and_go_on_without_a_jerk():
    robot = started("velocity")
    robot.run(Stay(), 1)
    # A plan goes on for 0.5 s, and for 0.2 s it is not changed any more: the next one is late.
    robot.run(Wander(seed=4), 120, refresh=12)
    assert {command.reason for command in robot.sent[10:]} == {Reason.OK}
    assert (robot.way > BOX.low - 0.03).all() and (robot.way < BOX.high + 0.03).all()
    assert np.abs(robot.rows).max() > 0.5


def test_without_new_plans_the_robot_rests_until_the_plan_is_too_old():
    robot = started("velocity")
    robot.run(Wander(seed=4), 10)
    last = len(robot.sent)
    robot.run(Wander(seed=4), 3, refresh=10**9)  # the newest plan came half a second ago
    reasons = [command.reason for command in robot.sent[last:]]
    assert set(reasons) == {Reason.OK, Reason.STALE}
    rest = reasons.index(Reason.STALE)
    assert 8 <= rest <= 12 and set(reasons[rest:]) == {Reason.STALE}
    np.testing.assert_allclose(robot.rows[last + rest - 1 :], 0, atol=1e-9)


def test_a_pause_begins_anew_from_what_is_sent():
    robot = started("velocity")
    robot.run(Wander(seed=4), 10)
    robot.stream.halt()
    robot.loop.drop_plan()
    assert not robot.stream.is_still(0)
    robot.tick += 1000
    robot.run(Wander(seed=4, episode=1), 20)
    assert robot.reasons() <= {Reason.NO_PLAN, Reason.OK}


@pytest.mark.parametrize("age_ns", [-(10**18), -(10**9), 10**10, 10**18])
def test_stamps_of_another_clock_give_a_plan_of_bounded_length(age_ns):
    robot = started("velocity")
    robot.run(Wander(seed=4), 2)
    now_ns = 10**12 + robot.tick * DT_NS
    plan = robot.stream.next(Wander(0), now_ns, now_ns - age_ns, HOME)
    assert plan is not None and len(plan.actions) < 200
    assert now_ns - 10.2e9 <= plan.stamp_ns <= now_ns


@pytest.mark.parametrize("kind", ["velocity", "position", "position_delta"])
@pytest.mark.parametrize("lag", [0, 3, 8])  # control periods
def test_a_robot_that_follows_late_is_told_from_one_that_does_not(kind, lag):
    robot = ten_minutes(kind)
    path = [robot.path[0]] * lag + robot.path
    follows = FollowWatch(robot.action, DT_S, 0.5 * robot.box.half)
    assert not any(follows.add(*pair) for pair in zip(robot.rows, path, strict=False))
    blocked = np.array(robot.path)
    blocked[:, 1] = blocked[0, 1]
    follows = FollowWatch(robot.action, DT_S, 0.5 * robot.box.half)
    said = [follows.add(*pair) for pair in zip(robot.rows, blocked, strict=True)]
    assert "'elbow' was led" in next(filter(None, said))


def test_there_is_no_plan_before_the_first_tick():
    stream = PlanStream(motion_track(ACTIONS["velocity"], DT_S, BOX), DT_NS, 0.5)
    assert stream.next(Stay(), 10**12, 10**12, HOME) is None


def test_a_robot_that_only_goes_forward_is_driven_within_its_bounds():
    action = ActionSpace(("linear.x",), (0.1,), (0.5,), max_rate=(1.0,))
    track = motion_track(action, DT_S, Box(np.array([-1.0]), np.array([1.0])))
    wander = Wander(seed=0)
    rows = np.array([track.advance(wander.wish(track)) for _ in range(500)])
    assert rows.min() >= 0.1 and rows.max() <= 0.5


def test_the_box_is_limits_less_a_margin_around_a_centre():
    action = ACTIONS["velocity"]
    low, high = np.array([-1.0, -np.inf, -3.0]), np.array([1.0, np.inf, 3.0])
    wide = np.array([np.inf, 0.5, 0.5])
    box = allowed_box(action, low, high, np.array([0.0, 2.0, 2.9]), wide, 0.1)
    np.testing.assert_allclose(box.low, [-0.8, 1.5, 2.4])
    np.testing.assert_allclose(box.high, [0.8, 2.5, 2.9])
    with pytest.raises(ConfigError, match="'shoulder'.* 2, outside .* -1 .. 1"):
        allowed_box(action, low, high, np.array([2.0, 0.0, 0.0]), wide, 0.1)
    narrow = allowed_box(ACTIONS["position"], low, high, np.zeros(3), wide, 0.1)
    np.testing.assert_allclose(narrow.high, [0.8, 0.5, 0.5])
    with pytest.raises(ConfigError, match="'elbow' has no position limits"):
        allowed_box(action, low, high, np.zeros(3), np.full(3, np.inf), 0.1)
