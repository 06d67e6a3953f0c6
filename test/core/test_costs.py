"""Terms of the cost beside the goal's distance, on a model that is exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from wm_planner.config import from_dict, to_dict
from wm_planner.errors import ConfigError
from wm_planner.models.world_model import Latent, ModelConfig
from wm_planner.planning import SOLVERS, Planner, PlannerConfig, Session, planner_config
from wm_planner.planning.costs import Effort, KeepOut, Rate, Rollout, Units, make_terms

from .dot_world import dot_bundle, goal, observation

START, TARGET = (10.0, 20.0), (50.0, 20.0)
QUICK = {"num_samples": 200, "num_elites": 20, "init_std": 1.0, "temperature": 1e-4}
AROUND = {"slide_x/position": [25.0, 35.0], "slide_y/position": [10.0, 30.0]}


def make(goal_at=TARGET, action: dict | None = None, **settings) -> Session:
    bundle = dot_bundle(action=action)
    assert bundle.embodiment.proprio == ("slide_x/position", "slide_y/position")
    bundle.model.read_proprio = lambda embedded: embedded  # this world embeds nothing
    session = Session(Planner(bundle, PlannerConfig(objective="last", **settings)))
    session.set_goal(goal(goal_at))
    return session


def path(rows: np.ndarray) -> np.ndarray:
    """(6, 2) where the dot is at each model step."""
    steps = 2.0 * rows.reshape(5, 5, 2).sum(axis=1)
    return np.vstack([START, START + np.cumsum(steps, axis=0)])


def rollout(rows: torch.Tensor, previous=(0.0, 0.0)) -> Rollout:
    """Of physical raw actions (B, N, R, a)."""
    units = Units(dot_bundle())
    preprocess = dot_bundle().preprocess
    actions = preprocess.normalise_actions(rows.unflatten(2, (-1, 5)).flatten(3))
    before = preprocess.normalise_actions(torch.tensor(previous).repeat(5))[:2]
    nothing = Latent(torch.zeros(1), torch.zeros(1))
    return Rollout(nothing, nothing, actions, before.expand(len(rows), 1, 2), units)


def test_effort_and_rate_are_means_of_squares_in_shares_of_the_greatest_action() -> None:
    rows = torch.linspace(-1, 1, 2 * 3 * 5 * 2).reshape(2, 3, 5, 2)
    at = rollout(rows, previous=(0.5, -0.5))
    torch.testing.assert_close(at.raw_actions(), rows, atol=1e-6, rtol=0)
    torch.testing.assert_close(Effort()(at), rows.square().mean(dim=(2, 3)))
    first = torch.tensor([0.5, -0.5]).expand(2, 3, 1, 2)
    changes = torch.diff(torch.cat([first, rows], dim=2), dim=2)
    torch.testing.assert_close(Rate()(at), changes.square().mean(dim=(2, 3)))


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_effort_makes_every_solver_go_less_far(solver: str) -> None:
    settings = {**QUICK, "solver": solver, "horizon": 1}
    far = make(**settings).plan(observation(START)).actions
    near = make(**settings, costs={"effort": 1.0}).plan(observation(START)).actions
    assert np.square(near).mean() < 0.5 * np.square(far).mean()


def test_rate_makes_a_plan_smooth_from_the_action_before() -> None:
    rough = make(num_iterations=60, action_noise_std=0.1).plan(observation(START)).actions
    smooth = make(num_iterations=60, action_noise_std=0.1, costs={"rate": 3.0})
    plan = smooth.plan(observation(START)).actions
    jerk = lambda rows: np.square(np.diff(rows, axis=0, prepend=0)).mean()  # noqa: E731
    assert jerk(plan) < 0.3 * jerk(rough)


@pytest.mark.parametrize("solver", ["gbp", "lbfgs", "cem", "icem", "gradient-cem"])
def test_every_kind_of_solver_keeps_out_of_a_region_on_its_way(solver: str) -> None:
    costs = {"keep_out": {"weight": 3.0, "region": AROUND}}
    settings = {**QUICK, "solver": solver, "num_iterations": 90, "init": "randn"}
    if solver in ("gbp", "lbfgs"):
        settings |= {"num_restarts": 8, "restart_std": 1.0}
    session = make(**settings, costs=costs)
    way = path(session.plan(observation(START)).actions)
    inside = (np.abs(way - [30.0, 20.0]) < [4.9, 9.9]).all(axis=1)
    assert not inside.any(), way
    assert np.linalg.norm(way[-1] - TARGET) < 5.0, way


def test_a_constraint_grows_from_round_to_round() -> None:
    weights, settings = [], {"num_iterations": 7, "penalty_rounds": 3, "penalty_growth": 10.0}
    session = make(**settings, costs={"keep_out": {"weight": 2.0, "region": AROUND}})
    costs = session.planner._costs

    def seen(problem, actions):
        weights.append(problem.extra.penalty)
        return costs(problem, actions)

    session.planner._costs = seen  # type: ignore[method-assign]
    session.plan(observation(START))
    counts = {p: weights.count(p) for p in (0.01, 0.1, 1.0)}
    assert counts == {0.01: 3, 0.1: 3, 1.0: 4}  # 2, 2 and 3 steps, and one more look in each
    assert weights == sorted(weights)
    assert len(session.last.costs) == 1 and session.last.num_evaluations == len(weights)


def test_the_depth_in_a_region_is_a_share_of_half_its_width() -> None:
    units = Units(make().planner.bundle)
    at = lambda x, y: torch.tensor([[[[0.0, 0.0], [x, y]]]])  # noqa: E731
    nothing = Latent(torch.zeros(1), torch.zeros(1))

    def cost(x: float, y: float, region: dict) -> float:
        standard = (at(x, y) - 32.5) / 32.5
        imagined = Latent(torch.zeros(1), standard)
        term = KeepOut(1.0, region)
        term.check(units)
        return float(term(Rollout(imagined, nothing, torch.zeros(1), torch.zeros(1), units)))

    assert cost(30.0, 20.0, AROUND) == pytest.approx(1.0)  # in the middle
    assert cost(27.5, 20.0, AROUND) == pytest.approx(0.25)  # half way to a side
    assert cost(30.0, 9.0, AROUND) == 0.0
    half = {"slide_x/position": [None, 16.25]}  # the standard deviation is 32.5
    assert cost(0.0, 50.0, half) == pytest.approx(0.25)
    assert cost(17.0, 50.0, half) == 0.0


def test_without_the_goal_only_the_others_count() -> None:
    session = make(num_iterations=60, costs={"goal": 0, "effort": 1.0}, action_noise_std=0.0)
    assert np.abs(session.plan(observation(START)).actions).max() < 0.05


def test_no_terms_cost_no_more_than_the_distance_alone() -> None:
    plain, weighed = make(num_iterations=5), make(num_iterations=5, costs={"goal": 1})
    one, two = (session.plan(observation(START)) for session in (plain, weighed))
    np.testing.assert_array_equal(one.actions, two.actions)
    assert one.cost == two.cost and weighed.planner._extra(torch.zeros(1, 10), None) is None


@pytest.mark.parametrize(
    ("costs", "text"),
    [
        ("{efort: 1}", "unknown cost 'efort'. Did you mean 'effort'"),
        ("{effort: 0}", "costs: effort: weight must be positive, got 0"),
        ("{effort: -.inf}", "weight: expected a finite number, got -inf"),
        ("{effort: much}", "weight: expected a number, got 'much'"),
        ("{goal: -1}", "costs: goal: weight must be at least 0"),
        ("{rate: {wait: 1}}", "costs: rate: unknown key 'wait'. Did you mean 'weight'"),
        ("{keep_out: 3}", "keep_out: region: name an entry"),
        ("{keep_out: {region: {x: 3}}}", r"region: x: expected \[low, high\]"),
        ("{keep_out: {region: {x: [null, null]}}}", "one of them may be null"),
        ("{keep_out: {region: {x: [3, 1]}}}", "low must lie below high"),
        ("{keep_out: {region: {x: [.nan, 1]}}}", "low must lie below high"),
        ("7", "costs: expected a mapping"),
    ],
)
def test_costs_are_checked_when_they_are_read(costs: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        planner_config({}, [f"costs={costs}"])


def test_what_the_robot_or_the_model_lacks_is_said_before_the_first_plan() -> None:
    with pytest.raises(ConfigError, match="unknown entry of proprioception 'z/position'"):
        make(costs={"keep_out": {"region": {"z/position": [0, 1]}}})
    with pytest.raises(ConfigError, match="does not say what proprioception it expects"):
        session = Session(
            Planner(dot_bundle(), PlannerConfig(costs={"keep_out": {"region": AROUND}}))
        )
        session.set_goal(goal(TARGET))
        session.plan(observation(START))


def test_settings_go_to_a_file_and_back_and_can_be_a_key() -> None:
    costs = {"effort": 0.1, "keep_out": {"region": AROUND, "weight": 2.0}}
    config = PlannerConfig(costs=costs, solver="icem", solver_settings={"shrink": 2.0})
    again = from_dict(PlannerConfig, to_dict(config), "file")
    assert again == config and hash(again) == hash(config)
    assert again.make_solver().shrink == 2.0
    with pytest.raises(ConfigError, match="solver_settings: unknown key 'shrnk'. Did you mean"):
        planner_config({"solver": "icem"}, ["solver_settings={shrnk: 2}"])
    with pytest.raises(ConfigError, match="'cem' has none of its own"):
        planner_config({"solver": "cem"}, ["solver_settings={momentum: 2}"])
    for given in ("{action_size: 3}", "{1: 2, shrnk: 3}"):  # the robot's, and keys of two kinds
        with pytest.raises(ConfigError, match="('action_size'|'1', a key, is not text)"):
            planner_config({"solver": "icem"}, [f"solver_settings={given}"])
    mixed = {"keep_out": {"region": {3: [1, 2], "x": [1, 2]}}}
    assert hash(PlannerConfig(costs=mixed)) == hash(PlannerConfig(costs=dict(mixed)))
    assert make_terms(costs)[0] == 1.0 and math.isclose(make_terms(costs)[1][0].weight, 0.1)


def test_a_models_embedding_is_read_back_where_it_can_be() -> None:
    from wm_planner.models.bundle import build_model

    torch.manual_seed(0)
    small = {"image_size": 16, "num_hist": 1, "num_patches": 4, "visual_dim": 8, "action_dim": 4}
    model = build_model(ModelConfig(**small, proprio_dim=3))
    proprio = torch.randn(2, 5, 3)
    torch.testing.assert_close(
        model.read_proprio(model.proprio_encoder(proprio)), proprio, atol=1e-4, rtol=1e-4
    )
