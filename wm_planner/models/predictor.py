"""The transition model: a frame-causal ViT over patch tokens.

Shapes: B batch, T frames, P patches per frame, D token size, K history length.
The published predictor works at the token size itself (``width=None``) and returns its final
layer norm; the small default projects to its own width and predicts the change of the token.
Parameter names are those of the released checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wm_planner.config import Fraction, Size


@dataclass(frozen=True)
class PredictorConfig:
    """Size of a predictor.

    Attributes:
        depth: number of blocks.
        heads, dim_head: attention heads and the size of each.
        mlp_dim: hidden size of the feed-forward layers.
        dropout: dropout in attention and feed-forward layers (training only).
        width: inner size; None works at the token size, as published.
        residual: predict the change of the token instead of the token.
    """

    depth: Size = 6
    heads: Size = 16
    dim_head: Size = 64
    mlp_dim: Size = 2048
    dropout: Fraction = 0.1
    width: Size | None = None
    residual: bool = False


class Attention(nn.Module):
    """Pre-norm multi-head attention."""

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float) -> None:
        super().__init__()
        inner = heads * dim_head
        self.heads = heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, inner * 3, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(dropout))

    def forward(self, x_BND: Tensor, num_frames: int = 1) -> Tensor:
        """Every frame's share of the N tokens attends to itself and to the frames before it."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.to_qkv(self.norm(x_BND)).chunk(3, dim=-1)
        )
        dropout, size = self.dropout if self.training else 0.0, q.shape[2] // num_frames
        # Frame by frame: nothing is computed to be masked, and kernels without a mask apply.
        heads = [
            F.scaled_dot_product_attention(
                q[:, :, end - size : end], k[:, :, :end], v[:, :, :end], dropout_p=dropout
            )
            for end in range(size, q.shape[2] + 1, size)
        ]
        out = heads[0] if num_frames == 1 else torch.cat(heads, dim=2)
        result: Tensor = self.to_out(out.transpose(1, 2).flatten(2))
        return result


class FeedForward(nn.Module):
    """Pre-norm feed-forward layer with exact GELU."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """Map each token by itself."""
        result: Tensor = self.net(x_BND)
        return result


class Transformer(nn.Module):
    """Pre-norm blocks and a final layer norm."""

    def __init__(
        self, dim: int, depth: int, heads: int, dim_head: int, mlp_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [Attention(dim, heads, dim_head, dropout), FeedForward(dim, mlp_dim, dropout)]
            )
            for _ in range(depth)
        )

    def forward(self, x_BND: Tensor, num_frames: int = 1) -> Tensor:
        """Run all blocks over N tokens of so many frames."""
        for block in self.layers:
            attention, feed_forward = cast(nn.ModuleList, block)
            x_BND = x_BND + attention(x_BND, num_frames)
            x_BND = x_BND + feed_forward(x_BND)
        result: Tensor = self.norm(x_BND)
        return result


class ViTPredictor(nn.Module):
    """Predicts, for every frame of a window, the tokens of the next frame.

    Args:
        dim: token size D.
        num_patches: P.
        num_hist: longest window K.
        config: sizes.
    """

    def __init__(self, dim: int, num_patches: int, num_hist: int, config: PredictorConfig) -> None:
        super().__init__()
        self.num_patches = num_patches
        self.num_hist = num_hist
        self.residual = config.residual
        width = config.width or dim
        self.pos_embedding = nn.Parameter(torch.randn(1, num_hist * num_patches, width))
        self.transformer = Transformer(
            width, config.depth, config.heads, config.dim_head, config.mlp_dim, config.dropout
        )
        self.proj_in = nn.Linear(dim, width) if config.width else nn.Identity()
        self.proj_out = nn.Linear(width, dim) if config.width else nn.Identity()
        if config.residual and isinstance(self.proj_out, nn.Linear):
            nn.init.zeros_(self.proj_out.weight)
            nn.init.zeros_(self.proj_out.bias)

    def forward(self, z_BTPD: Tensor) -> Tensor:
        """Predict frame t+1 at position t.

        Args:
            z_BTPD: (B, T, P, D) with T <= num_hist.

        Returns:
            (B, T, P, D)

        Raises:
            ValueError: more frames or other patches than the model was built for.
        """
        batch, frames, patches, dim = z_BTPD.shape
        if frames > self.num_hist or patches != self.num_patches:
            raise ValueError(
                f"predictor takes up to {self.num_hist} frames of {self.num_patches} patches, "
                f"got {tuple(z_BTPD.shape)}"
            )
        x = self.proj_in(z_BTPD.reshape(batch, frames * patches, dim))
        x = x + self.pos_embedding[:, : frames * patches]
        x = self.proj_out(self.transformer(x, frames)).reshape(batch, frames, patches, -1)
        result: Tensor = z_BTPD + x if self.residual else x
        return result


class Window(Protocol):
    """The frames that a rollout predicts from."""

    def begin(self, z_BTPD: Tensor) -> Tensor:
        """Forget all, take T frames (the last K of them); predict the next, (B, 1, P, D)."""
        ...

    def append(self, z_B1PD: Tensor) -> Tensor:
        """Take one more frame, drop what is older than K frames; predict the next."""
        ...


class PredictorWindow:
    """A window that is predicted whole."""

    def __init__(self, predictor: ViTPredictor) -> None:
        self._predictor = predictor

    def begin(self, z_BTPD: Tensor) -> Tensor:
        """See `Window.begin`."""
        self._frames = z_BTPD[:, -self._predictor.num_hist :]
        result: Tensor = self._predictor(self._frames)
        return result[:, -1:]

    def append(self, z_B1PD: Tensor) -> Tensor:
        """See `Window.append`."""
        return self.begin(torch.cat([self._frames, z_B1PD], dim=1))
