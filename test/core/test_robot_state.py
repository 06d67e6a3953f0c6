"""What a robot says of itself: a value of a message, and when a recording does not count."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from wm_planner.config import from_dict
from wm_planner.data.build import build_store
from wm_planner.data.held_commands import hold_commands
from wm_planner.data.layouts import open_dataset
from wm_planner.data.messages import Command
from wm_planner.data.obedience import LATE_NS, joined, refusals
from wm_planner.data.recording import read_recording
from wm_planner.errors import ConfigError, DatasetError
from wm_planner.robot import RobotFile
from wm_planner.robot_state import StateTopic, plain_states, state_parameter, state_topics

from .bag_messages import MS, START, described, encode, episode_messages, write
from .test_recording import DT, SENT, plain_messages, robot, rows

S = 10**9
MODE = {"topic": "/mode", "type": "ur_msgs/msg/Mode", "field": "mode", "good": [7]}


@pytest.mark.parametrize(
    ("path", "good", "message", "is_good"),
    [
        ("data", [7], SimpleNamespace(data=7), True),
        ("data", [7, 8], SimpleNamespace(data=6), False),
        ("data", [False], SimpleNamespace(data=True), False),
        ("data", ["RUNNING"], SimpleNamespace(data="running"), False),
        ("mode.value", [1], SimpleNamespace(mode=SimpleNamespace(value=np.int8(1))), True),
        ("data.1", [3], SimpleNamespace(data=np.array([2, 3])), True),
        ("level", [0], SimpleNamespace(level=b"\x00"), True),  # ROS's byte
        ("data", [0], SimpleNamespace(data=float("nan")), False),
        ("data", [1], SimpleNamespace(data="1"), False),
    ],
)
def test_a_value_is_good_or_not(path, good, message, is_good):
    topic = StateTopic("/mode", "ur_msgs/msg/Mode", path, tuple(good))
    assert topic.is_good(topic.value(message)) is is_good


@dataclass
class Nested:
    inner: list = field(default_factory=list)

    def get_fields_and_field_types(self):
        return {"inner": "sequence<int8>"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("outer", "no field 'outer'; it has inner"),
        ("inner.x", "no field 'inner.x'"),
        ("inner.3", "no field 'inner.3'"),
        ("inner", "'inner' of ur_msgs/msg/Mode is no single value"),
    ],
)
def test_a_field_that_is_none_is_named(path, words):
    with pytest.raises(ConfigError, match=f"topic /mode: .*{words}"):
        StateTopic("/mode", "ur_msgs/msg/Mode", path, (1,)).value(Nested())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"type": "Int8"}, "type: expected 'package/msg/Name', got 'Int8'"),
        ({"type": "ur_msgs/srv/Mode"}, "type: expected"),
        ({"type": "os; x/msg/A"}, "type: expected"),
        ({"field": "mode..value"}, "field: expected names"),
        ({"good": []}, "good: expected values"),
        ({"good": [[1]]}, "good: expected values"),
        ({"good": 7}, "good: expected a list, got 7"),
        ({"topic": ""}, "topic: name the topic"),
        ({"max_age_s": 0}, "max_age_s must be above 0"),
        ({"max_age_s": float("nan")}, "max_age_s: expected a finite number, got nan"),
        ({"goood": [7]}, "unknown key 'goood'. Did you mean 'good'"),
    ],
)
def test_what_is_wrong_with_a_robot_file_is_named(changed, words):
    with pytest.raises(ConfigError, match=f"state: {words}"):
        state_topics({**MODE, **changed})


def test_one_topic_or_several():
    assert state_topics(MODE) == state_topics([MODE]) == (StateTopic(**{**MODE, "good": (7,)}),)
    other = {**MODE, "topic": "/safety"}
    assert [topic.topic for topic in state_topics([MODE, other])] == ["/mode", "/safety"]
    for bad, words in (([MODE, MODE], "named twice"), ("x", "a mapping or"), ([1], "a mapping")):
        with pytest.raises(ConfigError, match=words):
            state_topics(bad)
    plain = robot(state=MODE)
    assert state_topics(plain_states(plain.state)) == plain.state
    with pytest.raises(ConfigError, match="robot_state: not valid JSON"):
        state_parameter("{")
    values = {"name": "x", "control_dt_s": 0.1, "frame_skip": 5, "stale_after_s": 1.0}
    values |= {"action": {"names": ["a"], "low": [-1], "high": [1]}, "proprio": ["a/position"]}
    values |= {"cameras": {"front": {"topic": "/c"}}, "command": {"topic": "/t"}}
    values["state"] = {key: value for key, value in MODE.items() if key != "good"}
    with pytest.raises(ConfigError, match="my.yaml: state: key 'good' is missing"):
        from_dict(RobotFile, values, "my.yaml")


# When a recording does not count ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "max_age_s", "expected"),
    [
        ([(0, True), (5, True)], None, []),
        ([(0, True), (9, False), (12, True)], None, [(8, 12.1)]),  # a second before it was told
        ([(0, True), (8.7, True), (9, False), (12, True)], None, [(8.7, 12.1)]),
        ([(3, False), (4, True)], None, [(0, 4.1)]),  # from the beginning
        ([(0, True), (4, False)], None, [(3, 2**62 / S)]),
        ([(0, True), (1, True), (6, True)], 2, [(3, 6.1), (8, 2**62 / S)]),
        ([], 2, []),
    ],
)
def test_when_a_robot_did_not_obey(samples, max_age_s, expected):
    given = [(round(at * S), good) for at, good in samples]
    age_ns = None if max_age_s is None else max_age_s * S
    found = refusals(reversed(given), DT, age_ns)
    assert found == [(round(a * S), round(b * S)) for a, b in expected]
    assert LATE_NS == S


def test_intervals_are_joined():
    assert joined([(5, 7), (0, 2), (2, 3), (6, 6)]) == [(0, 3), (5, 7)]


def test_commands_hold_outside_of_the_intervals():
    samples = [(i * DT, Command("velocity", np.array([[float(i)]]))) for i in range(10)]
    held = hold_commands(samples, DT, None).without([(150 * MS, 420 * MS), (800 * MS, 2**62)])
    moments = np.array([50, 149, 150, 300, 419, 420, 450, 799, 800, 950]) * MS
    found = held.at(moments)[:, 0]
    np.testing.assert_array_equal(found, [0, 1, *[np.nan] * 3, 4, 4, 7, np.nan, np.nan])
    assert np.all(np.diff(held.stamps_ns) > 0)


def said(level, stamp):
    status = {"name": "robot_state", "message": "", "hardware_id": "", "values": []}
    kind = "diagnostic_msgs/msg/DiagnosticStatus"
    return "/robot_state", encode(kind, level=level, **status), stamp


def told(ticks):
    """The recorder's word twice a second: a protective stop from 4.2 s to 6 s."""
    for i in range(0, ticks, 5):
        stamp = START + i * DT
        yield said(2 if 4.2 * S <= stamp - START < 6 * S else 0, stamp)


