"""Events of episodes, and the one clock that their messages are logged by."""

from __future__ import annotations

import pytest

from wm_planner.errors import DatasetError
from wm_planner.runtime.episode_events import EpisodeClock, EpisodeEvent, parse_event

SECOND = 10**9
NOW = 1_700_000_000 * SECOND


def test_an_event_has_a_name_and_an_outcome() -> None:
    values = {"episode": "3", "stamp_ns": "17"}
    assert parse_event("start", values) == EpisodeEvent("start", "3", "episode_0003", 17)
    named = parse_event("end", {**values, "name": "push", "outcome": "failure"})
    assert (named.name, named.outcome) == ("push", "failure")


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ({"success": "true"}, "success"),
        ({"success": "false"}, "failure"),
        ({"success": "false", "outcome": "success"}, "success"),
        ({"outcome": "splendid"}, ""),
        ({}, ""),
    ],
)
def test_outcome(values: dict[str, str], outcome: str) -> None:
    event = parse_event("end", {"episode": "0", "stamp_ns": "1", **values})
    assert event.outcome == outcome


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("pause", {"episode": "0", "stamp_ns": "1"}, "'pause'"),
        ("start", {"stamp_ns": "1"}, "'episode' is missing"),
        ("end", {"episode": "0"}, "'stamp_ns' is missing"),
        ("end", {"episode": "0", "stamp_ns": "-1"}, "got '-1'"),
        ("start", {"episode": "first", "stamp_ns": "1"}, "got 'first'"),
    ],
)
def test_what_cannot_be_read_is_named(kind: str, values: dict[str, str], text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        parse_event(kind, values)


def test_real_time_takes_the_stamp_where_it_is_of_this_clock() -> None:
    clock = EpisodeClock(simulated=False)
    assert clock.log_ns(NOW - SECOND, NOW, sample=True) == NOW - SECOND
    assert clock.log_ns(0, NOW, sample=True) == NOW  # nobody filled it in
    assert clock.log_ns(None, NOW, sample=False) == NOW
    assert clock.log_ns(3 * SECOND, NOW, sample=False) == NOW  # simulated, or since boot
    assert clock.now_ns(NOW) == NOW


def test_simulated_time_is_that_of_the_newest_sample() -> None:
    clock = EpisodeClock(simulated=True)
    assert clock.log_ns(NOW, NOW, sample=False) is None  # nothing is known of the clock yet
    assert clock.log_ns(2 * SECOND, NOW, sample=False) == 2 * SECOND
    assert clock.log_ns(3 * SECOND, NOW, sample=True) == 3 * SECOND
    assert clock.log_ns(NOW, NOW, sample=False) == 3 * SECOND
    assert clock.log_ns(0, NOW, sample=False) == 3 * SECOND
    assert clock.now_ns(NOW) == 3 * SECOND
