"""What the planner node's worker commits to while the robot goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError
from wm_planner.models.catalog import resolve_checkpoint
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.planning import SOLVERS
from wm_planner.runtime.goal_planner import GoalPlanner, PlanResult
from wm_planner.types import Goal, Observation

MODEL_STEP_NS = 500_000_000
BLACK = np.zeros((64, 64, 3), np.uint8)
GOAL = Goal(BLACK, np.full(2, 40, np.float32))


def make(body: Embodiment | None = None) -> GoalPlanner:
    planner = GoalPlanner("wall-base", body, "gbp", ["num_iterations=2"], imagine=False)
    planner.warm_up(timed=True)
    return planner


def plan(planner: GoalPlanner, step: int, age_s: float | None) -> PlanResult:
    seen = Observation(BLACK[None], np.full((1, 2), 20, np.float32), step * MODEL_STEP_NS)
    return planner(GOAL, seen, age_s=age_s)


def test_a_robot_that_waits_has_nothing_decided() -> None:
    planner = make()
    assert [plan(planner, step, None).num_committed for step in range(2)] == [0, 0]


def test_rest_is_committed_first_then_the_last_plan_and_after_a_gap_rest() -> None:
    planner = make()
    first, second = (plan(planner, step, 0.35) for step in range(2))
    after_gap = plan(planner, 20, 0.35)
    for result in (first, second, after_gap):
        assert 4 <= result.num_committed < 25 == len(result.plan.actions)
    for result in (first, after_gap):
        assert np.abs(result.plan.actions[:4]).max() < 1e-6
    np.testing.assert_allclose(second.plan.actions[:4], first.plan.actions[5:9], atol=1e-6)
    assert first.summary()["num_committed"] == first.num_committed


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_a_robot_that_does_not_wait_gets_its_plan_in_time(solver) -> None:
    """One iteration is always made, by every solver, and gives a plan that can be followed."""
    settings = ["num_iterations=5", "max_seconds=1e-9", "num_samples=8", "num_elites=4"]
    planner = GoalPlanner("wall-base", None, solver, settings, imagine=False)
    waiting, ended = (plan(planner, 0, age_s) for age_s in (None, 0.0))
    assert ended.num_evaluations < waiting.num_evaluations
    assert np.isfinite(ended.plan.actions).all() and np.isfinite(ended.plan.cost)


def test_when_nothing_is_left_to_plan_it_is_said() -> None:
    result = plan(make(), 0, 60.0)
    assert result.num_committed >= 25 and np.abs(result.plan.actions).max() < 1e-6


def test_a_robot_that_takes_positions_is_committed_to_where_it_is(tmp_path) -> None:
    bundle = load_bundle(resolve_checkpoint("wall-base"), "cpu")
    body = bundle.embodiment
    action = replace(body.action, kind="position", low=(0.0, 0.0), high=(64.0, 64.0))
    bundle.embodiment = replace(body, action=action)
    directory = str(save_bundle(bundle, tmp_path / "positions"))
    planner = GoalPlanner(directory, None, "gbp", ["num_iterations=2"], imagine=False)
    planner.warm_up(timed=True)
    result = plan(planner, 0, 0.35)
    assert result.num_committed >= 4
    np.testing.assert_allclose(result.plan.actions[:4], 20.0, atol=1e-4)


def test_a_measured_position_that_is_missing_is_named(tmp_path) -> None:
    bundle = load_bundle(resolve_checkpoint("wall-base"), "cpu")
    body = bundle.embodiment
    names = ("slide_x", "lift")
    bundle.embodiment = replace(body, action=replace(body.action, kind="position", names=names))
    directory = str(save_bundle(bundle, tmp_path / "positions"))
    with pytest.raises(ConfigError, match="proprio of 'wall' lacks 'lift/position'"):
        GoalPlanner(directory, None, "gbp", imagine=False)
