"""Pictures of a camera that was moved, under another light or of another background, put back.

Image registration: a change of the colours and a shift, turn and zoom of each camera's picture
bring it to the training view. Where something stands still that did not in training, what the
training pictures show there is put in its place. Ten recorded episodes determine all that
(`learning.registration`). A picture that fits the training pictures as it is stays as it is, so
that the robot of before, and a picture that was taken before the change, are seen as ever.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wm_planner.models.encoder import Encoder, build_encoder
from wm_planner.models.pixels import PixelStandard
from wm_planner.models.world_model import WorldModel

KIND = "registered"
SAME = 1.5  # deviations in training: a pixel that is no further from the background shows it


class RegisteredEncoder(Encoder):
    """(B, 3, S, C * S) -> (B, P, Dv): another encoder's tokens, of pictures put back.

    Args:
        base: module with ``image_size`` S, ``num_patches`` P and ``dim`` Dv.
        cameras: how many pictures C lie side by side.

    Attributes:
        reference: the training pictures' mean and deviation.
        colour: (C, 3, 4) what is made of the colours: a matrix, and what is added.
        warp: (C, 2, 3) from places of the result to places of what is seen, each from -1 to 1.
        background: (3, S, C * S) what stands still now, after colours and warp.
        is_new: (S, C * S) whether the training pictures show something else there.
    """

    needs_base = True
    colour: Tensor
    warp: Tensor
    background: Tensor
    is_new: Tensor

    def __init__(self, base: Any, cameras: int = 1) -> None:
        super().__init__()
        self.image_size, self.num_patches, self.dim = base.image_size, base.num_patches, base.dim
        self.base = base.eval().requires_grad_(False)
        self.cameras = cameras
        self.reference = PixelStandard(self.image_size, cameras)
        self.register_buffer("colour", torch.eye(3, 4).repeat(cameras, 1, 1))
        self.register_buffer("warp", torch.eye(2, 3).repeat(cameras, 1, 1))
        self.register_buffer("background", torch.zeros_like(self.reference.mean))
        self.register_buffer("is_new", torch.zeros_like(self.background[0], dtype=torch.bool))

    @classmethod
    def build(cls, image_size: int, num_patches: int, dim: int, **settings: Any) -> Encoder:
        """`settings['base']` is the encoder that looks at the pictures."""
        base = dict(settings.pop("base", {}))
        return cls(build_encoder(base, image_size, num_patches, dim), **settings)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, C * S) in [-1, 1] -> (B, P, Dv)."""
        tokens: Tensor = self.base(self.registered(images))
        return tokens

    def registered(self, images: Tensor) -> Tensor:
        """Each camera's picture put back, where that brings it nearer to the training pictures."""
        put_back = self.put_back(images)
        before, after = (self.distances(each) for each in (images, put_back))
        nearer = (after < before)[:, None, None, :, None]
        chosen = torch.where(nearer, self._split(put_back), self._split(images))
        return chosen.flatten(3)

    def put_back(self, images: Tensor) -> Tensor:
        """All of (B, 3, S, C * S) pictures put back."""
        aligned = self.aligned(images)
        replaced = self.is_new & self.shows_background(aligned)
        return torch.where(replaced, self.reference.mean, aligned)

    def shows_background(self, aligned: Tensor) -> Tensor:
        """(B, 1, S, C * S) where pictures that are aligned show the background."""
        apart = ((aligned - self.background) / self.reference.deviation).abs()
        return apart.amax(dim=1, keepdim=True) <= SAME

    def aligned(self, images: Tensor) -> Tensor:
        """(B, 3, S, C * S) pictures with the training's colours, from the training's place."""
        parts = self._split(images).unbind(3)
        done = [
            register(part, colour, warp)
            for part, colour, warp in zip(parts, self.colour, self.warp, strict=True)
        ]
        return torch.cat(done, dim=3)

    def distances(self, images: Tensor) -> Tensor:
        """(B, C) mean squared distance from the training pictures, in their deviations."""
        return self._split(self.reference(images)).square().mean(dim=(1, 2, 4))

    def _split(self, images: Tensor) -> Tensor:
        """(B, 3, S, C * S) -> (B, 3, S, C, S)."""
        parts: Tensor = images.unflatten(3, (self.cameras, -1))
        return parts


def register(images: Tensor, colour: Tensor, warp: Tensor) -> Tensor:
    """(B, 3, S, S) pictures of one camera in [-1, 1], put back; beyond the edge it goes on.

    Args:
        images: pictures.
        colour: (3, 4) see `RegisteredEncoder`.
        warp: (2, 3) the same.
    """
    grid = F.affine_grid(warp[None].expand(len(images), -1, -1), list(images.shape), False)
    seen = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    mixed = torch.einsum("ij,bjhw->bihw", colour[:, :3], seen) + colour[:, 3, None, None]
    return mixed.clamp(-1, 1)


def is_registered(model: WorldModel) -> bool:
    """Whether a model puts pictures back."""
    return isinstance(model.encoder, RegisteredEncoder)


def unregistered(settings: dict[str, Any]) -> dict[str, Any]:
    """A card's `model.encoder`, or what it looks through if it is registered."""
    return dict(settings["base"]) if settings.get("kind") == KIND else settings
