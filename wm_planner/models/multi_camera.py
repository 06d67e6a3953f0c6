"""Several cameras in one picture: side by side, left to right, as the embodiment names them.

One encoder looks at each camera's picture, and their tokens lie side by side. A camera that a
recording lacks is a black picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wm_planner.models.decoder import Decoder, build_decoder
from wm_planner.models.encoder import Encoder, StandardTokens, TrainedEncoder, build_encoder
from wm_planner.models.pixels import PixelStandard


class MultiCameraEncoder(TrainedEncoder):
    """(B, 3, S, C * S) -> (B, C * P, Dv): tokens of the first camera, then of the second one.

    Args:
        base: module with ``image_size`` S, ``num_patches`` P and ``dim`` Dv that maps
            (B, 3, S, S) in [-1, 1] to (B, P, Dv); it looks at every camera.
        cameras: C.
        standardise: look at pixels standardised one by one, in each camera by itself.
    """

    needs_base = True

    def __init__(self, base: Any, cameras: int, standardise: bool = False) -> None:
        _check(cameras)
        super().__init__(base.image_size, cameras * base.num_patches, base.dim)
        self.base, self.cameras = base, cameras
        self.pixels = PixelStandard(self.image_size, cameras) if standardise else None

    @classmethod
    def build(cls, image_size: int, num_patches: int, dim: int, **settings: Any) -> Encoder:
        """`settings['base']` is the encoder of each picture; the P are those of all cameras."""
        each = num_patches // settings["cameras"]
        return cls(build_encoder(settings.pop("base", {}), image_size, each, dim), **settings)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, C * S) in [-1, 1] -> (B, C * P, Dv)."""
        if self.pixels is not None:
            images = self.pixels(images)
        views = images.unflatten(3, (self.cameras, -1)).movedim(3, 1).flatten(0, 1)
        tokens = self.base(views).unflatten(0, (-1, self.cameras)).flatten(1, 2)
        return self.standardised(tokens)


class MultiCameraDecoder(Decoder, StandardTokens):
    """(B, C * P, Dv) -> (B, 3, S, C * S): each camera's picture by a decoder of its own.

    Args:
        bases: C modules that map (B, P, Dv) to (B, 3, S, S).
        image_size: S.
        num_patches: C * P.
        dim: Dv.
        standardise: the bases draw standardised pixels, of which `forward` makes pictures.
    """

    def __init__(
        self,
        bases: Sequence[nn.Module],
        image_size: int,
        num_patches: int,
        dim: int,
        standardise: bool = False,
    ) -> None:
        _check(len(bases))
        super().__init__(num_patches, dim)
        self.bases = nn.ModuleList(bases)
        self.pixels = PixelStandard(image_size, len(bases)) if standardise else None

    @classmethod
    def build(cls, text: str, image_size: int, num_patches: int, dim: int) -> Decoder | None:
        """Of 'C:KIND'; standardised pixels are the whole picture's affair."""
        count, _, kind = text.partition(":")
        cameras = int(count)
        name, _, settings = kind.partition(":")
        kept = [item for item in settings.split(",") if item and item != "standardise=1"]
        one = ":".join([name, *([",".join(kept)] if kept else [])])
        each = num_patches // cameras
        built = [build_decoder(one, image_size, each, dim) for _ in range(cameras)]
        bases = [base for base in built if base is not None]
        if not bases:
            return None
        return cls(bases, image_size, num_patches, dim, "standardise=1" in settings.split(","))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, C * P, Dv) -> (B, 3, S, C * S) in about [-1, 1]."""
        drawn = self.standard(tokens)
        return drawn if self.pixels is None else self.pixels.undo(drawn)

    def standard(self, tokens: Tensor) -> Tensor:
        """(B, C * P, Dv) -> (B, 3, S, C * S): standardised pixels, or pictures without any."""
        parts = self.restored(tokens).chunk(len(self.bases), dim=1)
        drawn = [base(part) for base, part in zip(self.bases, parts, strict=True)]
        return torch.cat(drawn, dim=3)


def _check(cameras: int) -> None:
    if cameras < 2:
        raise ValueError(f"cameras must be at least 2 for kind multi, got {cameras}")
