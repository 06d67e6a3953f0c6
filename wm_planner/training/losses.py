"""Losses of encoders and of the transition model, and what the latter is judged by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wm_planner.models.world_model import Latent, WorldModel
from wm_planner.training.latents import LatentTrajectories

_CHUNK = 32  # windows evaluated together: 256 of the published size fill a small memory


def std_hinge(z_BN: Tensor) -> Tensor:
    """Mean shortfall of each entry's standard deviation below one."""
    return F.relu(1.0 - (z_BN.var(dim=0) + 1e-4).sqrt()).mean()


def covariance_penalty(z_BN: Tensor) -> Tensor:
    """Sum of squared off-diagonal covariances over the number of entries."""
    centred = z_BN - z_BN.mean(dim=0)
    covariance = centred.T @ centred / (len(z_BN) - 1)
    off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
    return off_diagonal / z_BN.shape[1]


def curvature(first_BN: Tensor, second_BN: Tensor, third_BN: Tensor) -> Tensor:
    """1 - cos of the angle between successive changes (arXiv 2603.12231, L_curv), the mean."""
    # What stands still has no direction: with the usual eps of 1e-8 its gradient, 1e8 times
    # nothing, drowns that of everything that moves.
    cosine = F.cosine_similarity(second_BN - first_BN, third_BN - second_BN, eps=1e-3)
    return (1 - cosine).mean()


def rollout_loss(
    model: WorldModel,
    visual: Tensor,
    proprio: Tensor,
    actions: Tensor,
    perturbation: Sequence[Tensor] | None = None,
) -> dict[str, Tensor]:
    """Error of every step of an imagined rollout, joint mean as in `WorldModel.latent_loss`.

    Args:
        visual: (B, L + 1, P, Dv), proprio: (B, L + 1, p), actions: (B, L, A).
        perturbation: added to the first frame's tokens (B, 1, P, Dv), to its embedded
            proprioception (B, 1, Dp) and to the actions (B, L, A), never to the targets.
    """
    embedded = model.proprio_encoder(proprio)
    now = Latent(visual[:, :1], embedded[:, :1])
    if perturbation is not None:
        by_visual, by_proprio, by_action = perturbation
        now = Latent(now.visual + by_visual, now.proprio + by_proprio)
        actions = actions + by_action
    predicted = model.rollout(now, actions, mode=_mode(model))
    error_visual = (predicted.visual[:, 1:] - visual[:, 1:]).square().mean()
    error_proprio = (predicted.proprio[:, 1:] - embedded[:, 1:].detach()).square().mean()
    dv, dp = model.config.visual_dim, model.config.proprio_emb_dim
    loss = (dv * error_visual + dp * error_proprio) / (dv + dp)
    return {"loss": loss, "visual": error_visual, "proprio": error_proprio}


def history_windows(
    model: WorldModel, visual: Tensor, proprio: Tensor, actions: Tensor
) -> list[Tensor]:
    """Every window of K + 1 frames in the segments, as `WorldModel.latent_loss` takes them."""
    length = model.config.num_hist + 1
    # The last frame's action is never used.
    actions = torch.cat([actions, torch.zeros_like(actions[:, :1])], dim=1)
    return [x.unfold(1, length, 1).movedim(-1, 2).flatten(0, 1) for x in (visual, proprio, actions)]


@torch.no_grad()
def evaluate(model: WorldModel, data: LatentTrajectories, steps: int) -> dict[str, float]:
    """Error of the last step of a rollout, and that of assuming nothing moves."""
    was_training = model.predictor.training
    model.predictor.eval()
    windows = data.windows(256, steps, torch.Generator().manual_seed(0))
    visual, proprio, actions = (x.to(model.device) for x in windows)
    now = Latent(visual[:, :1], model.proprio_encoder(proprio[:, :1]))
    errors = []
    for rows in torch.arange(len(visual)).split(_CHUNK):
        last = model.rollout(now[rows], actions[rows], mode=_mode(model)).visual[:, -1]
        errors.append((last - visual[rows, -1]).square().mean().expand(len(rows)))
    model.predictor.train(was_training)
    return {
        "val_last": float(torch.cat(errors).mean()),
        "val_copy": float((visual[:, 0] - visual[:, -1]).square().mean()),
    }


def _mode(model: WorldModel) -> str:
    return "markov" if model.config.num_hist == 1 else "history"
