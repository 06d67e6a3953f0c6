"""A first guess of the plan, in one pass: the network of the gradient planner's cold starts.

Shapes: B batch, P patches, Dv and Dp visual size and proprioception embedding, H horizon in model
steps, A model action size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wm_planner.models.vqvae import ResidualBlock
from wm_planner.models.world_model import Latent, ModelConfig

SMALLEST_GRID = 8  # patches a side; on fewer the published strides find nothing to halve


class InitNetwork(nn.Module):
    """Current and goal latents -> standardised actions that lead from one to the other.

    Square grids of at least 8 x 8 patches go through the published convolutions. Fewer tokens,
    which need not lie on a grid at all (keypoints), go through a perceptron of two layers: on the
    wall model's 4 x 4 tokens it reached a held-out error of 0.63 where the convolutions reached
    0.70 in four times the time (2000 updates; 1 is the error of the mean action).

    The output is standardised actions, the space that the planner searches. (The released code
    fits the embedded actions and then plans from that output as if it were standardised: a point
    in another space, of another scale, which the planner must first undo.)

    Args:
        num_patches: P.
        token_dim: Dv + Dp.
        horizon: H.
        action_dim: A.

    Raises:
        ValueError: many patches that make no square, or a size below one.
    """

    def __init__(self, num_patches: int, token_dim: int, horizon: int, action_dim: int) -> None:
        super().__init__()
        if min(num_patches, token_dim, horizon, action_dim) < 1:
            raise ValueError(
                "num_patches, token_dim, horizon and action_dim must be at least 1, got "
                f"{num_patches}, {token_dim}, {horizon}, {action_dim}"
            )
        self.horizon, self.action_dim = horizon, action_dim
        self._side = math.isqrt(num_patches)
        self._on_grid = num_patches >= SMALLEST_GRID**2
        if self._on_grid and self._side**2 != num_patches:
            raise ValueError(f"{num_patches} patches make no square grid")
        if self._on_grid:
            self.layers, width = _convolutions(2 * token_dim, self._side)
        else:
            width = 256
            self.layers = nn.Sequential(
                nn.Flatten(),
                nn.Linear(2 * token_dim * num_patches, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
            )
        self.head = nn.Linear(width, horizon * action_dim)

    @classmethod
    def for_model(cls, config: ModelConfig, horizon: int) -> InitNetwork:
        """A fresh network for the latents and actions of a world model."""
        token_dim = config.visual_dim + config.proprio_emb_dim
        return cls(config.num_patches, token_dim, horizon, config.action_dim)

    def forward(self, now: Latent, goal: Latent) -> Tensor:
        """(B, H, A) standardised actions from the newest frame of `now` to that of `goal`."""
        tokens_BPC = torch.cat([_tokens(now), _tokens(goal)], dim=-1)
        x = tokens_BPC.mT.unflatten(-1, (self._side, self._side)) if self._on_grid else tokens_BPC
        flat = self.head(self.layers(x).flatten(1))
        result: Tensor = flat.unflatten(1, (self.horizon, self.action_dim))
        return result


def _convolutions(channels: int, side: int) -> tuple[nn.Sequential, int]:
    """The published layers, and what they leave of a grid: 1024 entries of up to 19 x 19."""
    layers = nn.Sequential(
        nn.Conv2d(channels, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 128, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 128, 3, padding=1),
        ResidualBlock(128, 32),
        nn.Conv2d(128, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 128, 3, padding=1),
        ResidualBlock(128, 32),
        nn.Conv2d(128, 1024, 3, padding=1),
    )
    left = math.ceil(side // 4 / 4)  # an even kernel halves downwards, an odd one upwards
    return layers, 1024 * left**2


def _tokens(latent: Latent) -> Tensor:
    """(B, P, Dv + Dp) of the newest frame, proprioception tiled over the patches."""
    visual, proprio = latent.visual[:, -1], latent.proprio[:, -1:]
    return torch.cat([visual, proprio.expand(-1, visual.shape[1], -1)], dim=-1)
