"""A trained channel projector on the tokens of a frozen encoder (arXiv 2603.12231).

Pretrained or reconstructed tokens say much that is of no use to a planner, and their paths through
a trajectory bend; few channels, trained to be predicted and to move straight, keep what the actions
move. Two convolutions over the token grid, as in the paper's released code. What is left out is
its last layer norm: it would bend every straight path onto a sphere.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from wm_planner.models.encoder import Encoder, TrainedEncoder, build_encoder


class ChannelProjector(nn.Module):
    """(B, P, Dv) -> (B, P, D): convolution, layer norm, ReLU, convolution.

    Args:
        num_patches: tokens P, a square number unless `kernel_size` is 1.
        dim_in, hidden_dim, dim: Dv, the channels between, and D.
        kernel_size: side of both convolutions, odd; 3 as published, 1 sees each patch alone.

    Raises:
        ValueError: sizes it cannot have.
    """

    def __init__(
        self, num_patches: int, dim_in: int, hidden_dim: int, dim: int, kernel_size: int
    ) -> None:
        super().__init__()
        if not 1 <= dim <= dim_in:
            raise ValueError(
                f"dim {dim}: a projector narrows tokens of {dim_in} entries; choose 1 to {dim_in}"
            )
        if hidden_dim < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"hidden_dim must be at least 1 and kernel_size odd, got {hidden_dim}, "
                f"{kernel_size}"
            )
        side = math.isqrt(num_patches)
        if kernel_size > 1 and side * side != num_patches:
            raise ValueError(
                f"{num_patches} tokens form no square grid: kernel_size must be 1, got "
                f"{kernel_size}"
            )
        self.rows = side if kernel_size > 1 else 1
        padding = kernel_size // 2
        self.hidden = nn.Conv2d(dim_in, hidden_dim, kernel_size, padding=padding)
        self.norm = nn.LayerNorm(hidden_dim)
        self.out = nn.Conv2d(hidden_dim, dim, kernel_size, padding=padding)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        grid = tokens.transpose(1, 2).unflatten(2, (self.rows, -1))
        hidden = self.norm(self.hidden(grid).movedim(1, -1)).relu()
        result: Tensor = self.out(hidden.movedim(-1, 1))
        return result.flatten(2).transpose(1, 2)


class ProjectedEncoder(TrainedEncoder):
    """(B, 3, S, S) -> (B, P, D): another encoder's tokens, projected and standardised.

    Args:
        base: module with ``image_size``, ``num_patches`` P and ``dim`` Dv that maps images in
            [-1, 1] to (B, P, Dv); it is frozen here.
        dim: token size D, at most Dv.
        hidden_dim, kernel_size: see `ChannelProjector`.

    Raises:
        ValueError: sizes it cannot have.
    """

    needs_base = True

    def __init__(
        self, base: Any, dim: int = 8, hidden_dim: int = 192, kernel_size: int = 3
    ) -> None:
        super().__init__(base.image_size, base.num_patches, dim)
        self.base = base.eval().requires_grad_(False)
        self.projector = ChannelProjector(base.num_patches, base.dim, hidden_dim, dim, kernel_size)

    @classmethod
    def build(cls, image_size: int, num_patches: int, dim: int, **settings: Any) -> Encoder:
        """`settings['base']` has a token size of its own, 'dim', unless its kind fixes it."""
        base = dict(settings.pop("base", {}))
        base_dim = base.pop("dim", dim)
        return cls(build_encoder(base, image_size, num_patches, base_dim), dim, **settings)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, P, D)."""
        with torch.no_grad():
            tokens = self.base(images)
        return self.project(tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens of the base (..., P, Dv) -> (..., P, D)."""
        flat = self.standardised(self.projector(tokens.flatten(0, -3)))
        result: Tensor = flat.unflatten(0, tokens.shape[:-2])
        return result
