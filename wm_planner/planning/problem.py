"""One planning problem, or a batch of them: from where to where, and what a plan costs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wm_planner.models.world_model import Latent
from wm_planner.planning.engine import Engine
from wm_planner.planning.objective import weighed_cost


@dataclass(frozen=True)
class Problem:
    """B problems.

    Attributes:
        now: (B, T, ...) what is seen; T is 1 for 'markov' rollouts.
        goal: (B, 1, ...).
        past_actions: (B, T - 1, A) standardised, or None.
        alpha: weight of the proprioception error.
        weights: (H + 1,) of the frames' errors, see `frame_weights`.
    """

    now: Latent
    goal: Latent
    past_actions: Tensor | None
    alpha: float
    weights: Tensor

    def costs(self, engine: Engine, actions_BNHA: Tensor) -> Tensor:
        """(B, N) costs of N candidates of each problem."""
        lead = actions_BNHA.shape[:2]

        def each(x: Tensor) -> Tensor:  # a view when B or N is 1
            return x[:, None].expand(-1, lead[1], *x.shape[1:]).flatten(0, 1)

        flat = engine.rollout(
            Latent(each(self.now.visual), each(self.now.proprio)),
            actions_BNHA.flatten(0, 1),
            None if self.past_actions is None else each(self.past_actions),
        )
        imagined = Latent(flat.visual.unflatten(0, lead), flat.proprio.unflatten(0, lead))
        aim = Latent(self.goal.visual[:, None], self.goal.proprio[:, None])
        return weighed_cost(imagined, aim, self.weights, self.alpha)
