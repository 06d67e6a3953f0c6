"""Model predictive path integral control: move the mean to the cost-weighted samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.planning.sampling import SamplingSolver


@dataclass(frozen=True)
class MPPISolver(SamplingSolver):
    """Weights samples by exp(-(cost - lowest cost) / temperature).

    `control_weight` 1 adds the control cost of the published update,
    temperature * mean^T noise / std^2, which draws the plan towards the standardised action zero
    however small the temperature; 0 leaves the decision to the objective, as with other solvers.
    """

    temperature: float = 0.01
    control_weight: float = 0.0

    def _refit(
        self, samples: Tensor, costs: Tensor, mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.control_weight:
            noise = samples - mean[:, None]
            control = (mean / std.square())[:, None] * noise
            costs = costs + self.control_weight * self.temperature * control.sum(dim=(2, 3))
        weights = torch.softmax(-costs / self.temperature, dim=1)[:, :, None, None]
        some = costs.isfinite().any(dim=1)[:, None, None]
        return torch.where(some, (weights * samples).sum(dim=1), mean), std
