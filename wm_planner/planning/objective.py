"""How far an imagined rollout ends from the goal.

With e_v(t) and e_p(t) the mean squared errors of visual tokens and embedded proprioception of
frame t = 0 .. H (frame 0 is now):

- ``last``: e_v(H) + alpha e_p(H).
- ``all``: mean over frames of w_t (e_v(t) + alpha e_p(t)), w_t = base^t / sum base^s. A base
  below one favours early frames, as released.
- ``staged``: ``last`` for the first H model steps, ``all`` from then on. The published schedule
  counts replans, which are one model step apart; counted so, it is late where they are rarer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wm_planner.models.world_model import Latent


def goal_cost(
    imagined: Latent, goal: Latent, mode: str, base: float, alpha: float, step: int = 0
) -> Tensor:
    """Cost of each rollout, of the leading shape of `imagined`.

    Args:
        imagined: rollouts, visual (..., H + 1, P, Dv) and proprio (..., H + 1, Dp).
        goal: one frame, visual (..., 1, P, Dv) and proprio (..., 1, Dp), leading dimensions
            broadcast.
        mode: 'last', 'all' or 'staged'.
        base: weight ratio of 'all'.
        alpha: weight of the proprioception error; 0 ignores it.
        step: model steps since the first plan towards this goal ('staged').
    """
    visual = imagined.visual
    weights = frame_weights(mode, base, visual.shape[-3] - 1, step)
    return weighed_cost(imagined, goal, weights.to(visual.device), alpha)


def frame_weights(mode: str, base: float, horizon: int, step: int = 0) -> Tensor:
    """(H + 1,) weights of the frames' errors; arguments as `goal_cost`."""
    if mode == "last" or (mode == "staged" and step < horizon):
        weights = torch.zeros(horizon + 1)
        weights[-1] = 1.0
        return weights
    powers = base ** torch.arange(horizon + 1.0)
    return powers / powers.sum() / (horizon + 1)


def weighed_cost(imagined: Latent, goal: Latent, weights: Tensor, alpha: float) -> Tensor:
    """`goal_cost` with the weights of the H + 1 frames as a tensor of the rollouts' device."""
    error = frame_errors(imagined, goal, alpha)
    # Where a rollout diverges on the way, a frame without weight must not make the cost NaN.
    return (weights * error).where(weights > 0, 0.0).sum(dim=-1)


def frame_errors(imagined: Latent, goal: Latent, alpha: float) -> Tensor:
    """(..., T) e_v + alpha e_p of each of T frames; arguments as `goal_cost`."""
    error = (imagined.visual - goal.visual).square().mean(dim=(-2, -1))
    if alpha:
        error = error + alpha * (imagined.proprio - goal.proprio).square().mean(dim=-1)
    return error
