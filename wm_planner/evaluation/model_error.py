"""How wrong the model is where data came from, and where plans lead (the paper's Figure 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_planner.evaluation.arena import draw, encode
from wm_planner.evaluation.expert import ExpertRuns, execute
from wm_planner.evaluation.stats import GAP, mean_interval
from wm_planner.models.model import EmbodiedModel
from wm_planner.models.world_model import Latent
from wm_planner.planning import Planner

BATCH = 25  # runs planned and encoded together


def model_error(planner: Planner, env: Any, runs: ExpertRuns) -> dict[str, Any]:
    """Latent error of the model on expert actions, and on plans towards the experts' ends.

    The error of a step is the mean squared difference between the visual tokens that the model
    imagined, from the first frame on, and those of the simulator's frame after the same actions.

    Args:
        planner: plans without a warm start; its horizon is the runs'.
        env: environment that draws.
        runs: what the expert did.

    Returns:
        'expert' and 'planned': mean error of each step 1 .. H; 'gaps': planned minus expert, over
        steps, of each run; 'gap' with its 95 % interval over runs ('gap_low', 'gap_high').
    """
    expert, planned = [], []
    for first in range(0, len(runs.states), BATCH):
        states, actions = (x[first : first + BATCH] for x in (runs.states, runs.actions))
        real = encode_runs(planner.bundle, env, states)
        expert.append(_errors(planner, real, actions))
        plans = plan_between(planner, env, real, states)
        passed = np.array([execute(env, s[0], a) for s, a in zip(states, plans, strict=True)])
        planned.append(_errors(planner, encode_runs(planner.bundle, env, passed), plans))
    errors = {"expert": np.concatenate(expert), "planned": np.concatenate(planned)}
    gaps = (errors["planned"] - errors["expert"]).mean(axis=1)
    return {
        "runs": len(gaps),
        **{name: values.mean(axis=0).tolist() for name, values in errors.items()},
        "gaps": gaps.tolist(),
        **dict(zip(GAP, mean_interval(gaps.tolist()), strict=True)),
    }


def less_first(first: list[float], other: list[float]) -> dict[str, float]:
    """How a checkpoint's gaps differ from the first one's, run by run, where both encode alike.

    Args:
        first, other: 'gaps' of two `model_error` on the same runs.

    Returns:
        'gap_less_first', 'gap_low_less_first' and 'gap_high_less_first': mean of other - first,
        with its 95 % interval over runs.
    """
    gaps = [b - a for a, b in zip(first, other, strict=True)]
    names = [f"{name}_less_first" for name in GAP]
    return dict(zip(names, mean_interval(gaps), strict=True))


def plan_between(planner: Planner, env: Any, ends: Latent, states: np.ndarray) -> np.ndarray:
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


def _errors(planner: Planner, real: Latent, raw: np.ndarray) -> np.ndarray:
    """(N, H) error of each step."""
    actions = model_actions(planner.bundle, raw)
    with torch.no_grad():
        imagined = planner.bundle.model.rollout(
            real.frames(slice(0, 1)), actions, None, planner.config.rollout
        )
    difference = (imagined.visual - real.visual)[:, 1:]
    return difference.square().mean(dim=(-2, -1)).cpu().numpy()


def encode_runs(bundle: EmbodiedModel, env: Any, states: np.ndarray) -> Latent:
    """(N, T, ...) latent of states (N, T, S)."""
    return encode(bundle, draw(env, list(states.reshape(-1, states.shape[-1]))), states.shape[1])
