"""A transformer block with frozen weights: forward, and by hand the derivative of its input.

Shapes: B batch, P patches of a frame, M = B * P rows, S visible keys, N heads of size E, W inner
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wm_planner.models.fast.attention import best_attention, merge_heads, split_heads
from wm_planner.models.fast.linear import FrozenLinear
from wm_planner.models.predictor import Attention, FeedForward

# Overloads by name: choosing one takes longer than a small product.
_norm_backward = torch.ops.aten.native_layer_norm_backward.default
_gelu_backward = torch.ops.aten.gelu_backward.default
_INPUT_ONLY: Any = [True, False, False]


class FrozenNorm:
    """Layer norm in float32."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self.args = (norm.normalized_shape, norm.weight.detach(), norm.bias.detach())
        self.eps = norm.eps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The result, mean and reciprocal deviation."""
        return torch.native_layer_norm(x, *self.args, self.eps)

    def backward(self, gradient: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
        """Gradient of the input, of one of the result in any type."""
        shape, weight, bias = self.args
        gradient = gradient.float()
        of_input: Tensor
        of_input, *_ = _norm_backward(gradient, x, shape, mean, rstd, weight, bias, _INPUT_ONLY)
        return of_input


class FrozenBlock:
    """One pre-norm block: products in `dtype`, norms and the residual stream in float32.

    Args:
        attention, feed_forward: whose weights are taken.
        dtype: of the products.
        num_patches, num_hist: sizes of the window. A window of one token attends to itself,
            whatever query and key are, and does without.
    """

    def __init__(
        self,
        attention: Attention,
        feed_forward: FeedForward,
        dtype: torch.dtype,
        num_patches: int,
        num_hist: int,
    ) -> None:
        self.heads = attention.heads
        self.alone = num_patches * num_hist == 1
        out, up, down = (
            cast(nn.Linear, part)
            for part in (attention.to_out[0], feed_forward.net[1], feed_forward.net[4])
        )
        self.norm = FrozenNorm(attention.norm)
        self.ff_norm = FrozenNorm(cast(nn.LayerNorm, feed_forward.net[0]))
        inner = out.in_features
        qkv = attention.to_qkv.weight.detach().clone()
        scale = (inner // self.heads) ** -0.5
        self.attention = best_attention(num_patches * num_hist, scale, qkv.device)
        qkv[:inner] *= self.attention.folded
        # By how many of (q, k, v) are wanted, counted from the end.
        self.into = {
            count: FrozenLinear(qkv[(3 - count) * inner :], None, dtype)
            for count in ([1] if self.alone else [2, 3])
        }
        self.out, self.up, self.down = (
            FrozenLinear(layer.weight, layer.bias, dtype) for layer in (out, up, down)
        )

    def forward(
        self, x: Tensor, past: Sequence[Tensor], batch: int
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """(M, W) -> (M, W), all keys and values seen, and what the derivative needs."""
        normed, *stats = self.norm.forward(x)
        seen: list[Tensor] = []
        if self.alone:
            heads, kept = self.into[1].forward(normed), []
        else:
            q, *new = self._split(self.into[3].forward(normed), 3, batch)
            seen = _append(past, new)
            heads, saved = self.attention.forward(q, *seen)
            heads, kept = merge_heads(heads), [q, *saved]
        middle = x + self.out.forward(heads)
        normed, *ff_stats = self.ff_norm.forward(middle)
        hidden = self.up.forward(normed)
        result = middle + self.down.forward(F.gelu(hidden))
        return result, seen, [x, *stats, middle, *ff_stats, hidden, *kept]

    def remember(
        self, x: Tensor, past: Sequence[Tensor], batch: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """All keys and values seen, and what their derivative needs; nothing is attended to."""
        normed, *stats = self.norm.forward(x)
        new = self._split(self.into[2].forward(normed), 2, batch)
        return _append(past, new), [x, *stats]

    def backward(
        self,
        gradient: Tensor | None,
        of_seen: Sequence[Tensor | None],
        saved: Sequence[Tensor],
        seen: Sequence[Tensor],
        batch: int,
        num_past: int,
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Derivative of `forward`, or of `remember`.

        Args:
            gradient: of the result (M, W); None after `remember`.
            of_seen: of keys and values, from what later frames did with them.
            saved, seen: as returned.
            num_past: how many of the keys are of frames before.

        Returns:
            Gradients of the input and of the keys and values of frames before.
        """
        parts: list[Tensor] = []
        if gradient is not None:
            gradient, heads = self._to_heads(gradient, saved)
            if self.alone:
                inner = self.into[1].backward(heads)
                return gradient + self.norm.backward(inner, *saved[:3]), []
            (heads,) = self._split(heads, 1, batch)
            of_q, *own = self.attention.backward(heads, saved[7], *seen, *saved[8:])
            parts.append(of_q)
            of_seen = [a if b is None else a + b for a, b in zip(own, of_seen, strict=True)]
        known = [part for part in of_seen if part is not None]
        if not known:
            return gradient, [None] * (2 if num_past else 0)
        parts += [part[:, :, num_past:] for part in known] if num_past else known
        inner = self.into[len(parts)].backward(merge_heads(*parts))
        inner = self.norm.backward(inner, *saved[:3])
        of_past: list[Tensor | None] = [part[:, :, :num_past] for part in known] if num_past else []
        return (inner if gradient is None else gradient + inner), of_past

    def _to_heads(self, gradient: Tensor, saved: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """From the result back to before the attention: of what goes round it, of its heads."""
        middle, mean, rstd, hidden = saved[3:7]
        inner = self.down.backward(gradient)
        inner = self.up.backward(_gelu_backward(inner, hidden))
        gradient = gradient + self.ff_norm.backward(inner, middle, mean, rstd)
        return gradient, self.out.backward(gradient)

    def _split(self, rows: Tensor, parts: int, batch: int) -> Sequence[Tensor]:
        return split_heads(rows, parts, self.heads, batch, self.attention.wants_copies)


def _append(past: Sequence[Tensor], new: Sequence[Tensor]) -> list[Tensor]:
    return [torch.cat(pair, dim=2) for pair in zip(past, new, strict=True)] if past else list(new)
