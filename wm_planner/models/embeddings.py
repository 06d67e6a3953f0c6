"""Action and proprioception embeddings: one affine map per step, as published."""

from __future__ import annotations

from torch import Tensor, nn


class StepEmbedding(nn.Module):
    """(B, T, in_dim) -> (B, T, emb_dim), a kernel-1 convolution over time.

    The parameter is named and shaped as in the released checkpoints (``patch_embed``).
    """

    def __init__(self, in_dim: int, emb_dim: int) -> None:
        super().__init__()
        self.patch_embed = nn.Conv1d(in_dim, emb_dim, kernel_size=1)

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Embed each step by itself."""
        weight = self.patch_embed.weight.squeeze(-1)
        # A linear map: the same numbers as the convolution without its transposes.
        return nn.functional.linear(x_BTI, weight, self.patch_embed.bias)
