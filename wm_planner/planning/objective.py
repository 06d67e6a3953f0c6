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
    """(B,) cost of B rollouts.

    Args:
        imagined: (B, H + 1, ...) rollouts.
        goal: (B or 1, 1, ...) goal latents.
        mode: 'last', 'all' or 'staged'.
        base: weight ratio of 'all'.
        alpha: weight of the proprioception error; 0 ignores it.
        replan: number of plans made before towards this goal ('staged').
    """
    horizon = imagined.visual.shape[1] - 1
    if mode == "last" or (mode == "staged" and replan < horizon):
        imagined = imagined.frames(slice(-1, None))
        weights = torch.ones(1, device=imagined.visual.device)
    else:
        powers = base ** torch.arange(horizon + 1.0, device=imagined.visual.device)
        weights = powers / powers.sum() / (horizon + 1)
    error = (imagined.visual - goal.visual).square().mean(dim=(2, 3))
    if alpha:
        error = error + alpha * (imagined.proprio - goal.proprio).square().mean(dim=2)
    return (weights * error).sum(dim=1)
