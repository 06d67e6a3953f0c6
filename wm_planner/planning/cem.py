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

    def __post_init__(self) -> None:
        if self.num_elites > self.num_samples:
            raise ValueError(f"num_elites {self.num_elites} exceeds num_samples {self.num_samples}")

    def _refit(
        self, samples: Tensor, costs: Tensor, mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor]:
        elites, values = self._elites(samples, costs, self.num_elites)
        weight = values.isfinite().to(samples.dtype)[:, :, None, None]
        count = weight.sum(dim=1)
        new_mean = (weight * elites).sum(dim=1) / count
        spread = weight * (elites - new_mean[:, None]).square()
        new_std = (spread.sum(dim=1) / (count - 1)).sqrt()
        # With fewer than two finite samples there is nothing to fit: search on where we are.
        enough = count >= 2
        return torch.where(enough, new_mean, mean), torch.where(enough, new_std, std)

    def _elites(self, samples: Tensor, costs: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The cheapest (B, K, H, A) samples, and their costs (B, K)."""
        values, index = costs.topk(count, dim=1, largest=False)
        rows = torch.arange(len(samples), device=samples.device)[:, None]
        return samples[rows, index], values
