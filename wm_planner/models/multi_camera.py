"""Several cameras in one picture: side by side, left to right, as the embodiment names them.

One encoder looks at each camera's picture, and their tokens lie side by side. A camera that a
recording lacks is a black picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wm_planner.models.pixels import PixelStandard


class MultiCameraEncoder(nn.Module):
    """(B, 3, S, C * S) -> (B, C * P, Dv): tokens of the first camera, then of the second one.

    Args:
        base: module with ``image_size`` S, ``num_patches`` P and ``dim`` Dv that maps
            (B, 3, S, S) in [-1, 1] to (B, P, Dv); it looks at every camera.
        cameras: C.
        standardise: look at pixels standardised one by one, in each camera by itself.
    """

    token_mean: Tensor
    token_std: Tensor

    def __init__(self, base: Any, cameras: int, standardise: bool = False) -> None:
        super().__init__()
        _check(cameras)
        self.base, self.cameras = base, cameras
        self.image_size, self.dim = base.image_size, base.dim
        self.num_patches = cameras * base.num_patches
        self.pixels = PixelStandard(self.image_size, cameras) if standardise else None
        # Set once after training, as those of a single encoder: each camera's tokens have a mean.
        self.register_buffer("token_mean", torch.zeros(self.num_patches, self.dim))
        self.register_buffer("token_std", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, C * S) in [-1, 1] -> (B, C * P, Dv)."""
        if self.pixels is not None:
            images = self.pixels(images)
        views = images.unflatten(3, (self.cameras, -1)).movedim(3, 1).flatten(0, 1)
        tokens = self.base(views).unflatten(0, (-1, self.cameras)).flatten(1, 2)
        return (tokens - self.token_mean) / self.token_std


class MultiCameraDecoder(nn.Module):
    """(B, C * P, Dv) -> (B, 3, S, C * S): each camera's picture by a decoder of its own.

    Args:
        bases: C modules that map (B, P, Dv) to (B, 3, S, S).
        image_size: S.
        num_patches: C * P.
        dim: Dv.
        standardise: the bases draw standardised pixels, of which `forward` makes pictures.
    """

    token_mean: Tensor
    token_std: Tensor

    def __init__(
        self,
        bases: Sequence[nn.Module],
        image_size: int,
        num_patches: int,
        dim: int,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        _check(len(bases))
        self.bases = nn.ModuleList(bases)
        self.pixels = PixelStandard(image_size, len(bases)) if standardise else None
        self.register_buffer("token_mean", torch.zeros(num_patches, dim))
        self.register_buffer("token_std", torch.ones(()))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, C * P, Dv) -> (B, 3, S, C * S) in about [-1, 1]."""
        drawn = self.standard(tokens)
        return drawn if self.pixels is None else self.pixels.undo(drawn)

    def standard(self, tokens: Tensor) -> Tensor:
        """(B, C * P, Dv) -> (B, 3, S, C * S): standardised pixels, or pictures without any."""
        tokens = tokens * self.token_std + self.token_mean
        parts = tokens.chunk(len(self.bases), dim=1)
        drawn = [base(part) for base, part in zip(self.bases, parts, strict=True)]
        return torch.cat(drawn, dim=3)


def _check(cameras: int) -> None:
    if cameras < 2:
        raise ValueError(f"cameras must be at least 2 for kind multi, got {cameras}")
