"""The numbers of the paper's figures: loss landscape (2) and model error (4).

Landscape and model error are about runs of the task's scripted expert, whose actions are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_planner.errors import TaskError
from wm_planner.evaluation.arena import draw, encode, frame_distance
from wm_planner.evaluation.episode import Env
from wm_planner.evaluation.stats import GAP, mean_interval
from wm_planner.evaluation.target import MAX_DRAWS
from wm_planner.models.model import EmbodiedModel
from wm_planner.models.world_model import Latent
from wm_planner.planning import Planner
from wm_planner.planning.objective import goal_cost

EDGE = 1.25  # the plane of a landscape reaches a little beyond the two plans, as published
ROLLOUTS = 256  # of a landscape, at once
RUNS = 25  # planned and encoded together


@dataclass(frozen=True)
class ExpertRuns:
    """N runs of H model steps; the goal of each is where it ended.

    Attributes:
        states: (N, H + 1, S) full states, one per model step.
        actions: (N, H * frame_skip, a) raw actions between them.
    """

    states: np.ndarray
    actions: np.ndarray


def expert_runs(env: Env, seed: int, count: int, horizon: int) -> ExpertRuns:
    """Run i is drawn from (seed, i); one that ends where it started is drawn again.

    Raises:
        TaskError: the expert hardly ever leaves the start.
    """
    states, actions = [], []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        for _ in range(MAX_DRAWS):
            start, driven = _drive(env, rng, horizon)
            passed = execute(env, start, driven)
            if not env.task.is_success(passed[0], passed[-1]):
                break
        else:
            raise TaskError(
                f"all {MAX_DRAWS} runs of the expert of task '{env.task.name}' end where they "
                f"start; take a longer horizon than {horizon}"
            )
        states.append(passed)
        actions.append(driven)
    return ExpertRuns(np.array(states), np.array(actions))


def execute(env: Env, start: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """(H + 1, S) states at the model steps of raw actions (H * frame_skip, a) from `start`."""
    env.set_state(start)
    states = [env.get_state()]
    for period, action in enumerate(actions, start=1):
        env.advance(action)
        if period % env.task.embodiment.frame_skip == 0:
            states.append(env.get_state())
    return np.array(states)


def landscape(
    planners: dict[str, Planner], axes: tuple[str, str], env: Env, runs: ExpertRuns, size: int
) -> dict[str, Any]:
    """Loss at expert + x (plan 1 - expert) + y (plan 2 - expert), in raw actions.

    Args:
        planners: by name; each one's model and objective give a surface.
        axes: names of the planners whose plans are (1, 0) and (0, 1).
        env: environment that draws.
        runs: the first one is looked at; the goal is its end.
        size: points along each side.

    Returns:
        'coordinates' (size,) of both axes, from -1.25 to 1.25, and 'losses': for each name
        (size, size), rows along y.
    """
    expert = runs.actions[0]
    seen = {n: encode_runs(p.bundle, env, runs.states[:1]) for n, p in planners.items()}
    along = [
        plan_between(planners[name], env, seen[name], runs.states[:1])[0] - expert for name in axes
    ]
    points = np.linspace(-EDGE, EDGE, size)
    x, y = (grid.reshape(-1, 1, 1) for grid in np.meshgrid(points, points))
    actions = (expert + x * along[0] + y * along[1]).astype(np.float32)
    losses = {
        name: losses_of(planner, seen[name], actions).reshape(size, size).tolist()
        for name, planner in planners.items()
    }
    return {"axes": list(axes), "coordinates": points.tolist(), "losses": losses}


@torch.no_grad()
def losses_of(planner: Planner, ends: Latent, raw: np.ndarray) -> np.ndarray:
    """(M,) objective of raw actions (M, H * frame_skip, a) between the ends of one run (1, T)."""
    config, now, goal = planner.config, ends.frames(slice(0, 1)), ends.frames(slice(-1, None))
    losses = []
    for first in range(0, len(raw), ROLLOUTS):
        actions = model_actions(planner.bundle, raw[first : first + ROLLOUTS])
        start = Latent(*(x.expand(len(actions), *x.shape[1:]) for x in (now.visual, now.proprio)))
        imagined = planner.bundle.model.rollout(start, actions, None, config.rollout)
        losses.append(
            goal_cost(imagined, goal, config.objective, config.objective_base, planner.alpha)
        )
    return torch.cat(losses).cpu().numpy()


def model_error(planner: Planner, env: Env, runs: ExpertRuns) -> dict[str, Any]:
    """Latent error of the model on expert actions, and on plans towards the experts' ends.

    The error of a step is the mean squared difference between the visual tokens that the model
    imagined, from the first frame on, and those of the simulator's frame after the same actions.

    Args:
        planner: plans without a warm start; its horizon is the runs'.
        env: environment that draws.
        runs: what the expert did.

    Returns:
        'expert' and 'planned': mean error of each step 1 .. H, each with its 95 % interval over
        runs ('expert_low', 'expert_high'); 'gaps': planned minus expert, over steps, of each run;
        'gap' with its interval ('gap_low', 'gap_high').
    """
    expert, planned = [], []
    for first in range(0, len(runs.states), RUNS):
        states, actions = (x[first : first + RUNS] for x in (runs.states, runs.actions))
        real = encode_runs(planner.bundle, env, states)
        expert.append(_errors(planner, real, actions))
        plans = plan_between(planner, env, real, states)
        passed = np.array([execute(env, s[0], a) for s, a in zip(states, plans, strict=True)])
        planned.append(_errors(planner, encode_runs(planner.bundle, env, passed), plans))
    errors = {"expert": np.concatenate(expert), "planned": np.concatenate(planned)}
    gaps = (errors["planned"] - errors["expert"]).mean(axis=1)
    found: dict[str, Any] = {"runs": len(gaps)}
    for name, values in errors.items():
        of_steps = np.array([mean_interval(step.tolist()) for step in values.T])
        keys = (name, f"{name}_low", f"{name}_high")
        found |= dict(zip(keys, of_steps.T.tolist(), strict=True))
    return {
        **found,
        "gaps": gaps.tolist(),
        **dict(zip(GAP, mean_interval(gaps.tolist()), strict=True)),
    }


def less_first(first: list[float], other: list[float]) -> dict[str, float]:
    """How a checkpoint's 'gaps' differ from the first one's, run by run, where both encode alike.

    Returns:
        'gap_less_first', 'gap_low_less_first' and 'gap_high_less_first': mean of other - first,
        with its 95 % interval over runs.
    """
    less = mean_interval([b - a for a, b in zip(first, other, strict=True)])
    return {f"{name}_less_first": value for name, value in zip(GAP, less, strict=True)}


def encode_runs(bundle: EmbodiedModel, env: Env, states: np.ndarray) -> Latent:
    """(N, T, ...) latent of states (N, T, S)."""
    return encode(bundle, draw(env, list(states.reshape(-1, states.shape[-1]))), states.shape[1])


def plan_between(planner: Planner, env: Env, ends: Latent, states: np.ndarray) -> np.ndarray:
    """Raw actions (N, H * frame_skip, a) planned from the first to the last frame of each run.

    Args:
        planner: plans from rest.
        env: of the robot.
        ends: (N, T, ...) latents of the runs.
        states: (N, T, S) their states.
    """
    now, goal = ends.frames(slice(0, 1)), ends.frames(slice(-1, None))
    rest = planner.rest.at(np.stack([env.proprio_of(state) for state in states[:, 0]]))
    result = planner.plan_latents(now, goal, None, 0, planner.generator(), rest=rest)
    return planner.raw_actions(result.actions, result.bounds).cpu().numpy()


def model_actions(bundle: EmbodiedModel, raw: np.ndarray) -> Tensor:
    """Raw actions (N, H * frame_skip, a) -> standardised model actions (N, H, A)."""
    grouped = raw.reshape(len(raw), -1, bundle.preprocess.action_dim)
    return bundle.preprocess.normalise_actions(grouped).to(bundle.device)


def _drive(env: Env, rng: np.random.Generator, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    body, start = env.task.embodiment, env.sample_state(rng)
    policy, actions = env.expert(rng), []
    env.set_state(start)
    for _ in range(horizon * body.frame_skip):
        actions.append(np.clip(policy(env.get_state()), body.action.low, body.action.high))
        env.advance(actions[-1])
    return start, np.array(actions)


def _errors(planner: Planner, real: Latent, raw: np.ndarray) -> np.ndarray:
    """(N, H) error of each step."""
    actions = model_actions(planner.bundle, raw)
    with torch.no_grad():
        imagined = planner.bundle.model.rollout(
            real.frames(slice(0, 1)), actions, None, planner.config.rollout
        )
    return frame_distance(imagined, real)[:, 1:].cpu().numpy()
