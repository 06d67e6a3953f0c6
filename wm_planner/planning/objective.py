"""How far an imagined rollout ends from the goal.

With e_v(t) and e_p(t) the mean squared errors of visual tokens and embedded proprioception of
frame t = 0 .. H (frame 0 is now):

- ``last``: e_v(H) + alpha e_p(H).
- ``all``: mean over frames of w_t (e_v(t) + alpha e_p(t)), w_t = base^t / sum base^s. A base
  below one favours early frames, as released.
- ``staged``: ``last`` for the first H replans, ``all`` from then on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wm_planner.models.world_model import Latent


def goal_cost(
    imagined: Latent, goal: Latent, mode: str, base: float, alpha: float, replan: int = 0
) -> Tensor:
    """Cost of each rollout, of the leading shape of `imagined`.

    Args:
        imagined: rollouts, visual (..., H + 1, P, Dv) and proprio (..., H + 1, Dp).
        goal: one frame, visual (..., 1, P, Dv) and proprio (..., 1, Dp), leading dimensions
            broadcast.
        mode: 'last', 'all' or 'staged'.
        base: weight ratio of 'all'.
        alpha: weight of the proprioception error; 0 ignores it.
        replan: number of plans made before towards this goal ('staged').
    """
    visual, proprio = imagined.visual, imagined.proprio
    horizon = visual.shape[-3] - 1
    if mode == "last" or (mode == "staged" and replan < horizon):
        visual, proprio = visual[..., -1:, :, :], proprio[..., -1:, :]
        weights = torch.ones(1, device=visual.device)
    else:
        powers = base ** torch.arange(horizon + 1.0, device=visual.device)
        weights = powers / powers.sum() / (horizon + 1)
    error = (visual - goal.visual).square().mean(dim=(-2, -1))
    if alpha:
        error = error + alpha * (proprio - goal.proprio).square().mean(dim=-1)
    return (weights * error).sum(dim=-1)
