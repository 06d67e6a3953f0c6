"""What can be read from numbers: a linear readout, a small network, and how far they are right.

Legend: n rows, d numbers to read from, m columns to read. Rows of one trajectory belong to one
group, and a group is either fitted or tested.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COMPONENTS = 512  # principal ones that a linear readout uses, at most
NETWORK_COMPONENTS = 128  # that a network does, which learns faster from fewer
WIDTH, STEPS, BATCH = 64, 250, 256  # of the small network, two hidden layers
_LOOK = 25  # updates between looks at rows that the network is not trained on
_RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # of the mean variance of a component
_STILL = 1e-6  # a deviation below which a column does not change


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of columns, of the rows that were fitted."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Scale:
        """What never changes is left in its unit."""
        deviation = values.std(dim=0)
        least = _STILL * values.abs().mean(dim=0).clamp(min=1.0)
        return cls(values.mean(dim=0), torch.where(deviation > least, deviation, 1.0))

    def standard(self, values: Tensor) -> Tensor:
        """(n, m) with zero mean and unit deviation."""
        return (values - self.mean) / self.deviation


def components(latent: Tensor, fitted: Tensor, most: int = COMPONENTS) -> Tensor:
    """(n, c) principal components, by falling variance, of (n, d); found on the rows `fitted`."""
    centred = (latent - latent[fitted].mean(dim=0)).double()
    rows = centred[fitted]
    most = min(most, *rows.shape)
    if rows.shape[1] <= 2048:
        _, vectors = torch.linalg.eigh(rows.T @ rows)
        return centred @ vectors.flip(1)[:, :most]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, vectors = torch.pca_lowrank(rows, most, center=False)
    return centred @ vectors


def read_linearly(source: Tensor, target: Tensor, groups: Tensor, fitted: Tensor) -> Tensor:
    """(n, m) what a ridge regression on the rows `fitted` reads.

    Args:
        source: (n, d).
        target: (n, m).
        groups: (n,) whole numbers.
        fitted: (n,) bool. The ridge is the one of a few that does best on a fifth of their groups.
    """
    source, target = source.double(), target.double()
    scale, goal = Scale.of(source[fitted]), Scale.of(target[fitted])
    x = (source - scale.mean) / source[fitted].std().clamp(min=1e-12)  # one factor for all
    y = goal.standard(target)
    kept = _kept(groups, fitted)
    tried = fitted & ~kept
    errors = [
        float((x[kept] @ _ridge(x[tried], y[tried], r) - y[kept]).square().sum()) for r in _RIDGES
    ]
    best = _RIDGES[errors.index(min(errors))]
    return x @ _ridge(x[fitted], y[fitted], best) * goal.deviation + goal.mean


def _kept(groups: Tensor, fitted: Tensor) -> Tensor:
    """(n,) bool, a fifth of the fitted groups, to choose by; none of a single one."""
    known = groups[fitted].unique()
    return torch.isin(groups, known[1::5]) & fitted


def _ridge(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    gram = x.T @ x
    weight = ridge * gram.diagonal().mean().clamp(min=1e-12)
    system = gram + weight * torch.eye(len(gram), dtype=x.dtype)
    return torch.linalg.solve(system, x.T @ y)


def read_by_network(
    source: Tensor, target: Tensor, groups: Tensor, fitted: Tensor, seed: int = 0
) -> Tensor:
    """(n, m) what a small network reads beside a linear path, trained on the rows `fitted`.

    A fifth of their groups say when it was best, or whether it is worth nothing. Columns of
    `target` count by their variance; bring them to one scale first. Arguments as of
    `read_linearly`, and a seed of weights and batches.
    """
    linear = read_linearly(source, target, groups, fitted)
    rest = target - linear
    x, size = Scale.of(source[fitted]).standard(source).float(), rest[fitted].std()
    y = (rest / size.clamp(min=1e-12)).float()
    kept = _kept(groups, fitted)
    rows = (fitted & ~kept).nonzero().squeeze(1)
    steps = max(_LOOK, min(STEPS, len(rows)))  # few rows are soon learnt by heart
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(x.shape[1], WIDTH),
            nn.GELU(),
            nn.Linear(WIDTH, WIDTH),
            nn.GELU(),
            nn.Linear(WIDTH, y.shape[1]),
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps)
        best, least = None, float(y[kept].square().mean()) if kept.any() else 0.0
        for step in range(1, steps + 1):
            chosen = rows[torch.randint(len(rows), (min(BATCH, len(rows)),))]
            loss = F.mse_loss(network(x[chosen]), y[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % _LOOK == 0:
                with torch.no_grad():
                    error = float(F.mse_loss(network(x[kept]), y[kept])) if kept.any() else -step
                if error < least:
                    best, least = copy.deepcopy(network), error
    if best is None:
        return linear
    with torch.no_grad():
        return linear + best(x).double() * size


def explained(read: Tensor, target: Tensor, mean: Tensor) -> float | None:
    """R2: share of the spread of (n, m) targets around `mean` (m,) that was read.

    None where the target does not change.
    """
    spread = (target - mean).square().sum()
    if float(spread) <= len(target) * _STILL**2:
        return None
    return float(1 - (read - target).square().sum() / spread)
