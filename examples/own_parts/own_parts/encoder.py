"""An encoder that 'wm-planner train' trains: each token sees one cell of the picture."""

import math

from torch import Tensor, nn

from wm_planner.models.encoder import TrainedEncoder


class PatchEncoder(TrainedEncoder):
    """(B, 3, S, S) in [-1, 1] -> (B, P, Dv), for a square number of tokens P."""

    def __init__(self, image_size: int, num_patches: int, dim: int, width: int = 32) -> None:
        super().__init__(image_size, num_patches, dim)
        cell = image_size // math.isqrt(num_patches)
        self.cells = nn.Conv2d(3, width, cell, stride=cell)
        self.out = nn.Conv2d(width, dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.out(self.cells(images).relu())
        return self.standardised(tokens.flatten(2).mT)
