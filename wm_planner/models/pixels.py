"""Pictures in units of how much each pixel changes.

In a scene seen by a fixed camera most pixels never change, and a small dark object changes few of
them by little. Standardised per pixel, whatever moves stands out by itself, so that one recipe
reads a scene that nobody has tuned it for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = 0.2  # of the whole set's deviation, so that a still pixel's noise is not blown up
LIMIT = (
    10.0  # standard deviations; what a still pixel shows for the first time is no more than that
)
_LEAST = 1 / 127.5  # one grey level: the deviation of a set of equal pictures


class PixelStandard(nn.Module):
    """(B, 3, S, C * S) in [-1, 1] -> the same pixels with about zero mean and unit deviation.

    The statistics are buffers: they travel with the checkpoint.

    Args:
        image_size: side S of each camera's picture.
        cameras: C, how many pictures lie side by side.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, image_size: int, cameras: int = 1) -> None:
        super().__init__()
        self.cameras = cameras
        shape = (3, image_size, cameras * image_size)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))

    @torch.no_grad()
    def measure(self, images: Tensor) -> None:
        """Set the statistics to those of (N, 3, S, C * S) images in [-1, 1]."""
        mean = images.mean(dim=0)
        self.take(mean, (images - mean).square().mean(dim=0))

    @torch.no_grad()
    def take(self, mean: Tensor, variance: Tensor) -> None:
        """Set the statistics to those of pictures of which each pixel's (3, S, C * S) are known."""
        of_cameras = variance.unflatten(2, (self.cameras, -1))  # a moving camera's own floor
        floor = (FLOOR**2 * of_cameras.mean(dim=(0, 1, 3))).clamp(min=_LEAST**2)
        deviation = (of_cameras + floor[:, None]).sqrt().flatten(2)
        # Float16 numbers, as in a saved encoder: what is trained on is what will be used.
        self.mean.copy_(mean.half())
        self.deviation.copy_(deviation.half())

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return ((images - self.mean) / self.deviation).clamp(-LIMIT, LIMIT)

    def undo(self, standard: Tensor) -> Tensor:
        """Pictures in [-1, 1] of what `forward` gave, but for what it has cut off."""
        return standard * self.deviation + self.mean
