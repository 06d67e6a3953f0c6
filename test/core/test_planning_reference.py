"""Objective, gradients and plans against numbers of the published implementation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wm_planner.models.bundle import Bundle
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import Latent
from wm_planner.planning import Planner, PlannerConfig
from wm_planner.planning.objective import goal_cost
from wm_planner.tasks import get_task

from .reference_fixture import load_reference

DATA = Path(__file__).parent.parent / "data"
TASKS = ("pusht", "wall")
ROLLOUTS = ("history", "markov")
LEARNING_RATE = {"sgd": 1.0, "adam": 0.2}


def load(task: str):
    """Model, arrays, latent of now and latent of the goal; the encoder has its own test."""
    model, arrays, _ = load_reference(DATA / f"reference_{task}_tiny.npz")
    model.requires_grad_(False)
    frames = Latent(arrays["out/encode_visual"], arrays["out/encode_proprio"])
    return model, arrays, frames.frames(slice(0, 1)), frames.frames(slice(-1, None))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("mode", ["last", "all"])
@pytest.mark.parametrize("alpha", [0, 1])
def test_objective_and_gradient(task: str, rollout: str, mode: str, alpha: int) -> None:
    model, arrays, now, goal = load(task)
    actions = arrays["in/plan_actions"].clone().requires_grad_(True)
    cost = goal_cost(model.rollout(now, actions, mode=rollout), goal, mode, 0.5, alpha)
    (gradient,) = torch.autograd.grad(cost.sum(), actions)
    name = f"{rollout}_{mode}_alpha{alpha}"
    torch.testing.assert_close(cost, arrays[f"out/objective_{name}"], rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient, arrays[f"out/grad_{name}"], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("optimizer", LEARNING_RATE)
def test_ten_planning_steps(task: str, rollout: str, optimizer: str) -> None:
    """The published descent: no noise, no bounds, the last iterate."""
    model, arrays, now, goal = load(task)
    config = PlannerConfig(
        num_iterations=10,
        optimizer=optimizer,
        learning_rate=LEARNING_RATE[optimizer],
        action_noise_std=0.0,
        best_so_far=False,
        bounded=False,
        objective="all",
        objective_base=0.5,
        objective_alpha=1.0,
        rollout=rollout,
    )
    num_proprio = model.config.proprio_dim
    plain = Preprocess(
        model.config.image_size,
        5,
        (0.0,) * 2,
        (1.0,) * 2,
        (0.0,) * num_proprio,
        (1.0,) * num_proprio,
    )
    planner = Planner(Bundle(model, plain, get_task(task).embodiment), config)
    result = planner.plan_latents(now, goal, arrays["in/plan_actions"], 0, planner.generator())
    name = f"out/plan_{rollout}_{optimizer}"
    torch.testing.assert_close(result.trace, arrays[f"{name}_losses"], rtol=0, atol=1e-5)
    torch.testing.assert_close(result.actions, arrays[f"{name}_actions"], rtol=0, atol=1e-4)
