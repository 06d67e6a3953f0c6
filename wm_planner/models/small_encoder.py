"""The small default encoder (and its decoder): a few megabytes, trained on the task's own images.

DINOv2's weights cannot be shipped; this one can, and it plans on two CPU cores.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wm_planner.models.decoder import Decoder
from wm_planner.models.encoder import StandardTokens, TrainedEncoder
from wm_planner.models.predictor import Transformer


def _grid_side(num_patches: int, image_size: int) -> int:
    side = math.isqrt(num_patches)
    if side * side != num_patches:
        raise ValueError(f"num_patches must be a square number, got {num_patches}")
    if image_size % (4 * side):
        raise ValueError(
            f"image_size must be a multiple of {4 * side} for {num_patches} patches, "
            f"got {image_size}"
        )
    return side


class SmallEncoder(TrainedEncoder):
    """Convolutions down to a token grid, two ViT blocks, standardised tokens.

    Args:
        image_size: side S of the square input, a multiple of 4 * sqrt(num_patches).
        num_patches: tokens P, a square number.
        dim: token size Dv.
        channels: width of the convolutions and blocks.
        depth: ViT blocks.
    """

    recipe_keys = ("channels", "depth")

    def __init__(
        self, image_size: int, num_patches: int, dim: int, channels: int = 128, depth: int = 2
    ) -> None:
        super().__init__(image_size, num_patches, dim)
        stem = image_size // (4 * _grid_side(num_patches, image_size))
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels // 2, stem, stride=stem),
            nn.GELU(),
            nn.Conv2d(channels // 2, channels, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 4, stride=2, padding=1),
        )
        self.pos_embedding = nn.Parameter(torch.randn(1, num_patches, channels) * 0.02)
        self.blocks = Transformer(channels, depth, 4, channels // 4, 2 * channels, dropout=0.0)
        self.head = nn.Linear(channels, dim)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, P, Dv)."""
        x = self.stem(images).flatten(2).transpose(1, 2) + self.pos_embedding
        return self.standardised(self.head(self.blocks(x)))


class SmallDecoder(Decoder, StandardTokens):
    """Tokens back to a picture; only to see what the model imagines."""

    def __init__(self, image_size: int, num_patches: int, dim: int, channels: int = 128) -> None:
        super().__init__(num_patches, dim)
        self.side = _grid_side(num_patches, image_size)
        stem = image_size // (4 * self.side)
        self.net = nn.Sequential(
            nn.Conv2d(dim, channels, 3, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(channels // 2, 3 * stem * stem, 3, padding=1),
            nn.PixelShuffle(stem),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, P, Dv) -> (B, 3, S, S) in about [-1, 1]."""
        grid = self.restored(tokens).transpose(1, 2).unflatten(2, (self.side, self.side))
        result: Tensor = self.net(grid)
        return result
