"""A linear layer with frozen weights, by the product that is the fastest for it on a CPU.

Shapes: M rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LANES = 16  # float32 numbers of an AVX-512 register
_PACKED_WORK = 1_000_000  # products; with fewer, the packed call costs more than it saves
_HALF_ROWS = 64  # with more, the time no longer goes with reading the weights
_half_product: Callable[..., Tensor] | None = getattr(
    torch, "fbgemm_linear_fp16_weight_fp32_activation", None
)


class FrozenLinear:
    """A linear layer in `dtype`.

    On a CPU the products of many rows take weights that are packed once, for each direction. Those
    of few rows wait for the weights: if all weights are float16 numbers, as in checkpoints that are
    stored so, they are kept in half the bytes and widened on the way, which changes nothing.

    Attributes:
        halves: all weights are float16 numbers, and there are such products here.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.dtype, self.weight = dtype, weight.detach().to(dtype)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.turned = self.weight.t()
        self.halves = _can_halve(self.weight)
        self._half: tuple[Tensor, Tensor] | None = None
        packs = weight.device.type == "cpu" and _can_pack()
        # A single row reads the weights once either way.
        self._least_rows = max(2, _PACKED_WORK / weight.numel()) if packs else math.inf
        self._packed: tuple[_Packed, _Packed] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(M, in) -> (M, out)."""
        if self.halves and x.shape[0] <= _HALF_ROWS:
            return _half_product(x, self._halve()[0], self.bias)  # type: ignore[misc]
        if x.dtype != self.dtype:
            x = x.to(self.dtype)
        if x.shape[0] >= self._least_rows:
            return self._pack(x.shape[0])[0](x)
        if self.bias is None:
            return torch.mm(x, self.turned)
        return torch.addmm(self.bias, x, self.turned)

    def backward(self, gradient: Tensor) -> Tensor:
        """(M, out) -> (M, in)."""
        if self.halves and gradient.shape[0] <= _HALF_ROWS:
            return _half_product(gradient, self._halve()[1], None)  # type: ignore[misc]
        if gradient.dtype != self.dtype:
            gradient = gradient.to(self.dtype)
        if gradient.shape[0] >= self._least_rows:
            return self._pack(gradient.shape[0])[1](gradient)
        return torch.mm(gradient, self.weight)

    def _halve(self) -> tuple[Tensor, Tensor]:
        if self._half is None:
            self._half = _halved(self.weight), _halved(self.turned)
        return self._half

    def _pack(self, rows: int) -> tuple[_Packed, _Packed]:
        if self._packed is None:
            self._packed = (
                _Packed(self.weight, self.bias, rows),
                _Packed(self.turned, None, rows),
            )
        return self._packed


class _Packed:
    """Weights (out, in) in the layout that oneDNN wants for products of about so many rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int) -> None:
        self._size = len(weight)
        self._tail = -self._size % _LANES  # a part of a vector costs more than a whole one
        weight = F.pad(weight, (0, 0, 0, self._tail)).contiguous()
        self._bias = None if bias is None else F.pad(bias, (0, self._tail))
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows)

    def __call__(self, x: Tensor) -> Tensor:
        y = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        result: Tensor = y[:, : self._size] if self._tail else y
        return result


def _can_pack() -> bool:
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in names
    )


def _can_halve(weight: Tensor) -> bool:
    """Whether there are products of float16 weights and float32 rows, and nothing is lost."""
    if _half_product is None or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return False
    return "fbgemm" in torch.backends.quantized.supported_engines and torch.equal(
        weight.half().float(), weight
    )


def _halved(weight: Tensor) -> Tensor:
    with warnings.catch_warnings():  # torch means to drop these calls; `_can_halve` looks for them
        warnings.simplefilter("ignore", UserWarning)
        pack: Any = torch.fbgemm_pack_gemm_matrix_fp16
        packed: Tensor = pack(weight.contiguous())
        assert _half_product is not None
        _half_product(weight[:1], packed, None)  # warns once, here
    return packed
