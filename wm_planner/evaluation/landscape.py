"""The planning loss over a plane of action sequences (the paper's Figure 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from wm_planner.evaluation.expert import ExpertRuns
from wm_planner.evaluation.model_error import encode_runs, model_actions, plan_between
from wm_planner.models.world_model import Latent
from wm_planner.planning import Planner
from wm_planner.planning.objective import goal_cost

EDGE = 1.25  # the plane reaches a little beyond the two plans, as published
BATCH = 256  # rollouts at once


def landscape(
    planners: dict[str, Planner], axes: tuple[str, str], env: Any, runs: ExpertRuns, size: int
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
    for first in range(0, len(raw), BATCH):
        actions = model_actions(planner.bundle, raw[first : first + BATCH])
        start = Latent(*(x.expand(len(actions), *x.shape[1:]) for x in (now.visual, now.proprio)))
        imagined = planner.bundle.model.rollout(start, actions, None, config.rollout)
        losses.append(
            goal_cost(imagined, goal, config.objective, config.objective_base, planner.alpha)
        )
    return torch.cat(losses).cpu().numpy()
