"""docs/planner-settings.md: one row for every setting of the planner, with its default."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from wm_planner.planning.config import PlannerConfig
from wm_planner.planning.levels import Levels

PAGE = Path(__file__).parents[2] / "docs" / "planner-settings.md"
ROW = re.compile(r"^\| `([\w.]+)` \| `([^`]*)` \| (.+) \| (.+) \|$", re.MULTILINE)


def rows() -> list[tuple[str, str, str, str]]:
    return ROW.findall(PAGE.read_text())


def test_every_setting_has_one_row_and_every_row_a_setting() -> None:
    names = [name for name, *_ in rows()]
    settings = [field.name for field in fields(PlannerConfig)]
    settings += [f"levels.{field.name}" for field in fields(Levels)]
    assert sorted(names) == sorted(settings)


def test_no_row_is_of_another_form() -> None:
    """Such a row would be left out of the comparison above."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(lines) == len(rows())


@pytest.mark.parametrize(("name", "default"), [row[:2] for row in rows()])
def test_defaults_are_those_of_the_code(name: str, default: str) -> None:
    settings = Levels() if name.startswith("levels.") else PlannerConfig()
    value = getattr(settings, name.removeprefix("levels."))
    assert yaml.safe_load(default) == (list(value) if isinstance(value, tuple) else value)
