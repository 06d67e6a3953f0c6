"""Plans over two time scales, on linear models whose best macro-plans are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from wm_planner.config import from_dict
from wm_planner.errors import ConfigError
from wm_planner.models.checkpoint import load_bundle, save_bundle
from wm_planner.models.model import EmbodiedModel
from wm_planner.models.upper import UpperConfig, UpperModel
from wm_planner.models.world_model import Latent
from wm_planner.planning import Planner, PlannerConfig, Session, planner_config
from wm_planner.runtime.goal_planner import GoalPlanner
from wm_planner.types import Goal, Observation

from .dot_world import SCALE, dot_bundle, goal, observation
from .training_world import TINY

START, FAR, NEAR = (10.0, 20.0), (50.0, 30.0), (13.0, 18.0)
REACH = 0.2  # of a macro-action of one, fields' halves: 6.5 pixels
STEPS, MACROS = 2, 3  # model steps of a macro-step, macro-steps of a macro-plan
MODEL_STEP_NS = 500_000_000
PRECISE = {"macro_horizon": MACROS, "num_iterations": 150, "learning_rate": 0.1, "num_restarts": 1}


class DotSteps:
    """A dot that each macro-action moves by `REACH` times itself."""

    device = torch.device("cpu")

    def rollout(self, latent, actions, past_actions=None, mode="markov") -> Latent:
        moved = REACH * actions.cumsum(dim=1)
        moved = torch.cat([torch.zeros_like(moved[:, :1]), moved], dim=1)
        return Latent(latent.visual + moved[:, :, None], latent.proprio + moved)


@dataclass
class DotUpper:
    model = DotSteps()
    steps = STEPS
    macro_dim = 2


def bundle() -> EmbodiedModel:
    made = dot_bundle()
    made.upper = DotUpper()
    return made


def session(**levels) -> Session:
    settings = {"init": "zero", "action_noise_std": 0.0, "objective": "last", "horizon": 2}
    config = PlannerConfig(**settings)
    if levels:
        config = from_dict(PlannerConfig, {**settings, "levels": levels}, "test")
    return Session(Planner(bundle(), config))


def best_macro_plan(distance: np.ndarray, prior_weight: float) -> np.ndarray:
    """(M, 2) by least squares: a mean over two entries, over frames, and of M * 2 squares."""
    frame = REACH * np.sqrt(0.5) / (MACROS + 1) * np.tril(np.ones((MACROS, MACROS)))
    price = np.sqrt(prior_weight / (2 * MACROS)) * np.eye(MACROS)
    target = np.sqrt(0.5) / (MACROS + 1) * np.ones((MACROS, 1)) * distance
    rows = np.concatenate([frame, price])
    return np.linalg.lstsq(rows, np.concatenate([target, np.zeros((MACROS, 2))]), rcond=None)[0]


@pytest.mark.parametrize("prior_weight", [0.01, 0.1])
def test_the_macro_plan_is_the_best_one_and_its_first_frame_the_subgoal(prior_weight):
    planned = session(**PRECISE, prior_weight=prior_weight, max_entry=10.0)
    planned.set_goal(goal(FAR, proprio=False))
    planned.plan(observation(START))
    found, now = planned.last.subgoal, planned.last.observation.now
    distance = (planned._goal.visual - now.visual)[0, 0].numpy()
    expected = best_macro_plan(distance, prior_weight)
    np.testing.assert_allclose(found.macro_actions[0], expected, atol=0.05)
    assert not bool(found.is_near)
    subgoal = now.visual[0, 0, 0] + REACH * torch.tensor(expected[0])
    np.testing.assert_allclose(found.aim.visual[0, 0, 0], subgoal, atol=0.01)


def test_macro_actions_stay_within_their_size():
    planned = session(**PRECISE, max_entry=0.5)
    planned.set_goal(goal((55.0, 65.0)))
    planned.plan(observation(START))
    assert torch.equal(planned.last.subgoal.macro_actions, torch.full((1, MACROS, 2), 0.5))


def test_the_lower_level_plans_towards_the_subgoal():
    """It is five pixels away, and two model steps reach it."""
    planned = session(**PRECISE, max_entry=0.5)
    planned.set_goal(goal((10.0, 60.0), proprio=False))
    plan = planned.plan(observation(START))
    moved = 2 * SCALE * plan.actions.sum(axis=0)
    subgoal = planned.last.subgoal.aim.visual - planned.last.observation.now.visual
    np.testing.assert_allclose(moved, subgoal[0, 0, 0], atol=0.02)
    assert plan.cost < 1e-3


def test_near_the_goal_plans_are_those_of_one_level():
    """To the bit, also beside a robot that is far."""
    both, flat = session(**PRECISE), session()
    for each in (both, flat):
        each.set_goal(goal(NEAR))
        each.plan(observation(START))
    assert bool(both.last.subgoal.is_near)
    np.testing.assert_array_equal(both.last.rows, flat.last.rows)
    assert torch.equal(both.last.subgoal.aim.visual, both._goal.visual)


def test_a_last_plan_that_ends_nearer_than_the_subgoal_is_gone_on_with():
    """Short macro-steps: the goal is two of them away, and the lower level is there before."""
    planned = session(**PRECISE, max_entry=0.8)
    planned.set_goal(goal((18.0, 20.0)))
    planned.plan(observation(START))
    assert not bool(planned.last.subgoal.is_near)
    planned.last = replace(planned.last, actions=session_plan((18.0, 20.0)))
    planned.plan(observation(START, stamp_ns=1))
    assert bool(planned.last.subgoal.is_near)


def session_plan(aim) -> torch.Tensor:
    flat = session()
    flat.set_goal(goal(aim))
    flat.plan(observation(START))
    return flat.last.actions


def test_robots_beside_each_other_have_the_plans_that_they_would_have_alone():
    together = session(**PRECISE)
    starts, aims = (START, (40.0, 50.0)), (FAR, (42.0, 51.0))
    alone = []
    for aim in aims:
        one = session(**PRECISE)
        one.set_goal(goal(aim))
        alone.append(one)
    latents = [one._goal for one in alone]
    visual = torch.cat([latent.visual for latent in latents])
    together.begin(Latent(visual, torch.cat([latent.proprio for latent in latents])))
    seen = [observation(start) for start in starts]
    images, proprio = (np.concatenate([getattr(o, k) for o in seen]) for k in ("images", "proprio"))
    for stamp_ns in (0, MODEL_STEP_NS):
        together.plan_batch(Observation(images, proprio, stamp_ns))
        plans = [
            one.plan_batch(replace(o, stamp_ns=stamp_ns)).rows[0]
            for one, o in zip(alone, seen, strict=True)
        ]
        np.testing.assert_allclose(together.last.rows, np.stack(plans), atol=1e-5)
    assert together.last.subgoal.is_near.tolist() == [False, True]
    together.keep([1])
    again = together.plan_batch(Observation(images[1:], proprio[1:], 2 * MODEL_STEP_NS))
    assert again.subgoal.is_near.tolist() == [True]


def test_a_macro_plan_goes_on_where_time_has_brought_it():
    """Five raw actions of ten are half a macro-step."""
    upper = session(**PRECISE).planner.upper
    macro = torch.tensor([[[0.0, 4.0], [1.0, 2.0], [3.0, 2.0]]])
    later = {n: upper.shift(macro, n)[0].tolist() for n in (0, 5, 10, 15, 40)}
    assert later[0] == macro[0].tolist()
    assert later[5] == [[0.5, 3.0], [2.0, 2.0], [3.0, 2.0]]
    assert later[10] == [[1.0, 2.0], [3.0, 2.0], [3.0, 2.0]]
    assert later[15] == [[2.0, 2.0], [3.0, 2.0], [3.0, 2.0]]
    assert later[40] == [[3.0, 2.0]] * 3


def test_a_robot_arrives_and_the_same_seed_gives_the_same_plans():
    ends, rows = [], []
    for _ in range(2):
        planned = session(macro_horizon=3)
        planned.set_goal(goal(FAR))
        position, near, evaluations = np.array(START), [], []
        for step in range(8):
            plan = planned.plan(observation(position, step * MODEL_STEP_NS))
            position = position + 2 * plan.actions[:5].sum(axis=0)
            near.append(bool(planned.last.subgoal.is_near))
            evaluations.append(planned.last.num_evaluations)
            rows.append(plan.actions)
        assert near[0] is False and near[-1] is True
        assert evaluations[1] < evaluations[0], "a warm start takes fewer iterations"
        ends.append(position)
    np.testing.assert_allclose(ends[0], FAR, atol=1.0)
    np.testing.assert_array_equal(rows[:8], rows[8:])


def test_a_plan_is_ended_when_it_is_told_to():
    planned = session(**PRECISE)
    planned.set_goal(goal(FAR))
    planned.plan(observation(START), should_stop=lambda: True)
    assert planned.last.num_evaluations < 100


def test_what_cannot_be_planned_is_said():
    config = planner_config({}, ["levels={}"])
    with pytest.raises(ConfigError, match="no upper model; make one by 'wm-planner train upper"):
        Planner(dot_bundle(), config)
    assert Planner(bundle(), config).upper is not None
    for text, said in (
        ("levels={macro_horizon: 1}", "macro_horizon must be at least 2, got 1"),
        ("levels={num_iterations: 0}", "levels: num_iterations must be at least 1"),
        ("levels={max_entry: 0}", "max_entry must be positive"),
        ("levels={horizon: 3}", "unknown key 'horizon'"),
        ("levels=3", "levels: expected a mapping"),
    ):
        with pytest.raises(ConfigError, match=said):
            planner_config({}, [text])


def test_the_planner_node_serves_it_and_shows_the_subgoal(tmp_path):
    """The shipped model, with an upper model that nobody has trained."""
    made = load_bundle("wall-base")
    torch.manual_seed(0)
    made.upper = UpperModel(UpperConfig(TINY), made.model)
    directory = str(save_bundle(made, tmp_path / "two"))
    pictures = {}
    for levels in ("null", "{num_iterations: 2}"):
        settings = ["num_iterations=2", f"levels={levels}"]
        planner = GoalPlanner(directory, None, "gbp", settings)
        black = np.zeros((64, 64, 3), np.uint8)
        seen = Observation(black[None], np.full((1, 2), 20, np.float32), 0)
        planner.warm_up()
        result = planner(Goal(black, np.full(2, 40, np.float32)), seen)
        assert np.isfinite(result.plan.actions).all()
        pictures[levels] = result.draw().shape
    assert list(pictures.values()) == [(64, 6 * 64, 3), (64, 7 * 64, 3)]
