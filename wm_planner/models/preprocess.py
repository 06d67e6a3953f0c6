"""From raw frames and physical units to what the model takes, and back.

Travels inside the checkpoint: training and planning use the same instance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wm_planner.config import Size
from wm_planner.embodiment import Embodiment


@dataclass(frozen=True)
class Preprocess:
    """Image size and normalisation statistics.

    Attributes:
        image_size: side S of each camera's square picture, pixels.
        frame_skip: raw actions per model action.
        action_mean, action_std: of one raw action, physical units.
        proprio_mean, proprio_std: of the proprioception vector, physical units.
        num_cameras: how many pictures C lie side by side in the model's input.
    """

    image_size: Size
    frame_skip: Size
    action_mean: tuple[float, ...]
    action_std: tuple[float, ...]
    proprio_mean: tuple[float, ...]
    proprio_std: tuple[float, ...]
    num_cameras: Size = 1

    def __post_init__(self) -> None:
        for name in ("action", "proprio"):
            mean, std = getattr(self, f"{name}_mean"), getattr(self, f"{name}_std")
            if len(mean) != len(std):
                raise ValueError(f"{name}_mean has {len(mean)} entries, {name}_std {len(std)}")
            if not all(np.isfinite(mean)) or not all(np.isfinite(s) and s > 0 for s in std):
                raise ValueError(f"{name}_mean must be finite and {name}_std positive, got {std}")

    @classmethod
    def plain(cls, embodiment: Embodiment) -> Preprocess:
        """Of a model that takes physical units: nothing is shifted or scaled but the pictures."""
        size, entries = embodiment.action.size, len(embodiment.proprio)
        return cls(
            embodiment.image_size,
            embodiment.frame_skip,
            *((0.0,) * size, (1.0,) * size, (0.0,) * entries, (1.0,) * entries),
            num_cameras=len(embodiment.cameras),
        )

    @property
    def action_dim(self) -> int:
        """Size of a model action."""
        return self.frame_skip * len(self.action_mean)

    def images(self, images: np.ndarray | Tensor) -> Tensor:
        """uint8 RGB (..., H, W, 3) -> float32 (..., 3, S, C * S) in [-1, 1].

        The shorter side is resized to S (bilinear, antialiased), then the centre is cropped.
        Of several cameras' pictures side by side, each is resized by itself.

        Raises:
            ValueError: the width is not that of C pictures.
        """
        if self.num_cameras > 1:
            width = images.shape[-2]
            if width != self.num_cameras * images.shape[-3]:
                raise ValueError(
                    f"expected {self.num_cameras} square pictures side by side, got a picture of "
                    f"{width} x {images.shape[-3]} pixels"
                )
            parts = torch.as_tensor(images).chunk(self.num_cameras, dim=-2)
            return torch.cat([self._square(part) for part in parts], dim=-1)
        return self._square(images)

    def _square(self, images: np.ndarray | Tensor) -> Tensor:
        x = torch.as_tensor(images)
        lead = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2).to(torch.float32) / 255.0
        height, width = x.shape[-2:]
        size = self.image_size
        if min(height, width) != size:
            scale = size / min(height, width)
            shape = (size, int(width * scale)) if height <= width else (int(height * scale), size)
            x = F.interpolate(x, shape, mode="bilinear", antialias=True, align_corners=False)
            height, width = shape
        top, left = round((height - size) / 2.0), round((width - size) / 2.0)
        x = x[..., top : top + size, left : left + size]
        return ((x - 0.5) / 0.5).reshape(*lead, 3, size, size)

    def normalise_actions(self, actions: np.ndarray | Tensor) -> Tensor:
        """Physical model actions (..., f*a) -> standardised."""
        mean, std = self._stats("action")
        return (torch.as_tensor(actions, dtype=torch.float32) - mean) / std

    def denormalise_actions(self, actions: Tensor) -> Tensor:
        """Standardised model actions (..., f*a) -> physical units."""
        mean, std = self._stats("action")
        return actions * std.to(actions) + mean.to(actions)

    def normalise_proprio(self, proprio: np.ndarray | Tensor) -> Tensor:
        """Physical proprioception (..., p) -> standardised."""
        mean, std = self._stats("proprio")
        return (torch.as_tensor(proprio, dtype=torch.float32) - mean) / std

    def denormalise_proprio(self, proprio: Tensor) -> Tensor:
        """Standardised proprioception (..., p) -> physical units."""
        mean, std = self._stats("proprio")
        return proprio * std.to(proprio) + mean.to(proprio)

    def action_bounds(
        self, low: tuple[float, ...], high: tuple[float, ...]
    ) -> tuple[Tensor, Tensor]:
        """Bounds of one raw action in physical units -> (f*a,) standardised bounds."""
        repeated = (torch.tensor(bound).repeat(self.frame_skip) for bound in (low, high))
        lowest, highest = (self.normalise_actions(bound) for bound in repeated)
        return lowest, highest

    def _stats(self, kind: str) -> tuple[Tensor, Tensor]:
        """Mean and deviation of what the model takes: 'action' (f*a,) or 'proprio' (p,)."""
        repeat = self.frame_skip if kind == "action" else 1
        values = (getattr(self, f"{kind}_{name}") for name in ("mean", "std"))
        mean, std = (torch.tensor(v, dtype=torch.float32).repeat(repeat) for v in values)
        return mean, std
