"""One planning problem, or a batch of them: from where to where, and what a plan costs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wm_planner.models.world_model import Latent
from wm_planner.planning.costs import CostTerm, Rollout, Units
from wm_planner.planning.engine import Engine
from wm_planner.planning.objective import weighed_cost


@dataclass(frozen=True)
class Extra:
    """Terms beside the goal's distance.

    Attributes:
        goal_weight: factor of the goal's distance.
        terms: the others.
        previous: (B, 1, a) standardised: the raw actions before the first.
        units: of the robot.
        penalty: factor of the constraints' weights.
    """

    goal_weight: float
    terms: tuple[CostTerm, ...]
    previous: Tensor
    units: Units
    penalty: float = 1.0

    @property
    def is_constrained(self) -> bool:
        """Whether a term is a constraint."""
        return any(term.is_constraint for term in self.terms)

    def added(self, distance: Tensor, imagined: Latent, goal: Latent, actions: Tensor) -> Tensor:
        """(B, N) costs, from the goal's distances (B, N)."""
        rollout = Rollout(imagined, goal, actions, self.previous, self.units)
        total = self.goal_weight * distance
        for term in self.terms:
            weight = term.weight * (self.penalty if term.is_constraint else 1.0)
            total = total + weight * term(rollout)
        return total


@dataclass(frozen=True)
class Problem:
    """B problems.

    Attributes:
        now: (B, T, ...) what is seen; T is 1 for 'markov' rollouts.
        goal: (B, 1, ...).
        past_actions: (B, T - 1, A) standardised, or None.
        alpha: weight of the proprioception error.
        weights: (H + 1,) of the frames' errors, see `frame_weights`.
        extra: what a plan costs beside the goal's distance; None: nothing.
    """

    now: Latent
    goal: Latent
    past_actions: Tensor | None
    alpha: float
    weights: Tensor
    extra: Extra | None = None

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
        costs = weighed_cost(imagined, aim, self.weights, self.alpha)
        if self.extra is None:
            return costs
        return self.extra.added(costs, imagined, aim, actions_BNHA)
