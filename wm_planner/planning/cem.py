"""The cross-entropy method: sample, keep the elites, refit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.planning.sampling import SamplingSolver


@dataclass(frozen=True)
class CEMSolver(SamplingSolver):
    """Refits a diagonal Gaussian to the `num_elites` cheapest samples."""

    num_elites: int = 30

    def _refit(
        self, samples: Tensor, costs: Tensor, mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor]:
        values, index = costs.topk(self.num_elites, dim=1, largest=False)
        elites = samples[torch.arange(len(samples), device=samples.device)[:, None], index]
        weight = values.isfinite().to(samples.dtype)[:, :, None, None]
        count = weight.sum(dim=1)
        new_mean = (weight * elites).sum(dim=1) / count
        spread = weight * (elites - new_mean[:, None]).square()
        new_std = (spread.sum(dim=1) / (count - 1)).sqrt()
        # With fewer than two finite samples there is nothing to fit: search on where we are.
        enough = count >= 2
        return torch.where(enough, new_mean, mean), torch.where(enough, new_std, std)
