"""Model predictive path integral control: move the mean to the cost-weighted samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.planning.sampling import SamplingSolver


@dataclass(frozen=True)
class MPPISolver(SamplingSolver):
    """Weights samples by exp(-(cost - lowest cost) / temperature).

    The published update also adds temperature * mean^T noise / std^2; here the effort term of the
    cost says what actions cost, as with the other solvers.
    """

    temperature: float = 0.01

    def _refit(
        self, samples: Tensor, costs: Tensor, mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor]:
        weights = torch.softmax(-costs / self.temperature, dim=1)[:, :, None, None]
        some = costs.isfinite().any(dim=1)[:, None, None]
        return torch.where(some, (weights * samples).sum(dim=1), mean), std
