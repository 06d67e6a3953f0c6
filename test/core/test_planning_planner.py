"""The planner on a model that is exact: plans have known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wm_planner.errors import ConfigError, PlanningError
from wm_planner.models.world_model import Latent
from wm_planner.planning import SOLVERS, Planner, PlannerConfig, Session, planner_config
from wm_planner.planning.expected import ExpectedSeconds
from wm_planner.planning.objective import frame_weights, goal_cost

from .dot_world import FIELD, dot_bundle, goal, observation

DT_NS = 100_000_000
START, TARGET = (10.0, 20.0), (50.0, 30.0)


def make(goal_at=TARGET, action: dict | None = None, **settings) -> Session:
    session = Session(
        Planner(dot_bundle(action=action), PlannerConfig(objective="last", **settings))
    )
    session.set_goal(goal(goal_at))
    return session


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_every_solver_plans_to_the_goal_in_physical_units(solver: str) -> None:
    session = make(solver=solver, temperature=1e-3, init_std=1.0 if solver != "mppi" else 0.5)
    plan = session.plan(observation(START, 7))
    assert plan.stamp_ns == 7 and plan.dt_ns == DT_NS
    assert plan.actions.shape == (25, 2) and plan.actions.dtype == np.float32
    assert np.abs(plan.actions).max() <= 1.0
    end = np.add(START, 2.0 * plan.actions.sum(axis=0))
    assert np.linalg.norm(end - TARGET) < 3.0, end
    assert plan.cost < 0.05 * session.last.initial_costs[0]


def test_out_of_reach_the_bounds_hold_exactly() -> None:
    plan = make((64.0, 20.0), horizon=1).plan(observation((0.0, 20.0)))
    np.testing.assert_array_equal(plan.actions[:, 0], np.ones(5, np.float32))


def test_bounds_can_be_switched_off() -> None:
    plan = make((64.0, 20.0), horizon=1, bounded=False).plan(observation((0.0, 20.0)))
    assert plan.actions.max() > 2.0


RATE = {"max_rate": (2.0, 0.0)}  # 0.2 per control period along x; no limit along y
QUICK = {"num_iterations": 60, "num_samples": 200, "num_elites": 20, "temperature": 1e-4}


def assert_rates(rows: np.ndarray, previous, step=(0.2, np.inf)) -> None:
    """Exactly, also after rounding to float32."""
    changes = np.abs(np.diff(np.vstack([[previous], rows]).astype(np.float64), axis=0))
    assert (changes <= step).all(), changes.max(axis=0)
    assert np.abs(rows).max() <= 1.0


# How far from the best plan samples may leave an entry that hardly changes the cost.
SPREAD = {"cem": 0.1, "icem": 0.15}


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_every_solver_keeps_the_rates_exactly_and_makes_the_best_of_them(solver: str) -> None:
    """The goal is out of reach along x: the best plan speeds up from rest as fast as it may."""
    session = make((64.0, 26.0), RATE, solver=solver, horizon=1, **QUICK)
    plan = session.plan(observation((20.0, 20.0)))
    assert_rates(plan.actions, (0.0, 0.0))
    best = [0.2, 0.4, 0.6, 0.8, 1.0]
    np.testing.assert_allclose(plan.actions[:, 0], best, atol=SPREAD.get(solver, 0.02))
    assert 2 * plan.actions[:, 1].sum() == pytest.approx(6.0, abs=0.5)


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_the_next_plan_goes_on_at_the_rate_from_the_row_that_was_executed(solver: str) -> None:
    session = make((64.0, 20.0), RATE, solver=solver, **{**QUICK, "num_iterations": 15})
    first = session.plan(observation((5.0, 20.0)))
    session._goal = session.planner.bundle.encode_goal(goal((0.0, 20.0)))  # back again
    second = session.plan(observation((6.0, 20.0), 3 * DT_NS))
    assert_rates(first.actions, (0.0, 0.0))
    assert_rates(second.actions, first.actions[2])
    again = session.plan(observation((6.0, 20.0), 3 * DT_NS))
    assert_rates(again.actions, first.actions[2])
    assert first.actions[2, 0] > 0.25 > second.actions[:, 0].min()


def test_what_was_sent_counts_more_than_what_was_planned() -> None:
    session = make((0.0, 20.0), RATE, rollout="history")
    one = observation((30.0, 20.0))
    sent = np.full((1, 10), 0.9, np.float32)
    seen = type(one)(np.repeat(one.images, 2, 0), np.repeat(one.proprio, 2, 0), 0, sent)
    plan = session.plan(seen)
    assert_rates(plan.actions, sent[0, -2:])
    np.testing.assert_allclose(plan.actions[:6, 0], [0.7, 0.5, 0.3, 0.1, -0.1, -0.3], atol=0.1)


def test_rates_begin_at_the_last_row_that_is_committed() -> None:
    session = make((64.0, 20.0), RATE, num_iterations=60)
    first = session.plan(observation((5.0, 20.0)))
    session._goal = session.planner.bundle.encode_goal(goal((0.0, 20.0)))
    second = session.plan(observation((6.0, 20.0), 2 * DT_NS), num_committed=4)
    np.testing.assert_allclose(second.actions[:4], first.actions[2:6], atol=1e-6)
    assert_rates(second.actions[4:], second.actions[3])
    assert second.actions[5, 0] < first.actions[7, 0] - 0.2


def test_without_bounds_there_are_no_rates_either() -> None:
    plan = make((64.0, 20.0), RATE, horizon=1, bounded=False).plan(observation((0.0, 20.0)))
    assert plan.actions[:, 0].max() > 2.0


@pytest.mark.parametrize("execution", ["auto", "plain"])
def test_a_batch_keeps_each_problems_own_rates(execution: str) -> None:
    session = make(TARGET, RATE, execution=execution, num_iterations=20)
    starts, before = [(10.0, 20.0), (60.0, 60.0)], np.array([[-1.0, 0.0], [0.5, 0.3]])
    latents = [session.planner.bundle.encode_observation(observation(s)) for s in starts]
    now = Latent(*(torch.cat([getattr(x, n) for x in latents]) for n in ("visual", "proprio")))
    aim = session.planner.bundle.encode_goal(goal(TARGET))
    both = Latent(aim.visual.repeat(2, 1, 1, 1), aim.proprio.repeat(2, 1, 1))
    result = session.planner.plan_latents(
        now, both, None, 0, session.planner.generator(), previous=before
    )
    rows = session.planner.raw_actions(result.actions, result.bounds).numpy()
    for own, previous in zip(rows, before, strict=True):
        assert_rates(own, previous)
    assert rows[0, 0, 0] == pytest.approx(-0.8, abs=1e-3)


POSITION = {
    "kind": "position",
    "names": ("slide_x", "slide_y"),
    "low": (0.0, 0.0),
    "high": (60.0, 60.0),
    "max_rate": (20.0, 20.0),
}


def test_a_robot_that_takes_positions_rests_where_it_is() -> None:
    session = make(action=POSITION, init="zero")
    rest = session.planner.rest.at(np.float32([[12.0, 70.0], [3.0, -1.0]]))
    np.testing.assert_array_equal(rest, np.float32([[12.0, 60.0], [3.0, 0.0]]))
    points = session.planner._starts.draw(
        session.planner._normalise(rest), None, session.planner.generator()
    )
    rows = session.planner.raw_actions(points[:, 0]).numpy()
    np.testing.assert_allclose(rows, np.repeat(rest[:, None], 25, axis=1), atol=1e-4)
    plan = session.plan(observation((12.0, 20.0)), num_committed=3)
    np.testing.assert_allclose(plan.actions[:3], [(12.0, 20.0)] * 3, atol=1e-4)
    changes = np.abs(np.diff(plan.actions.astype(np.float64), axis=0)).max()
    assert 1.0 < changes <= 2.0
    # A plan that is over has brought the robot to its last position.
    shifted = session.planner.raw_actions(session.planner.shift(session.last.actions, 20))[
        0
    ].numpy()
    np.testing.assert_allclose(shifted[5:], plan.actions[[24] * 20], atol=1e-4)
    with pytest.raises(ValueError, match="give rest"):
        latent = session.last.observation.now
        session.planner.plan_latents(latent, latent, None, 0, session.planner.generator())


@pytest.mark.parametrize("kind", ["velocity", "effort", "position_delta"])
def test_zero_is_rest_or_the_bound_that_is_nearest(kind: str) -> None:
    session = make(action={"kind": kind, "low": (0.25, -1.0)}, init="zero", num_iterations=1)
    plan = session.plan(observation(START), num_committed=25)
    np.testing.assert_allclose(plan.actions, [(0.25, 0.0)] * 25, atol=1e-6)


def test_a_position_that_nobody_measures_is_named() -> None:
    with pytest.raises(ConfigError, match="lacks 'lift/position'.*takes|rests where"):
        make(action={**POSITION, "names": ("slide_x", "lift")})


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_the_same_calls_give_the_same_bits(solver: str) -> None:
    session = make(solver=solver, num_iterations=4, num_samples=20, num_elites=5)

    def calls() -> list[np.ndarray]:
        session.set_goal(goal(TARGET))
        return [session.plan(observation(START, i * 5 * DT_NS)).actions for i in range(3)]

    for one, two in zip(calls(), calls(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_seed_decides_the_starting_point() -> None:
    plans = [make(seed=seed, num_iterations=1).plan(observation(START)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(plans[0].actions, plans[1].actions)
    assert not np.array_equal(plans[0].actions, plans[2].actions)


@pytest.mark.parametrize("passed", [0, 1, 5, 13, 24])
def test_a_warm_start_is_the_last_plan_shifted_by_the_raw_steps_that_passed(passed: int) -> None:
    session = make(action_noise_std=0.0)
    first = session.plan(observation(START))
    warm = session._warm_start(passed * DT_NS + DT_NS // 3)
    rows = session.planner.raw_actions(warm)[0].numpy()
    np.testing.assert_allclose(rows[: 25 - passed], first.actions[passed:], atol=1e-6)
    np.testing.assert_allclose(rows[25 - passed :], 0.0, atol=1e-6)
    session.plan(observation(START, passed * DT_NS))
    expected = np.add(START, 2.0 * first.actions[passed:].sum(axis=0)) - TARGET
    cost = np.square(expected * 2 / FIELD).mean() * 2  # image and proprioception
    assert session.last.initial_costs[0] == pytest.approx(cost, rel=0.2, abs=2e-4)


@pytest.mark.parametrize("stamp", [-DT_NS, 25 * DT_NS, 10**12])
def test_a_plan_that_is_over_or_of_the_future_starts_nothing(stamp: int) -> None:
    session = make()
    session.plan(observation(START))
    assert session._warm_start(stamp) is None


def test_no_warm_start_when_switched_off_or_after_a_new_goal() -> None:
    session = make(warm_start=False)
    session.plan(observation(START))
    assert session._warm_start(DT_NS) is None
    session = make()
    session.plan(observation(START))
    session.set_goal(goal(START))
    assert session._warm_start(DT_NS) is None


@pytest.mark.parametrize("execution", ["auto", "plain"])
def test_committed_actions_are_rest_and_then_the_last_plan(execution: str) -> None:
    session = make(execution=execution)
    first = session.plan(observation(START), num_committed=3)
    np.testing.assert_allclose(first.actions[:3], 0, atol=1e-6)
    assert np.abs(first.actions[3:5]).max() > 0.1
    session._goal = session.planner.bundle.encode_goal(
        goal((10.0, 60.0))
    )  # everything else changes
    second = session.plan(observation(START, 5 * DT_NS), num_committed=7)
    np.testing.assert_allclose(second.actions[:7], first.actions[5:12], atol=1e-6)
    assert np.abs(second.actions[7:10] - first.actions[12:15]).max() > 0.1
    # A planner that is slower than its horizon can only go on.
    third = session.plan(observation(START, 10 * DT_NS), num_committed=99)
    np.testing.assert_allclose(third.actions[:20], second.actions[5:], atol=1e-6)


def test_the_expected_time_is_that_of_its_kind_and_passes_over_a_stall() -> None:
    expected = ExpectedSeconds()
    assert expected.num_due(False, 0.1) == 0
    expected.add(False, 0.31)
    assert (expected.num_due(False, 0.1), expected.num_due(True, 0.1)) == (4, 4)
    for seconds in (7.0, 0.25, 0.1, 0.1, 0.1):  # one stall
        expected.add(True, seconds)
    assert expected.num_due(True, 0.1) == 3
    expected.add(True, 0.1)
    expected.add(True, 0.1)  # the slow ones are forgotten
    assert expected.num_due(True, 0.1) == 1
    assert expected.num_due(True, 0.1, age_s=0.12) == 3
    assert expected.num_due(True, 0.1, age_s=-5.0) == 0  # a clock that is ahead
    expected.clear()
    assert expected.num_due(True, 0.1) == 0


def test_warm_iterations_apply_to_warm_starts_only() -> None:
    session = make(num_iterations=7, warm_iterations=2)
    counts = []
    for stamp in (0, 5 * DT_NS):
        session.plan(observation(START, stamp))
        counts.append(session.last.num_evaluations)
    assert counts == [8, 3]


@pytest.mark.parametrize("solver", ["cem", "icem", "mppi", "gradient-cem"])
def test_warm_samples_apply_to_warm_starts_only(solver: str) -> None:
    own = {"shrink": 1.0, "kept_share": 0.0} if solver == "icem" else {}
    settings = {"num_samples": 40, "num_elites": 10, "num_iterations": 6, "solver_settings": own}
    session = make(solver=solver, warm_samples=8, warm_init_std=1e-6, warm_iterations=3, **settings)
    plans = [session.plan(observation(START, stamp)) for stamp in (0, 5 * DT_NS)]
    rounds = 2 if solver == "gradient-cem" else 1
    assert session.last.num_evaluations == 2 + rounds * 3 * 8
    if solver != "gradient-cem":  # whose samples leave their place by gradients
        end = np.zeros((5, 2))
        np.testing.assert_allclose(
            plans[1].actions, np.vstack([plans[0].actions[5:], end]), atol=1e-4
        )


def test_elites_of_a_warm_start_keep_their_share_and_fit_the_samples() -> None:
    config = PlannerConfig(solver="cem", num_samples=300, num_elites=30, warm_samples=32)
    assert config.when_warm().make_solver().num_elites == 3
    assert PlannerConfig(warm_samples=2).when_warm().num_elites == 2
    with pytest.raises(ConfigError, match="with a warm start, num_elites 9 exceeds num_samples 8"):
        planner_config({"solver": "cem"}, ["warm_samples=8", "warm_elites=9"])
    with pytest.raises(ConfigError, match="warm_samples must be at least 2, got 1"):
        planner_config({}, ["warm_samples=1"])


def test_without_proprioception_only_the_images_count() -> None:
    session = make(action_noise_std=0.0)
    session.set_goal(goal(TARGET, proprio=False))
    plan = session.plan(observation(START))
    imagined = session.imagine()
    aim = session.planner.bundle.encode_goal(goal(TARGET))
    visual = goal_cost(imagined, aim, "last", 1.0, 0.0)
    assert plan.cost == pytest.approx(visual.item(), abs=1e-7)
    session.set_goal(goal(TARGET))
    plan = session.plan(observation(START))
    both = goal_cost(session.imagine(), aim, "last", 1.0, 1.0)
    assert plan.cost == pytest.approx(both.item(), abs=1e-7)


def test_planning_needs_a_goal() -> None:
    session = make()
    session.clear()
    with pytest.raises(PlanningError, match="no goal"):
        session.plan(observation(START))
    with pytest.raises(PlanningError, match="no plan"):
        session.imagine()


def test_a_batch_plans_each_problem_as_alone() -> None:
    session = make(num_restarts=3, num_iterations=10)
    starts = [(10.0, 20.0), (30.0, 5.0), (60.0, 60.0)]
    latents = [session.planner.bundle.encode_observation(observation(s)) for s in starts]
    aims = [session.planner.bundle.encode_goal(goal(s[::-1])) for s in starts]
    stack = lambda ls: Latent(  # noqa: E731
        torch.cat([x.visual for x in ls]), torch.cat([x.proprio for x in ls])
    )
    joint = session.planner.plan_latents(
        stack(latents), stack(aims), None, 0, session.planner.generator()
    )
    for index, (now, aim) in enumerate(zip(latents, aims, strict=True)):
        alone = session.planner.plan_latents(now, aim, None, 0, session.planner.generator())
        torch.testing.assert_close(joint.actions[[index]], alone.actions, rtol=1e-4, atol=1e-4)


def test_starting_points_hold_their_action_for_a_model_step() -> None:
    session = make(init="zero", num_restarts=4)
    points = session.planner._starts.draw(
        session.planner._normalise(np.zeros((2, 2))), None, session.planner.generator()
    )
    assert points.shape == (2, 4, 5, 10)
    raw = session.planner.raw_actions(points[0]).unflatten(1, (5, 5))
    # Above rounding: the standardisation is undone in float32.
    torch.testing.assert_close(raw[:, :, :1].expand_as(raw), raw, rtol=0, atol=1e-6)
    assert not raw[0].abs().max() > 1e-6 and raw[1:].std() > 0.1


def test_starting_points_of_a_great_exponent_hold_on_to_their_directions() -> None:
    rest = torch.zeros(1, 10)
    steps = {}
    for exponent in (0.0, 2.0):
        starts = make(init="zero", num_restarts=400, horizon=8, restart_exponent=exponent)
        generator = torch.Generator().manual_seed(0)
        points = starts.planner._starts.draw(rest, None, generator)[0, 1:, :, :2]
        assert points.std() == pytest.approx(1.0, abs=0.1)
        steps[exponent] = (points[:, 1:] * points[:, :-1]).mean()
    assert abs(steps[0.0]) < 0.1 and steps[2.0] > 0.5


@pytest.mark.parametrize("warm", [False, True])
def test_screening_descends_from_the_first_and_the_best_candidates(warm: bool) -> None:
    settings = {"init": "zero", "num_iterations": 1, "action_noise_std": 0.0, "num_restarts": 3}
    few, many = make(**settings), make(**settings, num_candidates=200)
    costs = []
    for session in (few, many):
        plans = [session.plan(observation(START))]
        if warm:
            plans.append(session.plan(observation(START, 5 * DT_NS)))
        costs.append(plans[-1].cost)
    assert few.last.num_evaluations == 3 * 2 and many.last.num_evaluations == 3 * 2 + 200
    assert costs[1] < costs[0]


@pytest.mark.parametrize(("candidates", "rollouts"), [(1, 1 * 2), (2, 2 * 2), (5, 3 * 2 + 5)])
def test_a_warm_start_takes_its_own_number_of_candidates(candidates: int, rollouts: int) -> None:
    settings = {"num_iterations": 1, "num_restarts": 3, "num_candidates": 20}
    session = make(init="zero", warm_candidates=candidates, **settings)
    session.plan(observation(START))
    assert session.last.num_evaluations == 3 * 2 + 20
    session.plan(observation(START, 5 * DT_NS))
    assert session.last.num_evaluations == rollouts


def test_screening_keeps_the_start_and_passes_over_what_is_not_finite() -> None:
    session = make(init="zero", num_restarts=3, num_candidates=5)
    costs = torch.tensor([[9.0, 1.0, torch.nan, 3.0, 2.0], [1.0, torch.inf, 5.0, 4.0, 3.0]])
    points = torch.arange(5.0)[None, :, None, None].expand(2, 5, 5, 10) / 10
    chosen, num_rollouts = session.planner._starts.keep_best(lambda actions: costs, points, False)
    chosen = chosen[:, :, 0, 0] * 10
    assert num_rollouts == 5
    torch.testing.assert_close(chosen, torch.tensor([[0.0, 1.0, 4.0], [0.0, 4.0, 3.0]]))


def test_screening_rolls_out_only_so_many_at_a_time() -> None:
    """25 problems of 256 candidates: 6400 at once would take gigabytes, for the same choice."""
    session, seen = make(init="zero", num_restarts=3, num_candidates=256), []
    points = torch.rand(25, 256, 5, 10, generator=torch.Generator().manual_seed(0))

    def cost_fn(actions):
        seen.append(actions.shape[0] * actions.shape[1])
        return actions.square().sum((2, 3))

    chosen, num_rollouts = session.planner._starts.keep_best(cost_fn, points, False)
    assert max(seen) <= 512 and sum(seen) == 25 * 256 and num_rollouts == 256
    order = points[:, 1:].square().sum((2, 3)).argsort(dim=1)[:, :2] + 1
    torch.testing.assert_close(chosen[:, 1:], points[torch.arange(25)[:, None], order])


@pytest.mark.parametrize(("rollout", "frames"), [("markov", {1}), ("history", {2})])
def test_history_rollouts_see_the_past(rollout: str, frames: set[int]) -> None:
    session = make(rollout=rollout, num_iterations=2)
    one = observation(START)
    past = type(one)(
        np.repeat(one.images, 2, 0), np.repeat(one.proprio, 2, 0), 0, np.zeros((1, 10), np.float32)
    )
    session.plan(past)
    model = session.planner.bundle.model
    assert model.modes == {rollout} and model.frames == frames
    session.imagine()
    assert model.modes == {rollout}


def test_objective_weights_and_stages() -> None:
    """By hand: H = 2, squared errors 4, 1, 9 of the image and 1, 0, 2 of proprioception."""
    visual = torch.tensor([2.0, 1.0, 3.0]).reshape(1, 3, 1, 1)
    proprio = torch.tensor([1.0, 0.0, 2.0]).sqrt().reshape(1, 3, 1)
    imagined = Latent(visual, proprio)
    aim = Latent(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1))
    weights = np.array([4, 2, 1]) / 7 / 3
    every = {
        alpha: (weights * (np.array([4, 1, 9]) + alpha * np.array([1, 0, 2]))).sum()
        for alpha in (0.0, 0.5)
    }
    for alpha in (0.0, 0.5):
        cost = lambda mode, step=0, a=alpha: goal_cost(  # noqa: E731
            imagined, aim, mode, 0.5, a, step
        ).item()
        assert cost("last") == pytest.approx(9 + 2 * alpha)
        assert cost("all") == pytest.approx(every[alpha])
        assert [cost("staged", i) for i in (0, 1)] == [cost("last")] * 2
        assert cost("staged", 2) == cost("all")
    visual[0, 1] = torch.inf  # on the way, not at the end
    assert goal_cost(imagined, aim, "last", 0.5, 0.0).item() == pytest.approx(9)


def test_stages_go_by_model_steps_not_by_replans(monkeypatch) -> None:
    """Five steps of the first stage: also where replans are rarer, late, or of another goal."""
    asked = []
    monkeypatch.setattr(
        "wm_planner.planning.planner.frame_weights",
        lambda mode, base, horizon, step: asked.append(step) or frame_weights("last", 1.0, horizon),
    )
    session = make(num_iterations=1, replan_steps=2)
    step_ns = 5 * DT_NS
    for steps in (0, 2.1, 3.9, 6):
        session.plan(observation(START, 77 + round(steps * step_ns)))
    session.set_goal(goal(TARGET))
    session.plan(observation(START, 77 + 8 * step_ns))
    assert asked == [0, 2, 4, 6, 0]


def test_a_solvers_own_settings_are_a_mapping() -> None:
    with pytest.raises(ConfigError, match="card: cem: expected a mapping, got 3"):
        planner_config({"cem": 3}, (), "card")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["solver=cme"], "unknown solver 'cme'.*Did you mean 'cem'"),
        (["horizon=0"], "horizon must be at least 1, got 0"),
        (["learning_rate=0"], "learning_rate must be positive"),
        (["learning_rate=.inf"], "learning_rate: expected a finite number, got inf"),
        (["init_std=.inf"], "init_std: expected a finite number, got inf"),
        (["objective_base=1e300"], "objective_base must be at most 10, got 1e\\+300"),
        (["temperature=1e300"], "temperature must be at most"),
        (["seed=-1"], "seed must be from 0 to 9223372036854775807, got -1"),
        ([f"seed={2**64}"], "seed must be from 0 to 9223372036854775807, got 1844"),
        (["max_seconds=0"], "max_seconds must be positive, got 0"),
        (["replan_steps=6"], "replan_steps 6 exceeds horizon 5"),
        (["solver=cem", "num_samples=10"], "num_elites 30 exceeds num_samples 10"),
        (["horizn=4"], "unknown key 'horizn'.*Did you mean 'horizon'"),
        (["horizon=many"], "expected a whole number, got 'many'"),
        (["horizon"], "'horizon' is not of the form key=value"),
        (["horizon=[1"], "not valid YAML"),
    ],
)
def test_bad_settings_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planner_config({}, settings, "--set")


def test_settings_of_a_checkpoint_by_solver() -> None:
    base = {"objective": "last", "gbp": {"num_iterations": 40}, "cem": {"num_samples": 64}}
    assert planner_config(base).iterations(False) == 40
    cem = planner_config({**base, "solver": "cem"}, ["num_elites=8"])
    assert (cem.num_samples, cem.num_elites, cem.objective) == (64, 8, "last")
    assert cem.iterations(False) == 30
    assert planner_config(base, ["solver=mppi"]).num_samples == PlannerConfig.num_samples
