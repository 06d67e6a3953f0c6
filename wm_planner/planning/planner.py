"""Receding-horizon planning with a bundle: set a goal, then an observation in, a plan out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.errors import PlanningError
from wm_planner.models.bundle import Bundle
from wm_planner.models.world_model import Latent
from wm_planner.planning.cem import CEMSolver
from wm_planner.planning.config import PlannerConfig
from wm_planner.planning.gradient import GradientSolver
from wm_planner.planning.objective import goal_cost
from wm_planner.planning.solver import Solver, SolverResult, StopFn
from wm_planner.tasks import get_task
from wm_planner.types import Goal, Observation, Plan


@dataclass(frozen=True)
class PlanDetail:
    """What else is known about the last plan.

    Attributes:
        initial_cost: cost of the starting point.
        num_evaluations: rollouts made.
        actions: (H, A) standardised model actions.
        now: (1, T, ...) latent of the observation.
    """

    initial_cost: float
    num_evaluations: int
    actions: Tensor
    now: Latent


def make_solver(config: PlannerConfig) -> Solver:
    """The solver that `config` names."""
    if config.solver == "cem":
        return CEMSolver(config.num_samples, config.num_elites, config.init_std)
    return GradientSolver(
        config.learning_rate, config.optimizer, config.action_noise_std, config.best_so_far
    )


class Planner:
    """Plans for one robot, or for a batch of problems at once.

    Args:
        bundle: model, preprocessing and task.
        config: settings; `objective_alpha` None takes the task's.
    """

    def __init__(self, bundle: Bundle, config: PlannerConfig) -> None:
        self.bundle, self.config = bundle, config
        self.task = get_task(bundle.task)
        self.alpha = (
            self.task.objective_alpha if config.objective_alpha is None else config.objective_alpha
        )
        self.last: PlanDetail | None = None
        self._solver = make_solver(config)
        low, high = bundle.preprocess.action_bounds(self.task.action_low, self.task.action_high)
        if not config.bounded:
            low, high = torch.full_like(low, -torch.inf), torch.full_like(high, torch.inf)
        self._low, self._high = low.to(bundle.device), high.to(bundle.device)
        rest = torch.zeros(bundle.preprocess.action_dim)
        self._rest = bundle.preprocess.normalise_actions(rest).to(bundle.device)
        self.clear()

    @property
    def dt_ns(self) -> int:
        """Control period of the plan's rows, nanoseconds."""
        return round(self.task.control_dt_s * 1e9)

    def clear(self) -> None:
        """Forget goal and warm start; the random generator starts again from its seed."""
        self._goal: Latent | None = None
        self._alpha = self.alpha
        self._previous: Plan | None = None
        self._replans = 0
        self._generator = torch.Generator(self.bundle.device).manual_seed(self.config.seed)

    def set_goal(self, goal: Goal) -> None:
        """Encode the goal, once, and start afresh towards it."""
        self.clear()
        self._goal = self.bundle.encode_goal(goal)
        self._alpha = self.alpha if goal.proprio is not None else 0.0

    def plan(self, observation: Observation, should_stop: StopFn | None = None) -> Plan:
        """Plan from an observation.

        Args:
            observation: its stamp becomes the plan's; frames beyond the newest are used by
                'history' rollouts.
            should_stop: see `Solver.solve`.

        Raises:
            PlanningError: no goal is set, or no finite plan was found.
        """
        if self._goal is None:
            raise PlanningError("no goal is set: send a goal image first")
        begin = time.perf_counter()
        now = self.bundle.encode_observation(observation)
        past = None
        if observation.actions is not None:
            normalise = self.bundle.preprocess.normalise_actions
            past = normalise(observation.actions)[None].to(self.bundle.device)
        warm = self._shifted(observation.stamp_ns)
        result = self.plan_latents(
            now, self._goal, warm, self._replans, self._generator, past, self._alpha, should_stop
        )
        actions = self.bundle.preprocess.denormalise_actions(result.actions[0])
        rows = actions.reshape(-1, self.task.action_size).cpu()
        if self.config.bounded:
            low, high = torch.tensor(self.task.action_low), torch.tensor(self.task.action_high)
            rows = rows.clamp(low, high)  # rounding of the standardisation
        self.last = PlanDetail(
            float(result.initial_costs[0]), result.num_evaluations, result.actions[0], now
        )
        plan = Plan(
            observation.stamp_ns,
            self.dt_ns,
            rows.numpy(),
            float(result.costs[0]),
            time.perf_counter() - begin,
        )
        self._previous = plan
        self._replans += 1
        return plan

    def imagine(self) -> Latent:
        """(1, H + 1, ...) rollout of the last plan.

        Raises:
            PlanningError: there is no plan yet.
        """
        if self.last is None:
            raise PlanningError("there is no plan to imagine yet")
        with torch.no_grad():
            return self.bundle.model.rollout(
                self.last.now.frames(slice(-1, None)), self.last.actions[None], mode="markov"
                if self.config.rollout == "markov" else "history"
            )

    def plan_latents(
        self,
        now: Latent,
        goal: Latent,
        warm: Tensor | None,
        replan: int,
        generator: torch.Generator,
        past_actions: Tensor | None = None,
        alpha: float | None = None,
        should_stop: StopFn | None = None,
    ) -> SolverResult:
        """Plan for B problems at once.

        Args:
            now: (B, T, ...) latents; goal: (B, 1, ...).
            warm: (B, H, A) standardised starting point, or None.
            replan: plans made before towards these goals.
            generator: source of randomness.
            past_actions: (B, T - 1, A) standardised, for 'history' rollouts with T > 1.
            alpha: weight of the proprioception error; None takes the planner's.
            should_stop: see `Solver.solve`.
        """
        alpha = self.alpha if alpha is None else alpha
        config, model = self.config, self.bundle.model

        def cost_fn(actions_BNHA: Tensor) -> Tensor:
            batch, count = actions_BNHA.shape[:2]

            def repeat(x: Tensor) -> Tensor:
                return x[:, None].expand(-1, count, *x.shape[1:]).flatten(0, 1)

            imagined = model.rollout(
                Latent(repeat(now.visual), repeat(now.proprio)),
                actions_BNHA.flatten(0, 1),
                None if past_actions is None else repeat(past_actions),
                config.rollout,
            )
            goals = Latent(repeat(goal.visual), repeat(goal.proprio))
            cost = goal_cost(
                imagined, goals, config.objective, config.objective_base, alpha, replan
            )
            return cost.unflatten(0, (batch, count))

        init = self._starting_points(len(now.visual), warm, generator)
        iterations = config.num_iterations
        if warm is not None and config.warm_iterations is not None:
            iterations = config.warm_iterations
        return self._solver.solve(
            cost_fn, init, self._low, self._high, generator, iterations, should_stop
        )

    def _starting_points(
        self, batch: int, warm: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """(B, N, H, A): the warm start or the initialisation first, then spread around it."""
        config = self.config
        shape = (batch, config.num_restarts, config.horizon, len(self._rest))
        noise = torch.randn(shape, generator=generator, device=self._rest.device)
        if warm is not None:
            init = warm[:, None] + config.restart_std * noise
            init[:, 0] = warm
        elif config.init == "randn" and config.solver != "cem":
            init = noise
        else:
            init = self._rest + config.restart_std * noise
            init[:, 0] = self._rest
        return init

    def _shifted(self, stamp_ns: int) -> Tensor | None:
        """(1, H, A) the last plan from `stamp_ns` on, resting where it has run out.

        Shifting by raw steps keeps what is being executed in phase, also when a replan comes
        between two model steps.
        """
        if self._previous is None or not self.config.warm_start:
            return None
        passed = round((stamp_ns - self._previous.stamp_ns) / self.dt_ns)
        rows = torch.as_tensor(self._previous.actions)
        if not 0 <= passed < len(rows):
            return None
        padded = torch.zeros_like(rows)
        padded[: len(rows) - passed] = rows[passed:]
        steps = padded.reshape(self.config.horizon, -1)
        return self.bundle.preprocess.normalise_actions(steps)[None].to(self.bundle.device)
