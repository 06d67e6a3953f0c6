"""Receding-horizon planning with a bundle: set a goal, then an observation in, a plan out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from wm_planner.errors import PlanningError
from wm_planner.models.bundle import Bundle
from wm_planner.models.world_model import Latent
from wm_planner.planning.adaptation import Adaptation
from wm_planner.planning.bounds import Bounds, Rates, within_rates
from wm_planner.planning.config import PlannerConfig
from wm_planner.planning.cuda_graph import CapturedSolver
from wm_planner.planning.encoding import EncodedObservation, ObservationEncoder
from wm_planner.planning.engine import Engine
from wm_planner.planning.gradient import GradientSolver
from wm_planner.planning.init_network import starting_network
from wm_planner.planning.objective import frame_weights
from wm_planner.planning.problem import Problem
from wm_planner.planning.rest import Rest
from wm_planner.planning.solver import SolverResult, StopFn
from wm_planner.planning.starting_points import StartingPoints
from wm_planner.types import Goal, Observation, Plan


@dataclass(frozen=True)
class PlanDetail:
    """What else is known about the last plan.

    Attributes:
        initial_cost: cost of the starting point.
        num_evaluations: rollouts made.
        actions: (1, H, A) standardised model actions.
        observation: what it was planned from.
        rows: (H * frame_skip, a) the same actions, physical units.
        previous: (1, a) the raw action that the plan followed; None: rest.
    """

    initial_cost: float
    num_evaluations: int
    actions: Tensor
    observation: EncodedObservation
    rows: np.ndarray
    previous: np.ndarray | None


class Planner:
    """Plans for one robot, or for a batch of problems at once.

    The same calls after `set_goal` give the same plans, bit for bit.

    Args:
        bundle: model, preprocessing and embodiment.
        config: settings.

    Attributes:
        rest: what leaves the robot where it is.

    Raises:
        ConfigError: init 'network', and the bundle has none, or one of another horizon; or the
            robot takes positions and its proprioception does not say where it is.
    """

    def __init__(self, bundle: Bundle, config: PlannerConfig) -> None:
        self.bundle, self.config = bundle, config
        self.embodiment = bundle.embodiment
        self.alpha = config.objective_alpha
        self._solver = config.make_solver(self.embodiment.action.size)
        self.adaptation = Adaptation(bundle.model, config, round(self.embodiment.model_dt_s * 1e9))
        self.engine = Engine(self.adaptation.model, config)
        self._encoder = ObservationEncoder(bundle)
        self._network = starting_network(bundle, config)
        low, high = bundle.preprocess.action_bounds(
            self.embodiment.action.low, self.embodiment.action.high
        )
        if not config.bounded:
            low, high = torch.full_like(low, -torch.inf), torch.full_like(high, torch.inf)
        self._low, self._high = low.to(bundle.device), high.to(bundle.device)
        self.captured: CapturedSolver | None = None
        if self.engine.captures and isinstance(self._solver, GradientSolver):
            self.captured = CapturedSolver(self._solver, self._costs)
        action = self.embodiment.action
        self.rest = Rest(self.embodiment)
        self._starts = StartingPoints(config, bundle.preprocess.action_dim, action.size)
        self._raw_step: Tensor | None = None  # (a,) physical
        if config.bounded and action.limits_rate:
            rates = torch.tensor(action.max_rate, dtype=torch.float64)
            step = torch.where(rates > 0, rates * self.embodiment.control_dt_s, torch.inf)
            # By so much do roundings of the physical rows, in float32, change a change.
            largest = max(map(abs, (*action.low, *action.high)))
            self._rounding = 8 * torch.finfo(torch.float32).eps * largest
            self._raw_step = step.to(bundle.device)
        self.clear()

    @property
    def encodes_concurrently(self) -> bool:
        """Whether another thread may `encode` while a plan is computed, and gain by it."""
        return self._encoder.is_concurrent

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

    def clear(self) -> None:
        """Forget goal, warm start and adaptation; the random generator starts from its seed."""
        self.adaptation.restore()
        self._goal: Latent | None = None
        self._alpha = self.alpha
        self.last: PlanDetail | None = None
        self._first_ns: int | None = None
        self._generator = self.generator()

    def set_goal(self, goal: Goal) -> None:
        """Encode the goal, once, and start afresh towards it.

        Without proprioception only the images are compared.
        """
        self.clear()
        with self.engine.encoding():
            self._goal = self.bundle.encode_goal(goal)
        self._alpha = self.alpha if goal.proprio is not None else 0.0

    def encode(self, observation: Observation) -> EncodedObservation:
        """What the model sees of an observation. Frames beyond the newest are used by 'history'
        rollouts and adaptation.
        """
        with self.engine.encoding():
            return self._encoder(observation)

    def plan(
        self,
        observation: Observation | EncodedObservation,
        should_stop: StopFn | None = None,
        num_committed: int = 0,
    ) -> Plan:
        """Plan from an observation.

        Args:
            observation: encoded or not; its stamp becomes the plan's, and says how far to shift the
                last plan and which stage of the objective it is: give each its own time.
            should_stop: see `Solver.solve`.
            num_committed: see `plan_latents`.

        Returns:
            The plan, inside the task's bounds; `seconds` is for the caller to fill in, who has a
            clock.

        Raises:
            PlanningError: no goal is set, or no finite plan was found.
        """
        if self._goal is None:
            raise PlanningError("no goal is set: send a goal image first")
        if isinstance(observation, Observation):
            observation = self.encode(observation)
        observation.wait()
        self.adaptation.learn(observation.now, observation.past_actions, observation.stamp_ns)
        if self._first_ns is None:
            self._first_ns = observation.stamp_ns
        previous = self._previous(observation)
        result = self.plan_latents(
            observation.now,
            self._goal,
            self._warm_start(observation.stamp_ns),
            round(
                (observation.stamp_ns - self._first_ns) / (self.dt_ns * self.embodiment.frame_skip)
            ),
            self._generator,
            past_actions=observation.past_actions,
            alpha=self._alpha,
            should_stop=should_stop,
            num_committed=num_committed,
            rest=self.rest.at(observation.proprio),
            previous=previous,
        )
        rows = self.raw_actions(result.actions, result.bounds)[0].cpu().numpy()
        self.last = PlanDetail(
            float(result.initial_costs[0]),
            result.num_evaluations,
            result.actions,
            observation,
            rows,
            previous,
        )
        return Plan(observation.stamp_ns, self.dt_ns, rows, float(result.costs[0]))

    def is_warm(self, stamp_ns: int) -> bool:
        """Whether a plan from an observation of that time would begin with the last one."""
        return self._warm_start(stamp_ns) is not None

    def imagine(self) -> Latent:
        """(1, H + 1, ...) what the model expects of the last plan.

        Raises:
            PlanningError: there is no plan yet.
        """
        if self.last is None:
            raise PlanningError("there is no plan to imagine yet")
        at, actions = self.last.observation, self.last.actions
        with torch.no_grad(), self.engine.products():
            return self.engine.rollout(at.now, actions, at.past_actions)

    def picture_distance(self) -> float:
        """Mean squared error of the visual tokens: what the last plan was made from, to the goal.

        Raises:
            PlanningError: there is no plan yet.
        """
        if self.last is None or self._goal is None:
            raise PlanningError("there is no plan whose distance could be told yet")
        seen = self.last.observation.now.visual[:, -1]
        return float((seen - self._goal.visual[:, 0]).square().mean())

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

        Raises:
            ValueError: no rest is given of a robot that takes positions.
            PlanningError: no finite plan was found.
        """
        if self.config.rollout == "markov":
            now, past_actions = now.frames(slice(-1, None)), None
        weight = self.alpha if alpha is None else alpha
        config = self.config
        weights = frame_weights(config.objective, config.objective_base, config.horizon, step)
        problem = Problem(now, goal, past_actions, weight, weights.to(now.visual.device))
        if self.engine.refresh() and self.captured is not None:
            self.captured.forget()
        with self.engine.products():
            return self._solve(
                problem,
                warm,
                generator,
                should_stop,
                num_committed,
                self._at_rest(now, rest),
                previous,
            )

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
        previous = self._denormalise(rates.previous)
        return within_rates(rows[:, None], Rates(step, previous))[:, 0]

    def _denormalise(self, raw: Tensor) -> Tensor:
        """(..., a) standardised raw actions -> physical."""
        model = raw.repeat(*[1] * (raw.ndim - 1), self.embodiment.frame_skip)
        return self.bundle.preprocess.denormalise_actions(model)[..., : raw.shape[-1]]

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

    def _previous(self, observation: EncodedObservation) -> np.ndarray | None:
        """(1, a) the raw action that the robot took last before an observation, as far as known:
        what was sent, or else what was planned."""
        if observation.past_actions is not None:
            last = observation.past_actions[:, -1, -self.embodiment.action.size :]
            return self._denormalise(last).cpu().numpy()
        if self.last is None:
            return None
        passed = self._passed(observation.stamp_ns)
        if passed == 0:  # planned from the same observation again
            return self.last.previous
        return self.last.rows[passed - 1 : passed] if 0 < passed <= len(self.last.rows) else None

    def _passed(self, stamp_ns: int) -> int:
        """Control periods since the observation of the last plan."""
        assert self.last is not None
        return round((stamp_ns - self.last.observation.stamp_ns) / self.dt_ns)

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

    def _warm_start(self, stamp_ns: int) -> Tensor | None:
        """(1, H, A) what is left of the last plan at `stamp_ns`; None when nothing is."""
        if self.last is None or not self.config.warm_start:
            return None
        num_raw = self._passed(stamp_ns)
        if not 0 <= num_raw < self.config.horizon * self.bundle.preprocess.frame_skip:
            return None
        return self.shift(self.last.actions, num_raw)

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
    ) -> SolverResult:
        config = self.config
        cost_fn = partial(self._costs, problem)
        start = warm
        if warm is None and self._network is not None:
            with torch.no_grad():
                start = self._network(problem.now, problem.goal)
        is_warm = warm is not None
        points = self._starts.draw(rest, start, is_warm, generator)
        bounds = self._bounds(warm, num_committed, rest, previous)
        points, screened = self._starts.keep_best(cost_fn, bounds.project(points), is_warm)
        budget, result = config.iterations(is_warm), None
        args = points, bounds, generator, budget, should_stop
        if self.captured is not None:
            result = self.captured.solve(problem, *args)
        if result is None:
            result = self._solver.solve(cost_fn, *args)
        return replace(result, num_evaluations=result.num_evaluations + screened, bounds=bounds)
