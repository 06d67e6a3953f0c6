"""The world goes on while the planner thinks, and shows it old frames: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from wm_planner.evaluation.arena import Arena
from wm_planner.evaluation.episode import Loop
from wm_planner.evaluation.target import Targets, sample_targets
from wm_planner.planning import Planner, PlannerConfig

from .dot_world import DotEnv, dot_bundle, picture

FAR = Targets("wall", np.array([[10.0, 10.0]]), np.array([[60.0, 60.0]]))


def planner(**settings) -> Planner:
    settings = {"objective": "last", "num_iterations": 30, "init": "zero", **settings}
    return Planner(dot_bundle(), PlannerConfig(**settings))


def run(loop: Loop, which: Targets = FAR, told=lambda periods: None, **settings):
    made = []

    def make_env(render: bool) -> DotEnv:
        made.append(DotEnv(render))
        return made[-1]

    with Arena(planner(**settings), make_env, len(which), loop) as arena:
        result = arena.run(which, told)
    return result, [np.array(robot.actions) for robot in made[1:]]


def test_no_latency_is_the_limit_of_a_latency() -> None:
    which = sample_targets(DotEnv(), 0, 4)
    waiting, actions = run(Loop(), which)
    ongoing, same = run(Loop(latency=0.0), which)
    assert ongoing.episodes == waiting.episodes
    for one, two in zip(actions, same, strict=True):
        np.testing.assert_array_equal(one, two)


def test_latency_costs_the_time_until_the_first_plan() -> None:
    """0.7 s are seven control periods at rest; 50 px then take 25 periods of full speed."""
    result, (actions,) = run(Loop(latency=0.7))
    assert not actions[:7].any() and np.abs(actions[7:12]).min() > 0.9
    assert result.episodes[0].success and 6 <= result.episodes[0].num_steps <= 8


def test_old_plans_are_executed_until_the_new_one_arrives() -> None:
    """Planning once for the whole episode, 40 periods: the plan makes up for the ten at rest."""
    for latency, periods in ((None, 0), (1.0, 10)):
        loop = Loop("open-loop", latency=latency)
        actions = run(loop, horizon=8, num_iterations=100)[1][0]
        assert not actions[:periods].any() and len(actions) == 40
        np.testing.assert_allclose(10 + 2 * actions.sum(axis=0), 60, atol=2.0)
    # The second plan comes at 10 + 6 periods; those of the first one go on until then.
    first = run(Loop(latency=0.6), num_iterations=1, horizon=6, replan_steps=2)[1][0]
    once = run(Loop("open-loop", latency=0.6), num_iterations=1, horizon=6)[1][0]
    np.testing.assert_array_equal(first[:16], once[:16])
    assert not np.array_equal(first[16:20], once[16:20])


def test_a_planner_that_is_too_slow_never_moves() -> None:
    told = []
    result, (actions,) = run(Loop(latency=60.0), told=told.append)
    assert not actions.any() and len(actions) == 50 == sum(told)
    assert len(result.plan_seconds) == 1 and not result.episodes[0].success


class ServoEnv(DotEnv):
    """A dot that is where it is told to be."""

    def advance(self, action: np.ndarray) -> None:
        self.actions.append(action)
        self._state = np.array(action, dtype=np.float64)


def test_a_robot_that_takes_positions_stays_where_it_is_until_there_is_a_plan() -> None:
    limits = {"low": (0.0, 0.0), "high": (64.0, 64.0), "max_rate": (30.0, 0.0)}
    bundle, made = dot_bundle(action={"kind": "position", **limits}), []

    def make_env(render: bool) -> ServoEnv:
        made.append(ServoEnv(render))
        return made[-1]

    config = PlannerConfig(objective="last", num_iterations=3, init="zero")
    for seconds, wait in ((60.0, 50), (0.7, 7)):
        made.clear()
        with Arena(Planner(bundle, config), make_env, 1, Loop(latency=seconds)) as arena:
            arena.run(FAR)
        actions = np.array(made[1].actions)
        assert len(actions) == 50
        np.testing.assert_allclose(actions[:wait], [(10.0, 10.0)] * wait, atol=1e-4)
    assert np.abs(actions[7:] - 10).max() > 0.1
    # From the last action that was executed on, whichever plan it was of.
    assert np.abs(np.diff(actions[:, 0])).max() <= 3.0 + 1e-5


def test_success_on_the_way_is_seen_and_ends_the_episode() -> None:
    """A plan takes two model steps; the goal is reached, and looked for, after an odd number."""
    near = Targets("wall", np.array([[10.0, 10.0]]), np.array([[25.0, 10.0]]))
    result, (actions,) = run(Loop(latency=1.0), near, warm_start=False)
    assert result.episodes[0].success and result.episodes[0].num_steps == 5
    assert len(actions) == 25


class Stopwatch:
    """A clock that only rollouts move on."""

    def __init__(self, solver: Planner, per_rollout: float) -> None:
        self.now, rollout = 0.0, solver.engine.rollout

        def timed(*args):
            self.now += per_rollout
            return rollout(*args)

        solver.engine.rollout = timed

    def __call__(self) -> float:
        return self.now


def measured(per_rollout: float, mode: str = "mpc", **settings):
    solver = planner(**settings)
    clock = Stopwatch(solver, per_rollout)
    with Arena(solver, DotEnv, 1, Loop(mode, latency="measured"), clock=clock) as arena:
        return arena.run(FAR)


def test_measured_latency_is_that_of_the_clock() -> None:
    for seconds in (0.3, 0.7):
        result = measured(seconds / 3, num_iterations=2, max_seconds=1.0)
        assert result.plan_seconds == pytest.approx([seconds] * len(result.plan_seconds))
        fixed = run(Loop(latency=seconds), num_iterations=2)[0]
        assert result.episodes == fixed.episodes
    with pytest.raises(ValueError, match="needs a batch of 1, got 2"):
        Arena(planner(), DotEnv, 2, Loop(latency="measured"))


def test_a_replan_ends_in_time() -> None:
    """A model step is 0.5 s: eight iterations, whatever the budget, and a look at their end."""
    tick = 1 / 16
    assert set(measured(tick).plan_evaluations) == {9}
    assert set(measured(tick, replan_steps=2).plan_evaluations) == {17}
    assert set(measured(tick, max_seconds=0.25).plan_evaluations) == {5}
    assert measured(tick, "open-loop", horizon=6).plan_evaluations == [31]  # no plan follows
    assert measured(tick, "open-loop", horizon=6, max_seconds=0.25).plan_evaluations == [5]


def test_whole_control_periods_are_not_rounded_up() -> None:
    assert [Loop(latency=s).wait(0.0, 0.1) for s in (0.0, 0.3, 0.7, 0.71)] == [0, 3, 7, 8]
    assert Loop(latency="measured").wait(0.25, 0.1) == 3


@pytest.mark.parametrize("latency", [-0.1, float("nan"), float("inf"), "measurd"])
def test_latencies_that_are_none(latency) -> None:
    with pytest.raises(ValueError, match="latency must be"):
        Loop(latency=latency)


def test_delayed_frames_show_the_past() -> None:
    """The camera draws the goal, the start to warm up, then each frame that is seen."""
    shown = []

    class Camera(DotEnv):
        def render_state(self, state: np.ndarray) -> np.ndarray:
            shown.append(state.copy())
            return picture(state)

    def seen(delay: int, **settings) -> tuple[list[np.ndarray], np.ndarray]:
        shown.clear()
        solver = planner(num_iterations=3, **settings)
        with Arena(solver, Camera, 1, Loop(delayed_frames=delay)) as arena:
            arena.run(FAR)
            return shown[2:], np.array(arena.robots[0].actions)

    frames, actions = seen(2)
    positions = 10.0 + np.cumsum(np.vstack([np.zeros((1, 2)), 2 * actions]), axis=0)[::5]
    for replan, frame in enumerate(frames):
        np.testing.assert_allclose(frame, positions[max(0, replan - 2)])
    # With a history of three frames the newest of them is as old.
    frames, actions = seen(1, rollout="history")
    positions = 10.0 + np.cumsum(np.vstack([np.zeros((1, 2)), 2 * actions]), axis=0)[::5]
    expected = [0, 0, *(0, 1), *(0, 1, 2), *(1, 2, 3)]
    np.testing.assert_allclose(frames[: len(expected)], positions[expected])


def test_a_goal_image_is_all_that_the_planner_is_told() -> None:
    """The picture shows another place than the state: the planner goes where the picture says."""
    which = Targets("wall", FAR.starts, np.array([[60.0, 10.0]]), picture([10, 60])[None])
    result, (actions,) = run(Loop(), which)
    assert not result.episodes[0].success
    assert actions[:20, 1].min() > 0.9 and np.abs(actions[:20, 0]).max() < 0.1
