"""A term of the cost: motion along y is not wanted."""

from dataclasses import dataclass

from wm_planner.planning.costs import Term


@dataclass(frozen=True)
class Sideways(Term):
    """Mean square of the second entry of the raw actions, physical units."""

    def __call__(self, rollout):
        return rollout.raw_actions()[..., 1].square().mean(dim=2)
