"""Planning again and again towards a goal: all that lasts from one plan to the next.

A robot has a session of its own. An evaluation has one for the episodes that it plans together, so
both plan in the same way. B robots are planned for side by side; a single one is B = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wm_planner.errors import PlanningError
from wm_planner.models.world_model import Latent
from wm_planner.planning.encoding import EncodedObservation
from wm_planner.planning.expected import ExpectedSeconds
from wm_planner.planning.planner import Planner
from wm_planner.planning.solver import StopFn, WatchFn, stop_after
from wm_planner.planning.upper import Subgoal
from wm_planner.types import Goal, Observation, Plan


@dataclass(frozen=True)
class Planned:
    """Plans for B robots, made from the same moment.

    Attributes:
        actions: (B, H, A) standardised model actions.
        rows: (B, H * frame_skip, a) the same, physical units, inside the bounds.
        costs: (B,) of the plans; initial_costs: (B,) of their starting points.
        num_evaluations: rollouts made for each robot.
        num_committed: rows that were decided before, because the robots were expected to have
            taken them by now.
        observation: what they were made from.
        previous: (B, a) the raw actions that they follow, physical units; None: rest.
        seconds: by the session's clock; NaN without one.
        subgoal: what they lead to, of a planner of two levels; costs are those of its aim.
    """

    actions: Tensor
    rows: np.ndarray
    costs: Tensor
    initial_costs: Tensor
    num_evaluations: int
    num_committed: int
    observation: EncodedObservation
    previous: np.ndarray | None
    seconds: float
    subgoal: Subgoal | None = None


class Session:
    """Plans with a warm start, towards goals that stay until they are replaced.

    It owns the goals, the last plan, the random numbers, what the model has learnt on the way, how
    long plans take, which actions are decided before a plan is there, and how far the objective's
    stages are. The same calls after `set_goal` or `begin` give the same plans, bit for bit.

    Args:
        planner: makes each plan.
        clock: seconds; None: no time is taken, and no plan is cut short.
        max_seconds: what a plan may take when the robot does not wait for it; None: the planner's.

    Attributes:
        last: the newest plan; None before the first.
    """

    def __init__(
        self,
        planner: Planner,
        clock: Callable[[], float] | None = None,
        max_seconds: float | None = None,
    ) -> None:
        self.planner = planner
        self._clock = clock or (lambda: math.nan)
        self._max_seconds = planner.max_seconds if max_seconds is None else max_seconds
        self._expected = ExpectedSeconds()
        self.clear()

    def clear(self) -> None:
        """Forget the goals, the last plan and what the model has learnt; random numbers begin
        again.
        """
        self.planner.adaptation.restore()
        self._goal: Latent | None = None
        self._alpha: float | None = None
        self._goal_seconds = 0.0
        self._first_ns: int | None = None
        self._generator = self.planner.generator()
        self.last: Planned | None = None

    def set_goal(self, goal: Goal) -> None:
        """Begin afresh towards the goal of one robot; without proprioception only the images are
        compared.
        """
        begin_s = self._clock()
        with self.planner.engine.encoding():
            latent = self.planner.bundle.encode_goal(goal)
        self.begin(latent, None if goal.proprio is not None else 0.0)
        self._goal_seconds = self._clock() - begin_s

    def begin(self, goal: Latent, alpha: float | None = None) -> None:
        """Begin afresh towards the goals (B, 1, ...) of B robots.

        Args:
            goal: latents.
            alpha: weight of the proprioception error; None: the planner's.
        """
        self.clear()
        self._goal, self._alpha = goal, alpha

    def take_over(self, other: Session, goal: Goal) -> None:
        """Go on towards the goal of one robot where the session of another checkpoint is.

        Stage, random numbers, what is expected of plans' times and, where both models know actions
        by the same numbers, the last plan are taken from it.
        """
        self.set_goal(goal)
        self._expected, self._first_ns = other._expected, other._first_ns
        self._generator.set_state(other._generator.get_state())
        mine, its = self.planner, other.planner
        if (mine.bundle.preprocess, mine.config.horizon) == (
            its.bundle.preprocess,
            its.config.horizon,
        ):
            self.last = other.last

    def keep(self, robots: list[int]) -> None:
        """Go on with some of the robots only, by their places in the batch."""
        if self._goal is not None:
            self._goal = self._goal[robots]
        if self.last is not None:
            last = self.last
            self.last = replace(
                last,
                actions=last.actions[robots],
                rows=last.rows[robots],
                previous=None if last.previous is None else last.previous[robots],
                subgoal=None if last.subgoal is None else last.subgoal[robots],
            )

    def encode(self, observation: Observation) -> EncodedObservation:
        """What the model sees of an observation of one robot. Frames beyond the newest are used by
        'history' rollouts and adaptation.
        """
        with self.planner.engine.encoding():
            return self.planner.encoder(observation)

    def plan(
        self,
        observation: Observation | EncodedObservation,
        should_stop: StopFn | None = None,
        age_s: float | None = None,
        num_committed: int = 0,
        watch: WatchFn | None = None,
    ) -> Plan:
        """The plan of a single robot, as a controller follows it; see `plan_batch`."""
        planned = self.plan_batch(observation, should_stop, age_s, num_committed, watch=watch)
        stamp_ns, dt_ns = planned.observation.stamp_ns, self.planner.dt_ns
        return Plan(stamp_ns, dt_ns, planned.rows[0], float(planned.costs[0]), planned.seconds)

    def plan_batch(
        self,
        observation: Observation | EncodedObservation,
        should_stop: StopFn | None = None,
        age_s: float | None = None,
        num_committed: int = 0,
        executed: np.ndarray | None = None,
        watch: WatchFn | None = None,
    ) -> Planned:
        """Plan from an observation.

        Args:
            observation: of the B robots, encoded or not (see `ObservationEncoder`). Its stamp says
                how far to shift the last plan and which stage of the objective it is: give each
                its own time.
            should_stop: see `Solver.solve`.
            age_s: seconds since the observation was made, of robots that go on meanwhile: the
                actions that will be due before this plan is there stay those of the last plan, or
                rest, and the plan ends in time. None: the robots wait.
            num_committed: raw actions that are decided in the same way, of robots that wait.
            executed: (B, a) the raw actions that the robots took last, physical units, where the
                caller knows them; None: what was observed, or else planned.
            watch: told of each iteration.

        Raises:
            PlanningError: no goal is set, or no finite plan was found.
        """
        if self._goal is None:
            raise PlanningError("no goal is set: send a goal image first")
        planner, begin_s = self.planner, self._clock()
        if age_s is not None:
            should_stop = stop_after(self._max_seconds, self._clock, should_stop)
        if isinstance(observation, Observation):
            with planner.engine.encoding():
                observation = planner.encoder(observation, len(self._goal.visual))
        observation.wait()
        stamp_ns = observation.stamp_ns
        planner.adaptation.learn(observation.now, observation.past_actions, stamp_ns)
        warm = self._warm_start(stamp_ns)
        if age_s is not None:
            dt_s = planner.embodiment.control_dt_s
            num_committed = self._expected.num_due(warm is not None, dt_s, age_s)
        previous = self._previous(observation) if executed is None else executed
        result = planner.plan_latents(
            observation.now,
            self._goal,
            warm,
            self._step(stamp_ns),
            self._generator,
            past_actions=observation.past_actions,
            alpha=self._alpha,
            should_stop=should_stop,
            num_committed=num_committed,
            rest=planner.rest.at(observation.proprio),
            previous=previous,
            watch=watch,
            macro_warm=None if warm is None else self._macro_warm_start(stamp_ns),
        )
        rows = planner.raw_actions(result.actions, result.bounds).cpu().numpy()
        seconds = self._clock() - begin_s + self._goal_seconds
        self._goal_seconds = 0.0
        if not math.isnan(seconds):
            self._expected.add(warm is not None, seconds)
        self.last = Planned(
            result.actions,
            rows,
            result.costs,
            result.initial_costs,
            result.num_evaluations,
            num_committed,
            observation,
            previous,
            seconds,
            result.subgoal,
        )
        return self.last

    def warm_up(self, goal: Latent, observation: Observation, timed: bool = False) -> None:
        """Plan briefly, for nothing: what torch prepares in its first calls is not planning.

        Args:
            goal: (1, 1, ...) of one robot.
            observation: of it.
            timed: also find out how long first and later plans take.
        """
        self.begin(goal)
        self.plan_batch(observation, lambda: True)
        for _ in range(2 if timed else 0):  # the first time there may be more to prepare
            self._expected.clear()
            self.begin(goal)
            for _ in range(2):
                self.plan_batch(observation, age_s=0.0)
        self.clear()

    def imagine(self) -> Latent:
        """(B, H + 1, ...) what the model expects of the last plan.

        Raises:
            PlanningError: there is no plan yet.
        """
        if self.last is None:
            raise PlanningError("there is no plan to imagine yet")
        at, actions = self.last.observation, self.last.actions
        engine = self.planner.engine
        with torch.no_grad(), engine.products():
            return engine.rollout(at.now, actions, at.past_actions)

    def picture_distance(self) -> float:
        """Mean squared error of the visual tokens: what the last plan was made from, to the goal.

        Raises:
            PlanningError: there is no plan yet.
        """
        if self.last is None or self._goal is None:
            raise PlanningError("there is no plan whose distance could be told yet")
        seen = self.last.observation.now.visual[:, -1]
        return float((seen - self._goal.visual[:, 0]).square().mean())

    def _step(self, stamp_ns: int) -> int:
        """Model steps since the first plan towards these goals."""
        if self._first_ns is None:
            self._first_ns = stamp_ns
        planner = self.planner
        return round((stamp_ns - self._first_ns) / planner.dt_ns) // planner.embodiment.frame_skip

    def _passed(self, last: Planned, stamp_ns: int) -> int:
        """Control periods since the observation of the last plan."""
        return round((stamp_ns - last.observation.stamp_ns) / self.planner.dt_ns)

    def _previous(self, observation: EncodedObservation) -> np.ndarray | None:
        """(B, a) the raw actions that the robots took last before an observation, as far as known:
        what was sent, or else what was planned.
        """
        if observation.past_actions is not None:
            size = self.planner.embodiment.action.size
            last = observation.past_actions[:, -1, -size:]
            return self.planner.units.raw_actions(last).cpu().numpy()
        if self.last is None:
            return None
        passed = self._passed(self.last, observation.stamp_ns)
        if passed == 0:  # planned from the same observation again
            return self.last.previous
        rows = self.last.rows
        return rows[:, passed - 1] if 0 < passed <= rows.shape[1] else None

    def _warm_start(self, stamp_ns: int) -> Tensor | None:
        """(B, H, A) what is left of the last plans at `stamp_ns`; None when nothing is."""
        if self.last is None or not self.planner.config.warm_start:
            return None
        num_raw = self._passed(self.last, stamp_ns)
        if not 0 <= num_raw < self.last.rows.shape[1]:
            return None
        return self.planner.shift(self.last.actions, num_raw)

    def _macro_warm_start(self, stamp_ns: int) -> Tensor | None:
        """(B, M, Z) what is left of the last macro-plans at `stamp_ns`; None when nothing is."""
        upper = self.planner.upper
        if upper is None or self.last is None or self.last.subgoal is None:
            return None
        macro_actions = self.last.subgoal.macro_actions
        if not upper.fits(macro_actions):
            return None
        return upper.shift(macro_actions, self._passed(self.last, stamp_ns))
