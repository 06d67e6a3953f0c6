"""The campaign of faults: how it judges, what it draws, what it writes; no graph is started."""

from __future__ import annotations

import random
from dataclasses import asdict, replace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from faults.cable import Direction, Quality
from faults.campaign import chosen, schedule
from faults.command import LANES, SHARES, _kills
from faults.fault import FRESH, STOP, Bounds, Outcome, Sent, judge, outside
from faults.kinds import all_faults
from faults.observer import Senders
from faults.report import MARKS, Report, save
from faults.soak import memory_of, missed_ticks

BOUNDS = Bounds(np.full(2, -1.0), np.full(2, 1.0), np.full(2, 0.5), 0.35)


def sent(*pairs: tuple[float, float]) -> list[Sent]:
    """Commands of (time, value of both joints)."""
    return [Sent(at_s, np.full(2, value), value == 0) for at_s, value in pairs]


def every(begin_s: float, end_s: float, value: float) -> list[Sent]:
    """One command each twentieth of a second."""
    return sent(*((t, value) for t in np.arange(begin_s, end_s, 0.05)))


def test_a_stop_in_time_is_well():
    commands = every(9.5, 10.3, 0.3) + every(10.3, 11.0, 0.0)
    stopped_s, held, problems = judge(commands, 10.0, 11.0, STOP, BOUNDS)
    assert stopped_s == pytest.approx(0.3)
    assert held < 0.06
    assert problems == []


def test_what_was_safe_already_stays_so():
    commands = every(9.0, 9.9, 0.0)
    assert judge(commands, 10.0, 12.0, STOP, BOUNDS) == (0.0, 0.0, [])


def test_no_leap_is_seen_where_a_command_between_did_not_come():
    first, second = sent((9.95, -0.3), (10.0, 0.3))
    assert outside([first, second], BOUNDS)
    assert not outside([first, replace(second, gap=True)], BOUNDS)


def test_a_command_that_did_not_come_is_known_by_the_numbers_of_its_sender():
    senders = Senders()
    # Two senders speak by turns, then one of them loses number 4, and a third begins.
    assert not any(map(senders.gap, (1, 2, 1, 3, 2, 3)))
    assert senders.gap(5)
    assert not any(map(senders.gap, (4, 6, 1, 5, 2)))


@pytest.mark.parametrize(
    ("commands", "expect", "problem"),
    [
        (every(9.5, 11.0, 0.3), STOP, "no safe command"),
        (every(9.5, 10.5, 0.3) + every(10.5, 11.0, 0.0), STOP, "came after"),
        (every(9.5, 10.2, 0.3) + sent((10.2, 0.0), (10.9, 0.1)), STOP, "moved the robot later"),
        (sent((9.95, 0.3)), FRESH, "last word"),
        (sent((9.95, 0.3), (10.8, 0.3)), FRESH, "last word"),
        (sent((9.95, 0.3), (10.0, np.nan)), FRESH, "a command of"),
        (sent((9.95, 0.9), (10.0, 1.1)) + every(10.05, 11, 0.0), FRESH, "outside of the bounds"),
        (sent((9.95, -0.3), (10.0, 0.3)) + every(10.05, 11, 0.0), FRESH, "a leap"),
    ],
)
def test_each_kind_of_failure_is_seen(commands, expect, problem):
    problems = judge(commands, 10.0, 11.0, expect, BOUNDS)[2]
    assert any(problem in text for text in problems), problems


def test_the_safe_command_may_leap():
    assert outside(every(9.9, 10.0, 0.9) + every(10.0, 10.1, 0.0), BOUNDS) == []


def test_at_least_sixty_kinds_with_names_of_their_own():
    faults = all_faults()
    names = [fault.name for fault in faults]
    assert len(set(names)) == len(names) >= 60
    assert {fault.subject for fault in faults} >= {
        *("clock", "camera", "joints", "planner", "controller", "recorder"),
        *("goals", "lifecycle", "checkpoint", "network", "disk"),
    }
    assert all(fault.does and set(fault.stages) <= set(SHARES) for fault in faults)


def test_every_kind_is_drawn_and_the_seed_decides_the_order():
    faults = all_faults()
    drawn = schedule(faults, 1000, seed=3)
    assert len(drawn) == 1000 and set(drawn) == set(faults)
    assert drawn == schedule(faults, 1000, seed=3) != schedule(faults, 1000, seed=4)


