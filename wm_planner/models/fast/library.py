"""Which library computes on a CPU, chosen by measurement.

torch multiplies float32 matrices by MKL, at half of its rate or less on processors of other makers.
oneDNN is in every build of torch for x86, but takes float32 products only where lower precision is
allowed; on processors without a tile unit it computes them in float32 all the same. For small
models the other way round: what oneDNN takes by itself costs more than it saves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LIBRARIES = ("usual", "onednn", "no onednn")
SMALL = 64  # tokens; below, calls cost more than products
_ROUNDS = 9
_MARGIN = 0.8  # of the usual time: less gained is not worth other last digits from run to run
_TOLERANCE = 1e-5  # relative; bfloat16 products are off by 1e-3


@contextmanager
def library(name: str) -> Iterator[None]:
    """Compute with one of `LIBRARIES` meanwhile, in all threads of the process."""
    backend: Any = torch.backends.mkldnn
    if name == "usual":
        yield
        return
    allowed, enabled = backend.matmul.fp32_precision, torch._C._get_mkldnn_enabled()
    if name == "onednn":
        backend.matmul.fp32_precision = "bf16"
    else:
        backend.set_flags(False, _fp32_precision=None)
    try:
        yield
    finally:
        if name == "onednn":
            backend.matmul.fp32_precision = allowed
        else:
            backend.set_flags(enabled, _fp32_precision=None)


def fastest_library(heads: int, num_tokens: int, head_size: int) -> str:
    """Which of `LIBRARIES` is the fastest for attention of these sizes on this machine.

    'onednn' must multiply clearly sooner than usual, with the same result to rounding.
    """
    if not _has_choice():
        return "usual"
    if num_tokens <= SMALL:
        return "no onednn"
    q, k = _draw(heads, num_tokens, head_size)
    best_s = {"usual": math.inf, "onednn": math.inf}
    for _ in range(_ROUNDS):
        for name in best_s:
            with library(name):
                begin_s = time.perf_counter()
                torch.bmm(q, k.transpose(1, 2))
                best_s[name] = min(best_s[name], time.perf_counter() - begin_s)
    faster = best_s["onednn"] < _MARGIN * best_s["usual"]
    return "onednn" if faster and _is_exact(q, k) else "usual"


def training_library(num_tokens: int, device: torch.device) -> str:
    """Which of `LIBRARIES` to train a transition model with that sees so many tokens at once.

    By a rule and not by measurement: the same run on the same machine gives the same weights.
    Attention among a few tokens is slower by oneDNN than all other products are faster.
    """
    few = 1 < num_tokens <= SMALL
    if device.type != "cpu" or few or not (_has_choice() and _is_amd()):
        return "usual"
    return "onednn" if _is_exact(*_draw(2, 64, 64)) else "usual"


def _has_choice() -> bool:
    backend: Any = torch.backends.mkldnn
    return backend.is_available() and hasattr(backend, "matmul")


def _is_amd() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and "AuthenticAMD" in cpu.read_text()


def _draw(heads: int, num_tokens: int, head_size: int) -> Tensor:
    """(2, N, S, E): queries and keys."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, heads, num_tokens, head_size, generator=generator)


def _is_exact(q: Tensor, k: Tensor) -> bool:
    """Whether oneDNN's product is that of float32."""
    expected = torch.bmm(q.double(), k.double().transpose(1, 2))
    with library("onednn"):
        result = torch.bmm(q, k.transpose(1, 2))
    return bool((result - expected).norm() < _TOLERANCE * expected.norm())


def has_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are faster than those of float32 there."""
    if device.type != "cpu":
        return True
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(supported())
