"""A small encoder whose latents are places in the picture.

Convolutions make K heat maps; a spatial softmax turns each into the mean image coordinates of what
it responds to (deep spatial autoencoder, arXiv 1509.06113). Latents that are coordinates move
evenly when an object moves or turns, so that latent distance ranks pose distance: the property a
gradient planner needs where a grid of patch tokens does not have it (PushT).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GRID = 24  # side of the heat maps


class KeypointEncoder(nn.Module):
    """(B, 3, S, S) -> (B, P, Dv): K = P * Dv / 2 image coordinates, standardised.

    Args:
        image_size: side S of the square input, a multiple of 24.
        num_patches: tokens P.
        dim: token size Dv, even; each token carries dim / 2 keypoints.
        channels: width of the convolutions.
    """

    axis: Tensor
    token_mean: Tensor
    token_std: Tensor

    def __init__(self, image_size: int, num_patches: int, dim: int, channels: int = 48) -> None:
        super().__init__()
        if image_size % GRID or dim % 2:
            raise ValueError(
                f"image_size must be a multiple of {GRID} and dim even, got {image_size}, {dim}"
            )
        self.image_size, self.num_patches, self.dim = image_size, num_patches, dim
        self.num_keypoints = num_patches * dim // 2
        stride = image_size // GRID
        self.features = nn.Sequential(
            nn.Conv2d(3, channels, stride + 2, stride=stride, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.GELU(),
            nn.Conv2d(channels, self.num_keypoints, 1),
        )
        self.register_buffer("axis", torch.linspace(-1, 1, GRID), persistent=False)
        self.register_buffer("token_mean", torch.zeros(num_patches, dim))
        self.register_buffer("token_std", torch.ones(()))

    def keypoints(self, images: Tensor) -> Tensor:
        """(B, K, 2) mean image coordinates (x, y) in [-1, 1]."""
        heat = self.features(images).flatten(2).softmax(dim=-1).unflatten(2, (GRID, GRID))
        return torch.stack(
            [(heat.sum(dim=2) * self.axis).sum(-1), (heat.sum(dim=3) * self.axis).sum(-1)], dim=-1
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, P, Dv)."""
        tokens = self.keypoints(images).reshape(-1, self.num_patches, self.dim)
        return (tokens - self.token_mean) / self.token_std


class KeypointDecoder(nn.Module):
    """Draws a blob at every keypoint and convolves the blobs into a picture."""

    axis: Tensor
    token_mean: Tensor
    token_std: Tensor

    def __init__(self, image_size: int, num_patches: int, dim: int, channels: int = 48) -> None:
        super().__init__()
        stride = image_size // GRID
        keypoints = num_patches * dim // 2
        self.net = nn.Sequential(
            nn.Conv2d(keypoints, channels, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, 3 * stride * stride, 3, padding=1),
            nn.PixelShuffle(stride),
        )
        self.bias = nn.Parameter(torch.zeros(3, image_size, image_size))
        self.log_width = nn.Parameter(torch.full((keypoints, 1), 0.12).log())
        self.register_buffer("axis", torch.linspace(-1, 1, GRID), persistent=False)
        self.register_buffer("token_mean", torch.zeros(num_patches, dim))
        self.register_buffer("token_std", torch.ones(()))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, P, Dv) -> (B, 3, S, S) in about [-1, 1]."""
        places = (tokens * self.token_std + self.token_mean).reshape(len(tokens), -1, 2)
        offset = (self.axis - places[..., None]) / self.log_width.exp()[..., None]
        x, y = torch.exp(-0.5 * offset.square()).unbind(dim=2)
        return self.net(y[..., :, None] * x[..., None, :]) + self.bias
