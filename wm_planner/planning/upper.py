"""The upper level of plans over two time scales: macro-actions, and the subgoal they lead to.

After Zhang et al. (arXiv 2604.03208), by gradients: macro-actions descend the distance of what the
upper model imagines from the goal. The first frame that it imagines, a macro-step ahead, is what
the lower level plans towards. Macro-actions of the training data are about N(0, I), so their mean
square is a price that keeps a plan where the upper model knows what it says.

Near the goal a subgoal only leads astray. There the lower level plans towards the goal itself:
where later frames of the macro-plan come hardly nearer to the goal than the first one, or hardly
nearer than the present, or where the end of the last plan is nearer to it than the subgoal.

Shapes: B problems, M macro-steps, Z macro-action size, K model steps of a macro-step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor

from wm_planner.errors import ConfigError
from wm_planner.models.model import EmbodiedModel
from wm_planner.models.world_model import Latent
from wm_planner.planning.bounds import Bounds
from wm_planner.planning.config import PlannerConfig
from wm_planner.planning.costs import CostTerm, Rollout, Term, Units
from wm_planner.planning.engine import Engine
from wm_planner.planning.objective import frame_errors, frame_weights
from wm_planner.planning.problem import Extra, Problem
from wm_planner.planning.solver import StopFn
from wm_planner.planning.starting_points import StartingPoints


@dataclass(frozen=True)
class Subgoal:
    """What the lower level plans towards, and why.

    Attributes:
        aim: (B, 1, ...) latents, the goal itself where it is near.
        is_near: (B,) whether it is.
        macro_actions: (B, M, Z).
        num_evaluations: rollouts made for each problem, in rollouts of the lower level.
    """

    aim: Latent
    is_near: Tensor
    macro_actions: Tensor
    num_evaluations: int

    def __getitem__(self, robots: list[int]) -> Subgoal:
        """Those of some problems."""
        parts = self.aim[robots], self.is_near[robots], self.macro_actions[robots]
        return Subgoal(*parts, self.num_evaluations)


@dataclass(frozen=True)
class _Prior(Term):
    """Mean square of the macro-actions' entries."""

    def __call__(self, rollout: Rollout) -> Tensor:
        return rollout.actions.square().mean(dim=(2, 3))


class UpperLevel:
    """Finds subgoals.

    Args:
        bundle: with an upper model.
        config: of the planner, with levels.
        engine: rolls out the lower level.
        units: of the robot.

    Raises:
        ConfigError: the bundle has no upper model.
    """

    def __init__(
        self, bundle: EmbodiedModel, config: PlannerConfig, engine: Engine, units: Units
    ) -> None:
        upper, levels = bundle.upper, config.levels
        if upper is None or levels is None:
            raise ConfigError(
                "levels: this checkpoint has no upper model; make one by 'wm-planner train upper "
                "--checkpoint CHECKPOINT', or plan without levels"
            )
        self._levels, self._config, self._units = levels, config.of_upper(), units
        self._lower, self._engine = engine, Engine(upper.model, self._config)
        self._lower_horizon = config.horizon
        self._solver = self._config.make_solver()
        self._size, self._device = upper.macro_dim, bundle.device
        self._starts = StartingPoints(self._config, self._size, self._size)
        self._num_raw = upper.steps * bundle.embodiment.frame_skip
        most = torch.full((self._size,), levels.max_entry, device=self._device)
        self._bounds = Bounds(-most, most)

    def fits(self, macro_actions: Tensor) -> bool:
        """Whether a plan could start from these: they may be another model's."""
        return macro_actions.shape[1:] == (self._levels.macro_horizon, self._size)

    def shift(self, macro_actions: Tensor, num_raw: int) -> Tensor:
        """(B, M, Z) macro-plans from so many raw actions later on; the last macro-action stays.

        Within a macro-step, its share of the next macro-action is taken.
        """
        whole, rest = divmod(num_raw, self._num_raw)
        share, count = rest / self._num_raw, macro_actions.shape[1]
        longer = torch.cat([macro_actions, macro_actions[:, -1:].expand(-1, whole + 1, -1)], dim=1)
        return longer[:, whole : whole + count].lerp(longer[:, whole + 1 :][:, :count], share)

    def subgoal(
        self,
        now: Latent,
        goal: Latent,
        past_actions: Tensor | None,
        alpha: float,
        warm: Tensor | None,
        macro_warm: Tensor | None,
        generator: torch.Generator,
        should_stop: StopFn | None = None,
    ) -> Subgoal:
        """The subgoals of B problems.

        Args:
            now: (B, T, ...); goal: (B, 1, ...).
            past_actions: (B, T - 1, A), of the lower level.
            alpha: weight of the proprioception error.
            warm: (B, H, A) the last plan, shifted; None: there is none.
            macro_warm: (B, M, Z) the last macro-plan, shifted; None: there is none.
            generator: source of randomness.
            should_stop: see `Solver.solve`.

        Raises:
            PlanningError: no finite macro-plan was found.
        """
        config, is_warm, engine = self._config, macro_warm is not None, self._engine
        newest = now.frames(slice(-1, None))
        weights = frame_weights("all", config.objective_base, config.horizon)
        problem = Problem(
            newest, goal, None, alpha, weights.to(self._device), self._prior(len(goal.visual))
        )
        engine.refresh()
        with engine.products():
            costs = partial(problem.costs, engine)
            mean = torch.zeros(len(goal.visual), self._size, device=self._device)
            points = self._bounds.project(self._starts.draw(mean, macro_warm, generator))
            points, screened = self._starts.keep_best(costs, points, is_warm)
            count = config.iterations(is_warm)
            found = self._solver.solve(costs, points, self._bounds, generator, count, should_stop)
            with torch.no_grad():
                imagined = engine.rollout(newest, found.actions, None)
        distances = frame_errors(imagined, goal, alpha)
        present, first = distances[:, 0], distances[:, 1]
        best = distances[:, 2:].amin(dim=1)
        is_near = torch.minimum(first, present) - best < self._levels.near * present
        if warm is not None:
            with torch.no_grad(), self._lower.products():
                last = self._lower.rollout(now, warm, past_actions).frames(slice(-1, None))
            is_near |= frame_errors(last, goal, alpha)[:, 0] < first
        calls = (found.num_evaluations + screened + 1) * config.horizon
        return Subgoal(
            _where(is_near, goal, imagined.frames(slice(1, 2))),
            is_near,
            found.actions,
            round(calls / self._lower_horizon) + (warm is not None),
        )

    def _prior(self, batch: int) -> Extra | None:
        weight = self._levels.prior_weight
        if weight == 0:
            return None
        none = torch.zeros(batch, 1, self._size, device=self._device)
        # A frozen dataclass, as every term is; the protocol's weight is not read-only.
        prior = cast(CostTerm, _Prior(weight))
        return Extra(1.0, (prior,), none, self._units)


def _where(first: Tensor, one: Latent, other: Latent) -> Latent:
    """(B, 1, ...): `one` where `first` (B,) says so, else `other`."""
    visual = torch.where(first[:, None, None, None], one.visual, other.visual)
    return Latent(visual, torch.where(first[:, None, None], one.proprio, other.proprio))
