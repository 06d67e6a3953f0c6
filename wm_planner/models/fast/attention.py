"""Attention and its derivative by hand, in two forms, and the layout of heads.

Shapes: B batch, P queries and S keys of N heads of size E, M = B * P rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wm_planner.models.fast.library import SMALL

# Overloads by name: choosing one takes longer than a small product.
_softmax_backward = torch.ops.aten._softmax_backward_data.default
_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


class ProductAttention:
    """Two batched products around a softmax.

    Attributes:
        folded: part of the scale of the logits that the caller gives to the weights of q.
    """

    wants_copies = True

    def __init__(self, scale: float) -> None:
        self.folded = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Heads (B, N, P, E) of q times `folded`, and what `backward` needs."""
        weights = torch.bmm(_flat(q), _flat(k).transpose(1, 2)).softmax(dim=-1)
        return torch.bmm(weights, _flat(v)).view(q.shape), [weights]

    def backward(
        self, gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *saved: Tensor
    ) -> list[Tensor]:
        """Gradients of q, k and v."""
        (weights,), of_heads = saved, _flat(gradient)
        logits = torch.bmm(of_heads, _flat(v).transpose(1, 2))
        logits = _softmax_backward(logits, weights, -1, weights.dtype)
        of_q = torch.bmm(logits, _flat(k))
        of_k = torch.bmm(logits.transpose(1, 2), _flat(q))
        of_v = torch.bmm(weights.transpose(1, 2), of_heads)
        return [of_q.view(q.shape), of_k.view(k.shape), of_v.view(v.shape)]


class FusedAttention:
    """The CPU kernel of `scaled_dot_product_attention`, without its choice among kernels."""

    wants_copies = False
    folded = 1.0

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See `ProductAttention.forward`."""
        saved = _fused(q, k, v, scale=self._scale)
        return saved[0], list(saved)

    def backward(
        self, gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *saved: Tensor
    ) -> list[Tensor]:
        """See `ProductAttention.backward`."""
        return list(_fused_backward(gradient, q, k, v, *saved, 0.0, False, scale=self._scale))


def best_attention(
    num_keys: int, scale: float, device: torch.device
) -> ProductAttention | FusedAttention:
    """The faster form for windows of so many keys: fused where calls cost more than products."""
    small = device.type == "cpu" and num_keys <= SMALL
    return FusedAttention(scale) if small else ProductAttention(scale)


def split_heads(rows: Tensor, parts: int, heads: int, batch: int, copy: bool) -> Sequence[Tensor]:
    """(M, parts * N * E) -> `parts` of (B, N, P, E).

    Args:
        copy: make them contiguous, all at once, for products that would do it one by one.
    """
    x = rows.view(batch, rows.shape[0] // batch, parts, heads, -1)
    if copy:
        return x.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
    return x.transpose(1, 3).unbind(2)


def merge_heads(*parts: Tensor) -> Tensor:
    """`parts` of (B, N, P, E) -> (M, parts * N * E)."""
    batch, _, count, _ = parts[0].shape
    turned = [part.transpose(1, 2) for part in parts]
    rows = turned[0] if len(turned) == 1 else torch.cat(turned, dim=2)
    return rows.reshape(batch * count, -1)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(0, 1)
