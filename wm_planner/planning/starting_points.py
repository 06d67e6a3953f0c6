"""Where a descent begins: the last plan or the initialisation, others around it, the best of them.

Shapes: B problems, N starting points, H model steps, A model action size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wm_planner.planning.config import PlannerConfig
from wm_planner.planning.noise import coloured
from wm_planner.planning.solver import CostFn

MAX_ROLLOUTS = 512  # candidates that are rolled out together, of all problems


class StartingPoints:
    """Draws and screens starting points.

    Args:
        config: settings of the planner.
        action_dim: A.
        action_size: entries of one raw action.
    """

    def __init__(self, config: PlannerConfig, action_dim: int, action_size: int) -> None:
        self._config, self._action_dim, self._action_size = config, action_dim, action_size

    def _num_kept(self, warm: bool) -> int:
        return min(self._config.num_restarts, self._num_drawn(warm))

    def _num_drawn(self, warm: bool) -> int:
        config = self._config
        if not config.descends:
            return 1
        if warm and config.warm_candidates is not None:
            return config.warm_candidates
        return max(config.num_restarts, config.num_candidates)

    def draw(self, rest: Tensor, warm: Tensor | None, generator: torch.Generator) -> Tensor:
        """(B, N, H, A): `warm` (B, H, A) or the initialisation first, others spread around it.

        Args:
            rest: (B, A) standardised actions that leave the robots where they are.
            warm: the last plan, if it is at hand.
            generator: source of randomness.
        """
        config, batch, device = self._config, len(rest), rest.device
        shape = (self._num_drawn(warm is not None), config.horizon, self._action_dim)
        if warm is None and config.init == "randn" and config.descends:
            noise = torch.randn(shape, generator=generator, device=device)
            return noise.expand(batch, *shape)
        held = (*shape[:2], self._action_size)
        noise = torch.randn(held, generator=generator, device=device)
        if config.restart_exponent and config.horizon > 1:
            noise = coloured(noise, config.restart_exponent)
        spread = config.restart_std * noise.repeat(1, 1, self._action_dim // self._action_size)
        spread[0] = 0
        centre = rest[:, None].expand(batch, *shape[1:]) if warm is None else warm
        return centre[:, None] + spread

    def keep_best(self, cost_fn: CostFn, points: Tensor, warm: bool) -> tuple[Tensor, int]:
        """The first of (B, N, H, A) points and the others of least cost, as many as restarts.

        Returns:
            The points, and the rollouts made of each problem to find them.
        """
        num_drawn, num_kept = points.shape[1], self._num_kept(warm)
        if num_drawn == num_kept:
            return points, 0
        together = max(1, MAX_ROLLOUTS // len(points))  # more at once only take more memory
        with torch.no_grad():
            costs = torch.cat([cost_fn(part) for part in points.split(together, dim=1)], dim=1)
        costs = torch.where(costs.isfinite(), costs, torch.inf)
        costs[:, 0] = -torch.inf
        index = costs.topk(num_kept, dim=1, largest=False).indices
        return points[torch.arange(len(points))[:, None], index], num_drawn
