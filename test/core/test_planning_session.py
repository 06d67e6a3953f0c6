"""One way through planning: the robot's planner and the evaluation are sessions of one kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco", reason="needs the 'sim' extra")

from wm_planner.evaluation.arena import Arena
from wm_planner.evaluation.episode import EnvMaker, Loop
from wm_planner.evaluation.target import sample_targets
from wm_planner.models.checkpoint import load_bundle
from wm_planner.models.model import EmbodiedModel
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import Latent
from wm_planner.planning import (
    SOLVERS,
    Planner,
    PlannerConfig,
    Session,
    planner_config,
)
from wm_planner.planning.solver import Iteration
from wm_planner.runtime.goal_planner import GoalPlanner
from wm_planner.tasks import get_task
from wm_planner.types import Goal, Observation

from .dot_world import dot_bundle, goal, observation

START, TARGET = (10.0, 20.0), (50.0, 30.0)
SETTINGS = ["num_iterations=6", "warm_iterations=3", "num_samples=16", "num_elites=4"]


def plans_of_eval(task: str, solver: str, targets) -> list[np.ndarray]:
    """Rows of each plan of closed-loop episodes, one episode at a time."""
    bundle, plans = load_bundle(f"{task}-base"), []
    config = planner_config({**bundle.planner, "solver": solver, "seed": 0}, SETTINGS)
    make_env = EnvMaker(task, bundle.embodiment.image_size)
    with Arena(Planner(bundle, config), make_env, 1, Loop("mpc")) as arena:
        plan_batch = arena.session.plan_batch

        def kept(*args, **kwargs):
            planned = plan_batch(*args, **kwargs)
            if arena._warm:
                plans.append(planned.rows[0])
            return planned

        arena.session.plan_batch = kept
        for index in range(len(targets)):
            arena.run(targets.part(slice(index, index + 1)))
            # What warms torch up before the first episode is no plan of it.
            if index == 0:
                first = len(plans)
                arena.run(targets.part(slice(0, 1)))
                plans = plans[first:]
    return plans


def plans_of_the_robot(task: str, solver: str, targets) -> list[np.ndarray]:
    """The same by the planner node's planner, and a robot that waits for each plan."""
    planner = GoalPlanner(f"{task}-base", None, solver, SETTINGS, imagine=False)
    planner.warm_up()
    body, spec = planner.embodiment, get_task(task)
    env, plans = EnvMaker(task, body.image_size)(True), []
    for start, aim in zip(targets.starts, targets.goals, strict=True):
        env.set_state(aim)
        aim = env.get_state()
        picture = Goal(env.render_state(aim), np.float32(env.proprio_of(aim)))
        env.set_state(start)
        for step in range(0, spec.max_model_steps, planner._planner.config.replan_steps):
            state = env.get_state()
            if step and spec.is_success(state, aim):
                break
            image, proprio = env.render_state(state), np.float32(env.proprio_of(state))
            seen = Observation(image[None], proprio[None], 10**18 + step * body.model_dt_ns)
            rows = planner(picture, seen).plan.actions
            plans.append(rows)
            for row in rows[: planner._planner.config.replan_steps * body.frame_skip]:
                env.advance(row)
    env.close()
    return plans


@pytest.mark.parametrize(
    ("task", "solver"),
    [
        ("wall", "gbp"),
        ("wall", "cem"),
        ("point_maze", "gbp"),
        ("pusht", "gbp"),
        ("arm_reach", "gbp"),
    ],
)
def test_the_robot_and_the_evaluation_make_the_same_plans_bit_for_bit(task, solver):
    env = EnvMaker(task, 64)(False)
    targets = sample_targets(env, seed=5, count=2)
    env.close()
    ours, theirs = (f(task, solver, targets) for f in (plans_of_eval, plans_of_the_robot))
    assert len(ours) == len(theirs) >= 2
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_a_watcher_is_told_of_every_iteration_and_changes_nothing(solver):
    settings = {"solver": solver, "num_iterations": 4, "num_samples": 12, "num_elites": 4}
    told: list[Iteration] = []
    plans = []
    for watch in (None, told.append):
        session = Session(Planner(dot_bundle(), PlannerConfig(objective="last", **settings)))
        session.set_goal(goal(TARGET))
        plans.append(session.plan(observation(START), watch=watch))
    np.testing.assert_array_equal(plans[0].actions, plans[1].actions)
    assert [iteration.index for iteration in told] == [0, 1, 2, 3]
    for iteration in told:
        batch, count, horizon, size = iteration.actions.shape
        assert (batch, horizon, size) == (1, 5, 10) and iteration.costs.shape == (1, count)
        actions = iteration.actions
        again = session.planner._costs(_problem(session), actions).detach()
        torch.testing.assert_close(iteration.costs, again)


def _problem(session: Session):
    """What `session` has just planned for."""
    found = []
    planner, costs = session.planner, session.planner._costs
    planner._costs = lambda problem, actions: found.append(problem) or costs(problem, actions)
    session.set_goal(goal(TARGET))
    session.plan(observation(START))
    planner._costs = costs
    return found[0]


class Pendulum:
    """Somebody's own world model: no torch module, one token, closed form."""

    device = torch.device("cpu")

    def encode(self, images, proprio):
        return Latent(images[..., :1, 0, 0].unsqueeze(2), proprio)

    def rollout(self, latent, actions, past_actions, mode):
        turned = 0.05 * actions.sum(dim=-1, keepdim=True).cumsum(dim=1)
        turned = torch.cat([torch.zeros_like(turned[:, :1]), turned], dim=1)
        return Latent(latent.visual[:, -1:] + turned[:, :, None], latent.proprio[:, -1:] + turned)


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_every_solver_plans_with_somebodys_own_model(solver):
    body = get_task("wall").embodiment
    model = EmbodiedModel(Pendulum(), Preprocess.plain(body), body)
    quick = {"num_iterations": 40, "num_samples": 100, "num_elites": 10, "temperature": 1e-3}
    session = Session(Planner(model, PlannerConfig(solver=solver, objective="last", **quick)))
    picture = np.zeros((64, 64, 3), np.uint8)
    session.set_goal(Goal(picture + 230))
    plan = session.plan(Observation(picture[None] + np.uint8(120), np.zeros((1, 2), np.float32), 0))
    turned = 0.05 * plan.actions.sum()
    assert turned == pytest.approx((230 - 120) / 127.5, abs=0.1)
