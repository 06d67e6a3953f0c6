"""The age of the picture behind a command, from what a listener heard."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")

from benchmarks.recording import Heard, ages_ms

MS = 1_000_000


def test_behind_a_command_stands_the_newest_plan_that_came_before_it():
    plans = [Heard(10 * MS, 4 * MS), Heard(30 * MS, 24 * MS)]
    commands = [Heard(at * MS) for at in (5, 12, 29, 31)]
    assert ages_ms([*plans, *commands]) == [8.0, 25.0, 7.0]  # the first stands on no plan
    assert ages_ms([*commands[::-1], *plans[::-1]]) == [8.0, 25.0, 7.0]  # heard out of order