def kept(recording):
    """Raw actions by their number."""
    return set(np.round(rows(recording) * 100).astype(int).tolist())


def test_what_a_stopped_robot_was_told_is_no_training_data(tmp_path):
    messages = [*plain_messages(ticks=100), *told(100)]
    path = write(tmp_path / "bags" / "a", sorted(messages, key=lambda message: message[2]))
    recording = read_recording(path, robot=robot())
    actions = kept(recording)
    assert not actions & set(range(42, 60)), "a command of the stop"
    assert {0, 39, 61, 95} <= actions, "what was executed"
    account = recording.account
    assert account.lost == {"robot_state": 4, "ends": 1}
    assert account.holes["robot_state"][0] == 1
    store = build_store(
        open_dataset(tmp_path / "bags", robot=robot()), tmp_path / "store", 2, 5, {}
    )
    stored = set(np.round(np.asarray(store.actions)[..., ::2].ravel() * 100).astype(int).tolist())
    assert stored and not stored & set(range(42, 60))


def test_the_robots_own_topic_is_read_where_the_robot_file_names_it(tmp_path):
    states = {"topic": "/mode", "type": "std_msgs/msg/Int8", "field": "data", "good": [7]}
    modes = [
        ("/mode", encode("std_msgs/msg/Int8", data=7 if i < 40 else 3), START + i * DT)
        for i in range(100)
    ]
    messages = sorted([*plain_messages(ticks=100), *modes], key=lambda message: message[2])
    path = write(tmp_path / "bag", messages)
    assert max(kept(read_recording(path, robot=robot(state=states)))) < 40
    assert 99 in kept(read_recording(path, robot=robot()))
    with pytest.raises(DatasetError, match="bag: the robot did not execute any command"):
        read_recording(path, robot=robot(state={**states, "good": [1]}))
    other = read_recording(path, robot=robot(state={**states, "topic": "/safety"}))
    assert any("topic /safety was not recorded" in note for note in other.account.notes)


def test_a_bag_that_explains_itself_needs_no_robot_file_for_it(tmp_path):
    messages = [("/recording", described(SENT), START), *episode_messages(ticks=60)]
    messages += [said(0, START), said(1, START + 2 * S), said(0, START + 3 * S)]
    path = write(tmp_path / "bag", sorted(messages, key=lambda message: message[2]))
    assert not kept(read_recording(path)) & set(range(10, 30))