def test_a_thousand_injections_are_shared_among_all_graphs():
    assert sum(SHARES.values()) == pytest.approx(1)
    assert sorted(kind for lane in LANES for kind in lane) == sorted(SHARES)


def test_each_process_is_killed_as_often():
    parts = [part for lane in _kills(7) for part in lane]
    assert {part.only.partition(":")[0] for part in parts} >= {
        *("camera", "planner", "controller", "recorder"),
    }
    assert {part.count for part in parts} == {7} and {part.per_episode for part in parts} == {1}


def test_texts_choose_faults():
    assert chosen("", "camera: silence") and chosen("black|silence", "camera: silence")
    assert not chosen("black|white", "camera: silence")


def outcome(**values) -> dict:
    made = Outcome("camera: silence", "camera", "stand-in", 1, 5, 2.0, 0.35, STOP, 0.3, 0.05, 0.2)
    return asdict(made) | values


def test_the_report_tells_failures_and_writes_its_table(tmp_path, capsys):
    report = Report(seed=5)
    report.take("stand-in", {"skipped": {"network": "needs root"}})
    report.take("stand-in", {"outcome": outcome()})
    assert not report.problems
    report.take("stand-in", {"outcome": outcome(problems=["no safe command within 2 s"])})
    report.take("stand-in", {"bags": {"complete": 3, "lost": []}})
    assert report.problems
    told = capsys.readouterr().out
    assert "FAILED" in told and "seed 5" in told and "left out: network: needs root" in told
    page = tmp_path / "page.md"
    begin, end = (mark.format(name="campaign") for mark in MARKS)
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    for _ in range(2):  # the marks stay
        save(report.table(), page, "campaign")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| camera: silence | stand-in | 2 | 1 | 0.30 of 0.35 | 0.2 |" in text
    assert "2 injections of 1 kinds, 1 not as they must be, 3 complete episodes, 0 lost" in text
    with pytest.raises(ValueError, match="are missing"):
        save("text", page, "kills")


def test_memory_and_ticks():
    times_s = [10.0 * i for i in range(100)]
    flat = memory_of(times_s, [200.0 if i < 10 else 250.0 for i in range(100)])
    assert flat.growth == pytest.approx(0)
    growing = memory_of(times_s, [100.0 + 0.1 * i for i in range(100)])
    assert growing.growth == pytest.approx(7.9)
    assert missed_ticks([0.0, 0.1, 0.21, 0.3], 0.1) == 0
    assert missed_ticks([0.0, 0.1, 0.3, 0.7], 0.1) == 4


class Pipe:
    """Packets through one direction of the cable, by a clock that is moved by hand."""

    def __init__(self, tmp_path, **quality) -> None:
        self.file = (tmp_path / "packets").open("wb")
        self.direction = Direction(self.file.fileno(), random.Random(1))
        self.direction.quality = Quality(**quality)

    def send(self, count: int, at_s: float = 0.0) -> None:
        for _ in range(count):
            self.direction.take(b"0123456789", at_s)

    def came(self, at_s: float) -> int:
        """Packets that have come out by then."""
        self.direction.give(at_s)
        return self.file.seek(0, 2) // 10


@pytest.mark.parametrize(
    ("quality", "at_s", "least", "most"),
    [
        ({}, 0.0, 100, 100),
        ({"loss": 1.0}, 9.0, 0, 0),
        ({"loss": 0.5}, 9.0, 30, 70),
        ({"twice": 1.0}, 9.0, 200, 200),
        ({"delay_s": 1.0}, 0.9, 0, 0),
        ({"delay_s": 1.0}, 1.0, 100, 100),
        ({"jitter_s": 1.0}, 0.5, 30, 70),
        ({"bytes_per_s": 100.0}, 0.55, 5, 5),
        ({"bytes_per_s": 100.0}, 9.0, 11, 12),  # what would wait longer than a second is lost
    ],
)
def test_the_cable_does_what_it_is_told(tmp_path, quality, at_s, least, most):
    pipe = Pipe(tmp_path, **quality)
    pipe.send(100)
    assert least <= pipe.came(at_s) <= most


def test_damage_changes_one_byte(tmp_path):
    pipe = Pipe(tmp_path, damaged=1.0)
    pipe.send(1)
    pipe.came(0.0)
    got = (tmp_path / "packets").read_bytes()
    pipe.file.flush()
    assert sum(a != b for a, b in zip(got, b"0123456789", strict=True)) == 1
