"""A small encoder whose latents are places in the picture.

Convolutions make K heat maps; a spatial softmax turns each into the mean image coordinates of what
it responds to (deep spatial autoencoder, arXiv 1509.06113). Latents that are coordinates move
evenly when an object moves or turns, so that latent distance ranks pose distance: the property a
gradient planner needs where a grid of patch tokens does not have it (PushT).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wm_planner.models.decoder import Decoder
from wm_planner.models.encoder import StandardTokens, TrainedEncoder
from wm_planner.models.pixels import PixelStandard

GRID = 24  # side of the heat maps


def cell_of(image_size: int) -> int:
    """Pixels per side of a heat map's cell; pictures of other sizes get a margin up to the next."""
    return -(-image_size // GRID)


def margin_of(image_size: int) -> tuple[int, int]:
    """Pixels that are missing to whole cells, before and behind."""
    missing = cell_of(image_size) * GRID - image_size
    return missing // 2, missing - missing // 2


class KeypointEncoder(TrainedEncoder):
    """(B, 3, S, S) -> (B, P, Dv): K = P * Dv / 2 image coordinates, standardised.

    Args:
        image_size: side S of the square input. One that is no multiple of 24 gets a grey margin.
        num_patches: tokens P.
        dim: token size Dv, even; each token carries dim / 2 keypoints.
        channels: width of the convolutions.
        sharpness: the heat maps are multiplied by it before the softmax; see `EncoderTraining`.
        standardise: look at pictures standardised per pixel (`PixelStandard`).
    """

    recipe_keys = ("channels", "standardise")
    decoder = "keypoint"
    axis: Tensor

    def __init__(
        self,
        image_size: int,
        num_patches: int,
        dim: int,
        channels: int = 48,
        sharpness: float = 1.0,
        standardise: bool = False,
    ) -> None:
        super().__init__(image_size, num_patches, dim)
        if image_size < GRID or dim % 2:
            raise ValueError(
                f"image_size must be at least {GRID} and dim even, got {image_size}, {dim}"
            )
        self.num_keypoints = num_patches * dim // 2
        self.sharpness = sharpness
        self.pixels = PixelStandard(image_size) if standardise else None
        stride = cell_of(image_size)
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

    def keypoints(self, images: Tensor) -> Tensor:
        """(B, K, 2) mean image coordinates (x, y) in [-1, 1]."""
        if self.pixels is not None:
            images = self.pixels(images)
        before, behind = margin_of(self.image_size)
        if before or behind:
            images = F.pad(images, (before, behind, before, behind))
        heat = self.features(images).flatten(2)
        if self.sharpness != 1.0:
            heat = heat * self.sharpness
        heat = heat.softmax(dim=-1).unflatten(2, (GRID, GRID))
        return torch.stack(
            [(heat.sum(dim=2) * self.axis).sum(-1), (heat.sum(dim=3) * self.axis).sum(-1)], dim=-1
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, P, Dv)."""
        tokens = self.keypoints(images).reshape(-1, self.num_patches, self.dim)
        return self.standardised(tokens)


class KeypointDecoder(Decoder, StandardTokens):
    """Draws a blob at every keypoint and convolves the blobs into a picture.

    Args:
        image_size, num_patches, dim, channels: see `KeypointEncoder`.
        standardise: draw standardised pixels (`standard`), of which `forward` makes a picture.
    """

    axis: Tensor

    def __init__(
        self,
        image_size: int,
        num_patches: int,
        dim: int,
        channels: int = 48,
        standardise: bool = False,
    ) -> None:
        super().__init__(num_patches, dim)
        self.image_size = image_size
        self.pixels = PixelStandard(image_size) if standardise else None
        stride = cell_of(image_size)
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

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, P, Dv) -> (B, 3, S, S) in about [-1, 1]."""
        drawn = self.standard(tokens)
        return drawn if self.pixels is None else self.pixels.undo(drawn)

    def standard(self, tokens: Tensor) -> Tensor:
        """(B, P, Dv) -> (B, 3, S, S): standardised pixels, or the picture where it has none."""
        places = self.restored(tokens).reshape(len(tokens), -1, 2)
        offset = (self.axis - places[..., None]) / self.log_width.exp()[..., None]
        x, y = torch.exp(-0.5 * offset.square()).unbind(dim=2)
        drawn: Tensor = self.net(y[..., :, None] * x[..., None, :])
        before, _ = margin_of(self.image_size)
        seen = slice(before, before + self.image_size)
        return drawn[..., seen, seen] + self.bias
