"""Noise of plans that hold on to what they do."""

from __future__ import annotations

import torch
from torch import Tensor


def coloured(white: Tensor, exponent: float) -> Tensor:
    """White noise (N, T, A) whose power, along T, falls with the frequency to `exponent`.

    By scaling its spectrum (Timmer and König, 1995); the variance stays 1 in the mean.
    """
    steps = white.shape[1]
    scale = torch.fft.rfftfreq(steps, device=white.device)
    scale[0] = scale[1]  # the mean varies like the slowest wave
    scale = scale ** (-exponent / 2)
    twice = torch.full_like(scale, 2.0)  # every wave but these stands for two in the spectrum
    twice[0] = 1
    if steps % 2 == 0:
        twice[-1] = 1
    scale = scale / ((twice * scale.square()).sum() / steps).sqrt()
    waves: Tensor = torch.fft.rfft(white, dim=1) * scale[:, None]
    noise: Tensor = torch.fft.irfft(waves, n=steps, dim=1)
    return noise
