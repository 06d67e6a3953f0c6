"""A full budget removes what tells least, and never the newest success of a goal."""

from __future__ import annotations

import os
from pathlib import Path

from wm_planner.runtime.disk_budget import DiskBudget, note_episode


def bag(root: Path, name: str, age: int, outcome: str = "", goal: str = "a") -> Path:
    path = root / name
    path.mkdir(parents=True)
    (path / "0.mcap").write_bytes(bytes(1000))
    if outcome:
        note_episode(path, outcome, goal)
    for file in path.iterdir():
        os.utime(file, ns=(age, age))
    return path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_the_oldest_of_what_tells_least_goes_first(tmp_path):
    bag(tmp_path, "success of b", 1, "success", "b")
    bag(tmp_path, "old success of a", 2, "success")
    bag(tmp_path, "failure", 3, "failure")
    bag(tmp_path, "nobody said", 4)
    bag(tmp_path, "success of a", 5, "success")
    bag(tmp_path / "dropped", "dropped", 6)
    running = bag(tmp_path, "running", 0)
    order = []
    for most in (6500, 5600, 4900, 4000, 100):
        budget = DiskBudget(tmp_path, most)
        order += names(budget.make_room(running))
    assert order == ["dropped", "failure", "nobody said", "old success of a"]
    assert {p.name for p in tmp_path.iterdir()} == {
        *("success of a", "success of b", "running", "dropped")
    }
    assert "no more can be removed" in budget.warning()


def test_a_warning_comes_before_anything_is_removed(tmp_path):
    for number in range(4):
        bag(tmp_path, str(number), number)
    budget = DiskBudget(tmp_path, 5001)
    assert budget.make_room() == [] and budget.warning() == ""  # 79.98 %
    budget = DiskBudget(tmp_path, 5000)
    assert budget.make_room() == []
    assert "holds 80% of its 5e-06 GB: the oldest episodes are removed" in budget.warning()
    assert DiskBudget(tmp_path, 0).make_room() == []
    assert DiskBudget(tmp_path / "none", 10).make_room() == []
