"""The published decoder: a plain convolutional one in the shell of a VQ-VAE.

It only draws what the model imagines; nothing is planned with it. Parameter names are those of the
released checkpoints.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wm_planner.models.decoder import Decoder

UPSAMPLING = 16  # pixels per token: two stages of four


class VQVAE(Decoder):
    """(B, P, Dv) -> (B, 3, S, S) in about [-1, 1], with S = 16 * sqrt(P).

    The released checkpoints were trained without quantisation; their codebook is unused.

    Args:
        image_size: side S of the picture.
        num_patches: P, a square number.
        dim: token size Dv.
        channels: width of the convolutions.
        num_blocks: residual blocks in each of the two stages.
        block_channels: inner width of a residual block.
        num_codes: size of the codebook that tokens are rounded to; 0 takes them as they are.

    Raises:
        ValueError: a number of patches that is no square, or another image size.
    """

    def __init__(
        self,
        image_size: int,
        num_patches: int,
        dim: int,
        channels: int = 384,
        num_blocks: int = 4,
        block_channels: int = 128,
        num_codes: int = 0,
    ) -> None:
        super().__init__()
        self.side = math.isqrt(num_patches)
        if self.side**2 != num_patches or image_size != UPSAMPLING * self.side:
            raise ValueError(
                f"the vqvae decoder draws {UPSAMPLING} pixels a patch from a square grid; "
                f"{num_patches} patches do not make an image of {image_size} pixels"
            )
        sizes = (channels, num_blocks, block_channels)
        self.quantize_b = Codebook(dim, num_codes) if num_codes else None
        self.upsample_b = Upsampler(dim, dim, *sizes)
        self.dec = Upsampler(dim, 3, *sizes)

    def forward(self, tokens_BPD: Tensor) -> Tensor:
        """Draw every frame by itself."""
        if self.quantize_b is not None:
            tokens_BPD = self.quantize_b(tokens_BPD)
        grid = tokens_BPD.mT.unflatten(-1, (self.side, self.side))
        result: Tensor = self.dec(self.upsample_b(grid))
        return result


class Codebook(nn.Module):
    """(..., D) -> (..., D): the nearest of N codes. Learning them is not part of this package."""

    embed: Tensor

    def __init__(self, dim: int, num_codes: int) -> None:
        super().__init__()
        self.register_buffer("embed", torch.randn(dim, num_codes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Round every token to its code."""
        codes_ND = self.embed.mT
        nearest = torch.cdist(tokens.flatten(0, -2), codes_ND).argmin(dim=-1)
        return codes_ND[nearest].view_as(tokens)


class Upsampler(nn.Module):
    """(B, in, H, W) -> (B, out, 4 H, 4 W)."""

    def __init__(
        self, dim_in: int, dim_out: int, channels: int, num_blocks: int, block_channels: int
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Conv2d(dim_in, channels, 3, padding=1),
            *(ResidualBlock(channels, block_channels) for _ in range(num_blocks)),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(channels // 2, dim_out, 4, stride=2, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolutions, residual blocks, and twice the resolution twice."""
        result: Tensor = self.blocks(x)
        return result


class ResidualBlock(nn.Module):
    """(B, C, H, W) -> the same; the input is added unrectified."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of x."""
        result: Tensor = x + self.conv(x)
        return result
