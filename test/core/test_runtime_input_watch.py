"""Why there is no observation: each reason has its own words, the value, and the way out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from wm_planner.data.joints import JointCollector, joint_problem
from wm_planner.runtime.input_watch import InputWatch
from wm_planner.runtime.surprise import SentActions

S = 10**9
NOW = 1_800_000_000 * S
FRONT, WRIST, JOINTS = "observation/front", "observation/wrist", "joint_states"
UPTIME = -NOW + 5000 * S


def watched(seconds: float = 4.0, clocked: bool = True, **ahead_s: float | None) -> InputWatch:
    """Of two cameras and joint states that came for so long, ten times a second each.

    Args:
        seconds: how long.
        clocked: see `InputWatch`.
        ahead_s: of a topic's stamps, seconds; None: its stamps are 0. 'silent': nothing came.
    """
    watch = InputWatch([FRONT, WRIST], JOINTS, 0.1, 2.5, 0.5, clocked)
    watch.observed(0.0)
    for number in range(round(10 * seconds) + 1):
        now_ns = NOW + number * S // 10
        for key, name in (("front", FRONT), ("wrist", WRIST), ("joints", JOINTS)):
            offset = ahead_s.get(key, 0.0)
            if offset == "silent":
                continue
            stamp_ns = None if offset is None else now_ns + round(offset * S)
            watch.heard(name, stamp_ns, now_ns, number / 10)
    return watch


def reason(watch: InputWatch, seconds: float = 4.0) -> str:
    return watch.reason(NOW + round(seconds * S), seconds)


@pytest.mark.parametrize(
    ("ahead_s", "words"),
    [
        ({"front": -10.0}, [FRONT, "10.0 s behind this machine's clock", "synchronise"]),
        ({"joints": -10.0}, [JOINTS, "10.0 s behind"]),
        ({"joints": 3600.0}, [JOINTS, "3600.0 s ahead of this machine's clock", "synchronise"]),
        ({"front": UPTIME / S}, [FRONT, "(5004.0 s) count from the start", "not from 1970"]),
        ({"wrist": -0.4}, [WRIST, "0.40 s behind those of observation/front", "0.1 s apart"]),
        ({"joints": 0.3}, [JOINTS, "0.30 s ahead of those of observation/front", "chrony"]),
        ({"joints": "silent"}, [JOINTS, "nothing has come so far", "drivers run"]),
        ({"wrist": "silent"}, [WRIST, "nothing has come so far", "camera node run"]),
        ({}, ["no picture has joint states within 0.1 s", "though the clocks agree"]),
    ],
)
def test_each_reason_has_its_own_words(ahead_s, words):
    told = reason(watched(**ahead_s))
    assert all(word in told for word in words), told
    assert "longer" not in told and "slow machine" not in told


def test_messages_that_are_late_now_and_then_are_no_wrong_clock():
    watch = watched()
    for number in range(5):
        watch.heard(FRONT, NOW + 4 * S, NOW + 5 * S, 4.5 + number / 10)
    assert "1.00 s later than usual" in reason(watch, 5.0) and "too busy" in reason(watch, 5.0)


def test_all_clocks_may_be_wrong_together():
    watch = watched(front=3600.0, wrist=3600.0, joints=3600.0)
    assert "3600.0 s ahead" in watch.clock_problem() and "3600.0 s ahead" in reason(watch)
    assert watch.values(4.0)["stamp ahead joint_states"] == 3600.0


def test_stamps_of_zero_are_noted_and_no_reason():
    watch = watched(front=None)
    assert not watch.clock_problem() and "stamps are 0" in watch.note()
    assert watched().note() == ""


def test_what_comes_after_a_silence_is_told_with_its_length():
    watch = watched(2.0)
    assert "nothing has come for 7.0 s" in reason(watch, 9.0)


def test_an_observation_is_no_reason_and_it_is_too_early_at_first():
    watch = watched(front=-0.8)
    watch.observed(3.5)
    assert reason(watch) == "" and "0.80 s ahead of" in watch.note()
    assert reason(watched(1.0), 1.0) == ""


def test_a_message_that_is_refused_is_the_reason_until_a_good_one_comes():
    watch = watched()
    watch.observed(4.0)
    watch.refused(JOINTS, "joint elbow_joint: position nan", 4.0)
    assert reason(watch) == "joint_states: joint elbow_joint: position nan"
    assert watch.values(4.0)["refused joint_states"] == 1
    watch.heard(JOINTS, NOW, NOW, 4.1)
    assert reason(watch, 4.1) == ""


def test_a_clock_that_stands_at_zero_is_named():
    assert "/clock" in watched().reason(0, 4.0)


def test_a_simulator_that_waits_has_no_clock_and_no_hurry():
    watch = watched(clocked=False, front=UPTIME / S)
    assert watch.reason(0, 100.0) == watch.clock_problem() == ""


ENTRIES = ("pan/position", "elbow/position", "elbow/velocity")


def state(names=("pan", "elbow"), position=(1.0, 2.0), velocity=(0.1, 0.2), effort=()):
    return SimpleNamespace(name=names, position=position, velocity=velocity, effort=effort)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (state(), ""),
        (state(position=(1.0, np.nan)), "joint elbow: position nan"),
        (state(velocity=(0.0, -np.inf)), "joint elbow: velocity -inf"),
        (state(position=(1e300, 0.0)), "joint pan: position 1e+300"),
        (state(velocity=(np.nan, 0.0)), ""),  # not asked for
        (state(position=(1.0,)), "2 names and 1 values of position"),
        (state(velocity=(1.0, 2.0, 3.0)), "2 names and 3 values of velocity"),
        (state(effort=(1.0,)), "2 names and 1 values of effort"),
        (state(names=("elbow", "elbow")), "joint elbow is named 2 times in one message"),
        (state(("gripper",), (np.nan,), ()), ""),  # another device
        (state(("elbow",), (1.0,), ()), ""),  # the rest comes in another message
        (state((), (), ()), ""),
    ],
)
def test_what_is_wrong_with_joint_states_is_named(message, problem):
    assert joint_problem(message, ENTRIES) == problem


def test_what_is_lacking_of_the_joints_is_named():
    joints = JointCollector(("pan/position", "elbow/position"), S // 10)
    first = state(("pan",), (1.0,), ())
    assert joints.add(first, 0) is None
    assert joints.lacking(first, 0) == "nothing of elbow/position so far"
    assert joints.add(state(("elbow",), (2.0,), ()), S // 20) is not None
    assert joints.add(first, S) is None
    assert joints.lacking(first, S) == "elbow/position is 0.95 s older than the others"
    assert joints.lacking(state(("gripper",), (0.0,), ()), S) == ""


def test_what_was_sent_is_known_for_each_control_period_or_not_at_all():
    sent = SentActions()
    assert sent.since(0, 1, 100) is None
    for number in range(4):
        sent.add(100 * number + 10, np.array([float(number)]))
    assert sent.since(0, 4, 100).ravel().tolist() == [0, 1, 2, 3]
    assert sent.since(100, 2, 100).ravel().tolist() == [1, 2]
    assert sent.since(0, 7, 100) is None, "nothing was sent for too long"
    assert sent.since(-500, 2, 100) is None
