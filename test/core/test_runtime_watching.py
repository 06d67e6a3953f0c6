"""What a controller watches beside its commands: rivals, clocks, and whether the robot moves."""

from __future__ import annotations

import numpy as np
import pytest

from wm_planner.embodiment import ActionSpace
from wm_planner.runtime.clock_watch import ClockWatch
from wm_planner.runtime.following import FollowWatch, StirWatch, enough_way
from wm_planner.runtime.rivals import Rivals

DT_S = 0.1
JOINTS = ("pan", "lift")
VELOCITY = ActionSpace(JOINTS, (-1.0, -1.0), (1.0, 1.0))
POSITION = ActionSpace(JOINTS, (-2.0, -2.0), (2.0, 2.0), "position", (1.0, 1.0))
TWIST = ActionSpace(("linear.x", "angular.z"), (-0.5, -1.0), (0.5, 1.0))


def follow(action: ActionSpace, ahead: float = np.inf) -> FollowWatch:
    return FollowWatch(action, DT_S, enough_way(action, DT_S), ahead)


def said_after(watch: FollowWatch, pairs) -> tuple[float, str] | None:
    """Seconds until something was said, and what."""
    for tick, pair in enumerate(pairs, 1):
        text = watch.add(*pair)
        if text:
            return tick * DT_S, text
    return None


def test_a_joint_that_is_commanded_and_stands_is_named_within_two_seconds():
    moving = [(np.array([0.5, 0.5]), np.array([0.05 * tick, 0.0])) for tick in range(100)]
    seconds, text = said_after(follow(VELOCITY), moving)
    assert seconds == pytest.approx(2.0)
    assert text.startswith("commanded but not moving: in 2.0 s joint 'lift' was led 0.450 and went")


@pytest.mark.parametrize("lag", [0, 9])
@pytest.mark.parametrize("action", [VELOCITY, POSITION])
def test_a_robot_that_follows_is_not_blamed(action, lag):
    speed = np.sin(np.arange(400) / 15)
    place = np.cumsum(speed) * DT_S
    told = speed if action is VELOCITY else place
    went = np.concatenate([np.zeros(lag), place])
    pairs = [(np.full(2, a), np.full(2, b)) for a, b in zip(told, went, strict=False)]
    assert said_after(follow(action), pairs) is None


def test_small_motion_proves_nothing():
    pairs = [(np.full(2, 0.02), np.zeros(2))] * 100
    assert said_after(follow(VELOCITY), pairs) is None


@pytest.mark.parametrize("action", [VELOCITY, POSITION])
def test_a_joint_that_stays_behind_its_place_is_named_though_nothing_leads_it_on(action):
    """So it is once the tracking error is reached: a blocked joint is led no further."""
    told = np.zeros(2) if action is VELOCITY else np.array([0.2, 0.0])
    pairs = [(told, np.zeros(2), np.array([0.2, 0.0]))] * 100
    seconds, text = said_after(follow(action, ahead=0.1), pairs)
    assert seconds == pytest.approx(4.0) and "joint 'pan' was led 0.200" in text


@pytest.mark.parametrize("noise", [0.0, 4e-4])
def test_a_twist_that_moves_nothing_is_said(noise):
    rng, watch, said = np.random.default_rng(0), StirWatch(TWIST, DT_S), []
    for _ in range(50):
        watch.sense({"left_wheel": noise * rng.uniform(-1, 1), "right_wheel": 3.0})
        said.append(watch.add(np.array([0.3, 0.0])))
    assert not any(said[:19]) and "'linear.x' was led" in said[-1]
    watch.sense({"left_wheel": 0.1})
    assert watch.add(np.array([0.3, 0.0])) == ""


def test_a_twist_that_stirs_a_joint_or_is_hardly_one_is_not_blamed():
    watch = StirWatch(TWIST, DT_S)
    for tick in range(200):
        watch.sense({"left_wheel": 0.01 * tick})
        assert watch.add(np.array([0.3, 0.0])) == ""
    assert not any(watch.add(np.array([0.01, 0.0])) for _ in range(500))


@pytest.mark.parametrize(
    ("behind_s", "words"),
    [
        (0.02, ""),
        (-0.05, ""),
        (0.31, "are 0.31 s behind this machine's clock (0.1 s are tolerated)"),
        (-3600.0, "are 3600.00 s ahead of this machine's clock"),
    ],
)
def test_clocks_are_compared_by_the_least_delay(behind_s, words):
    rng, watch = np.random.default_rng(0), ClockWatch("joint_states")
    for tick in range(100):
        received_ns = 10**15 + tick * 20_000_000
        late_s = behind_s + (0 if tick % 10 == 0 else rng.uniform(0, 0.5))
        watch.add(received_ns - round(late_s * 1e9), received_ns)
    assert watch.offset_s == pytest.approx(behind_s)
    assert words in watch.text and bool(words) == bool(watch.text)


def test_a_clock_that_was_mended_is_forgiven_and_no_stamp_is_said():
    watch = ClockWatch("joint_states")
    watch.add(0, 10**15)
    assert "carries no stamps (zero)" in watch.text and watch.offset_s is None
    watch.add(10**15 + 5 * 10**9, 10**15)
    assert "ahead" in watch.text
    watch.add(10**15 + 4 * 10**9, 10**15 + 4 * 10**9)
    assert watch.text == ""


def test_two_planners_of_different_names_are_rivals_at_once():
    rivals = Rivals()
    assert not rivals.judge({1: "/planner_node"}, 0.0) and rivals.text == ""
    assert rivals.judge({1: "/planner_node", 2: "/explore_node"}, 1.0)
    assert "/planner_node, /explore_node" in rivals.text


def test_of_one_name_the_dead_one_is_listed_for_a_while():
    rivals, name = Rivals(listed_s=30.0), "/planner_node"
    twice = {1: name, 2: name}
    assert not rivals.judge(twice, 0.0) and rivals.text
    assert not rivals.judge(twice, 20.0)
    # Killed once more while the first one is still listed: each is dead in its turn.
    assert not rivals.judge({2: name, 3: name}, 20.5) and rivals.text
    assert not rivals.judge({2: name, 3: name}, 40.0)
    assert not rivals.judge({3: name}, 40.5) and rivals.text == ""
    assert not rivals.judge({3: name, 4: name}, 50.0)
    assert rivals.judge({3: name, 4: name}, 80.1)
