"""One plan: from latents, a goal and a starting point to bounded actions. `Session` repeats it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from wm_planner.models.model import EmbodiedModel
from wm_planner.models.world_model import Latent
from wm_planner.planning.adaptation import Adaptation
from wm_planner.planning.bounds import Bounds, Rates, within_rates
from wm_planner.planning.config import PlannerConfig
from wm_planner.planning.costs import Units, make_terms
from wm_planner.planning.cuda_graph import CapturedSolver
from wm_planner.planning.encoding import ObservationEncoder
from wm_planner.planning.engine import Engine
from wm_planner.planning.gradient import GradientSolver
from wm_planner.planning.objective import frame_weights
from wm_planner.planning.problem import Extra, Problem
from wm_planner.planning.rest import Rest
from wm_planner.planning.solver import CostFn, SolverResult, StopFn, WatchFn, watched
from wm_planner.planning.starting_points import StartingPoints
from wm_planner.planning.upper import UpperLevel


class Planner:
    """Plans for one robot, or for a batch of problems at once; each plan by itself.

    What lasts from one plan to the next is a `Session`'s.

    Args:
        bundle: a checkpoint's, or somebody's own model with its robot.
        config: settings.

    Attributes:
        rest: what leaves the robot where it is.
        units: from standardised numbers to the robot's own.
        upper: finds subgoals; None: every plan goes towards the goal.

    Raises:
        ConfigError: the robot takes positions and its proprioception does not say where it is; or
            the settings name levels, and the bundle has no upper model.
    """

    def __init__(self, bundle: EmbodiedModel, config: PlannerConfig) -> None:
        self.bundle, self.config = bundle, config
        self.embodiment = bundle.embodiment
        self.alpha = config.objective_alpha
        size = self.embodiment.action.size
        self._solver = config.make_solver(size)
        warm = config.when_warm()
        self._warm_solver = self._solver if warm == config else warm.make_solver(size)
        self.adaptation = Adaptation(bundle.model, config, round(self.embodiment.model_dt_s * 1e9))
        self.engine = Engine(self.adaptation.model, config)
        self.encoder = ObservationEncoder(bundle)
        low, high = bundle.preprocess.action_bounds(
            self.embodiment.action.low, self.embodiment.action.high
        )
        if not config.bounded:
            low, high = torch.full_like(low, -torch.inf), torch.full_like(high, torch.inf)
        self._low, self._high = low.to(bundle.device), high.to(bundle.device)
        self.captured: CapturedSolver | None = None
        solver = self._solver  # a graph has one shape from the first iteration to the last
        if self.engine.captures and isinstance(solver, GradientSolver) and not solver.halvings:
            self.captured = CapturedSolver(solver, self._costs)
        action = self.embodiment.action
        self.rest = Rest(self.embodiment)
        self._goal_weight, self._terms = make_terms(config.costs)
        self.units = Units(bundle)
        for term in self._terms:
            term.check(self.units)
        self.upper: UpperLevel | None = None
        if config.levels is not None:
            self.upper = UpperLevel(bundle, config, self.engine, self.units)
        self._starts = StartingPoints(config, bundle.preprocess.action_dim, action.size)
        self._raw_step: Tensor | None = None  # (a,) physical
        if config.bounded and action.limits_rate:
            rates = torch.tensor(action.max_rate, dtype=torch.float64)
            step = torch.where(rates > 0, rates * self.embodiment.control_dt_s, torch.inf)
            # By so much do roundings of the physical rows, in float32, change a change.
            largest = max(map(abs, (*action.low, *action.high)))
            self._rounding = 8 * torch.finfo(torch.float32).eps * largest
            self._raw_step = step.to(bundle.device)

    @property
    def num_frames(self) -> int:
        """Frames that an observation should hold."""
        return self.config.num_frames(self.bundle.num_hist)

    @property
    def dt_ns(self) -> int:
        """Control period of the plan's rows, nanoseconds."""
        return round(self.embodiment.control_dt_s * 1e9)

    @property
    def max_seconds(self) -> float:
        """What a plan may take when the robot does not wait for it."""
        return self.config.max_seconds or self.config.replan_steps * self.embodiment.model_dt_s

    def generator(self) -> torch.Generator:
        """A new random generator, at the beginning of the configured seed."""
        return torch.Generator(self.bundle.device).manual_seed(self.config.seed)

    def plan_latents(
        self,
        now: Latent,
        goal: Latent,
        warm: Tensor | None,
        step: int,
        generator: torch.Generator,
        past_actions: Tensor | None = None,
        alpha: float | None = None,
        should_stop: StopFn | None = None,
        num_committed: int = 0,
        rest: np.ndarray | None = None,
        previous: np.ndarray | None = None,
        watch: WatchFn | None = None,
        macro_warm: Tensor | None = None,
    ) -> SolverResult:
        """Plan for B problems at once; each plan is the one that it would be alone.

        Args:
            now: (B, T, ...) latents; goal: (B, 1, ...).
            warm: (B, H, A) standardised starting point, or None.
            step: model steps since the first plan towards these goals.
            generator: source of randomness.
            past_actions: (B, T - 1, A) standardised, for 'history' rollouts with T > 1.
            alpha: weight of the proprioception error; None takes the planner's.
            should_stop: see `Solver.solve`.
            num_committed: raw actions that the robot will have taken before it has this plan. They
                stay what it will take: those of the warm start, or rest when there is none.
            rest: (B, a) raw actions that leave the robots where they are, physical units; only a
                robot that takes positions needs them (see `Rest`).
            previous: (B, a) raw actions that the robots took last, physical units, from which the
                plan's first one may differ by no more than the rate allows; None: rest.
            watch: told of each iteration.
            macro_warm: (B, M, Z) starting point of the upper level, or None.

        Raises:
            ValueError: no rest is given of a robot that takes positions.
            PlanningError: no finite plan was found.
        """
        if self.config.rollout == "markov":
            now, past_actions = now.frames(slice(-1, None)), None
        weight = self.alpha if alpha is None else alpha
        config = self.config
        weights = frame_weights(config.objective, config.objective_base, config.horizon, step)
        at_rest = self._at_rest(now, rest)
        if self.engine.refresh() and self.captured is not None:
            self.captured.forget()
        subgoal = None
        if self.upper is not None:
            subgoal = self.upper.subgoal(
                now, goal, past_actions, weight, warm, macro_warm, generator, should_stop
            )
        problem = Problem(
            now,
            goal if subgoal is None else subgoal.aim,
            past_actions,
            weight,
            weights.to(now.visual.device),
            self._extra(at_rest, previous),
        )
        with self.engine.products():
            result = self._solve(
                problem,
                warm,
                generator,
                should_stop,
                num_committed,
                at_rest,
                previous,
                watch,
            )
        if subgoal is None:
            return result
        count = result.num_evaluations + subgoal.num_evaluations
        return replace(result, num_evaluations=count, subgoal=subgoal)

    def raw_actions(self, actions: Tensor, bounds: Bounds | None = None) -> Tensor:
        """(B, H, A) standardised -> (B, H * frame_skip, a) physical, inside the bounds.

        Args:
            actions: of a `SolverResult`, or others.
            bounds: of the same result: what it says of rates is kept exactly, too.
        """
        rows = self.bundle.preprocess.denormalise_actions(actions)
        rows = rows.reshape(len(actions), -1, self.embodiment.action.size)
        if self.config.bounded:  # against the rounding of the standardisation
            limits = self.embodiment.action.low, self.embodiment.action.high
            rows = rows.clamp(*(rows.new_tensor(bound) for bound in limits))
        if bounds is not None and bounds.rates is not None and self._raw_step is not None:
            rows = self._within_rates(rows, bounds.rates)
        return rows

    def _within_rates(self, rows: Tensor, rates: Rates) -> Tensor:
        """(B, R, a) physical rows whose changes keep the rates also after rounding."""
        assert self._raw_step is not None
        step = (self._raw_step - self._rounding).clamp(min=0)
        step = torch.where(rates.step.isfinite(), step, torch.inf).to(rows)
        previous = self.units.raw_actions(rates.previous)
        return within_rates(rows[:, None], Rates(step, previous))[:, 0]

    def _normalise(self, raw: np.ndarray) -> Tensor:
        """(B, a) physical raw actions -> (B, A) standardised actions that hold them."""
        held = np.tile(np.asarray(raw, dtype=np.float32), (1, self.embodiment.frame_skip))
        return self.bundle.preprocess.normalise_actions(held).to(self.bundle.device)

    def _at_rest(self, now: Latent, rest: np.ndarray | None) -> Tensor:
        """(B, A) standardised actions that leave the robots where they are."""
        if rest is None:
            if self.rest.fixed is None:
                raise ValueError("a robot that takes positions rests where it is: give rest")
            rest = np.broadcast_to(self.rest.fixed, (len(now.visual), len(self.rest.fixed)))
        return self._normalise(rest)

    def shift(self, actions: Tensor, num_raw: int) -> Tensor:
        """Drop the first raw actions of (B, H, A) standardised plans and rest at the end.

        Shifting by raw steps keeps what is being executed in phase, also when a replan comes
        between two model steps. Rest, not the last action again: a plan that ends at the goal
        stays there, and one that does not is at least not carried past its horizon. A robot that
        takes positions rests where the plan has brought it: at the last position.
        """
        split = (len(actions), -1, self.embodiment.action.size)
        rows = actions.reshape(split)
        kept = rows[:, num_raw:]
        if self.rest.fixed is None:
            rest = kept[:, -1:].expand_as(rows)
        else:
            rest = self._normalise(self.rest.fixed[None])[:, None].expand_as(actions).reshape(split)
        return torch.cat([kept, rest[:, kept.shape[1] :]], dim=1).reshape(actions.shape)

    def _bounds(
        self,
        warm: Tensor | None,
        num_committed: int,
        rest: Tensor,
        previous: np.ndarray | None,
    ) -> Bounds:
        """The robot's bounds and rates, closed around the raw actions that are decided already."""
        size, batch = self.embodiment.action.size, len(rest)
        low, high = self._low, self._high
        count = num_committed * size
        shape = (batch, self.config.horizon, rest.shape[1])
        if count:
            taken = (rest[:, None].expand(shape) if warm is None else warm).flatten(1)[:, :count]
            low, high = (x.expand(shape).flatten(1).clone() for x in (low, high))
            low[:, :count] = high[:, :count] = taken
            low, high = low.view(shape)[:, None], high.view(shape)[:, None]
        if self._raw_step is None:
            return Bounds(low, high)
        std = torch.tensor(self.bundle.preprocess.action_std, dtype=torch.float64)
        # Twice, so that `raw_actions` has nothing to change.
        step = (self._raw_step - 2 * self._rounding).clamp(min=0)
        step = (step / std.to(step)).to(rest)
        step = step.repeat(shape[1] * shape[2] // size, 1)
        step[:num_committed] = torch.inf
        last = rest if previous is None else self._normalise(previous)
        last = last.clamp(self._low, self._high)[:, None, :size]  # nearest place of the plan's own
        return Bounds(low, high, Rates(step, last))

    def _costs(self, problem: Problem, actions_BNHA: Tensor) -> Tensor:
        return problem.costs(self.engine, actions_BNHA)

    def _solve(
        self,
        problem: Problem,
        warm: Tensor | None,
        generator: torch.Generator,
        should_stop: StopFn | None,
        num_committed: int,
        rest: Tensor,
        previous: np.ndarray | None,
        watch: WatchFn | None,
    ) -> SolverResult:
        config = self.config
        is_warm = warm is not None
        points = self._starts.draw(rest, warm, generator)
        bounds = self._bounds(warm, num_committed, rest, previous)
        points = bounds.project(points)
        points, screened = self._starts.keep_best(partial(self._costs, problem), points, is_warm)
        budget, result = config.iterations(is_warm), None
        for round_problem, count in self._rounds(problem, budget):
            cost_fn: CostFn = partial(self._costs, round_problem)
            stop = should_stop
            if watch is not None:
                cost_fn, stop = watched(cost_fn, should_stop, watch)
            args = points, bounds, generator, count, stop
            found = None
            if self.captured is not None and watch is None and problem.extra is None:
                found = self.captured.solve(problem, *args)
            if found is None:
                solver = self._warm_solver if is_warm else self._solver
                found = solver.solve(cost_fn, *args)
            result = found if result is None else _joined(result, found)
            points = found.actions[:, None]
        assert result is not None
        return replace(result, num_evaluations=result.num_evaluations + screened, bounds=bounds)

    def _rounds(self, problem: Problem, budget: int) -> Iterator[tuple[Problem, int]]:
        """The problem and its iterations; with constraints, round after round as they grow.

        The penalty method (Nocedal and Wright, Numerical Optimization, 17.1).
        """
        extra, config = problem.extra, self.config
        if extra is None or not extra.is_constrained:
            yield problem, budget
            return
        num_rounds = min(config.penalty_rounds, budget)
        for index in range(num_rounds):
            penalty = config.penalty_growth ** (index + 1 - num_rounds)
            count = budget * (index + 1) // num_rounds - budget * index // num_rounds
            yield replace(problem, extra=replace(extra, penalty=penalty)), count

    def _extra(self, rest: Tensor, previous: np.ndarray | None) -> Extra | None:
        """What a plan costs beside the distance; None: nothing."""
        if not self._terms and self._goal_weight == 1:
            return None
        last = rest if previous is None else self._normalise(previous)
        size = self.embodiment.action.size
        return Extra(self._goal_weight, self._terms, last[:, None, :size], self.units)


def _joined(first: SolverResult, second: SolverResult) -> SolverResult:
    """What came of two rounds."""
    return replace(
        second,
        initial_costs=first.initial_costs,
        num_evaluations=first.num_evaluations + second.num_evaluations,
        trace=torch.cat([first.trace, second.trace]),
    )
