"""What the planner node's workers run: a goal and an observation in, a timed plan out."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wm_planner.data.pictures import Familiar
from wm_planner.embodiment import Embodiment
from wm_planner.errors import CheckpointError, ConfigError
from wm_planner.runtime.arrival import proprio_distance
from wm_planner.runtime.surprise import SentActions, Surprise
from wm_planner.types import Goal, Observation, Plan

if TYPE_CHECKING:
    from wm_planner.models.bundle import Bundle
    from wm_planner.planning.encoding import EncodedObservation
    from wm_planner.planning.solver import StopFn


@dataclass(frozen=True)
class PlanResult:
    """One replan.

    Attributes:
        goal: what was planned for.
        plan: with the seconds it took.
        initial_cost: cost of the starting point.
        num_evaluations: rollouts made.
        picture_distance: of the picture that it was made from to the goal's: mean squared error of
            the visual tokens.
        proprio_distance: see `runtime.arrival`; None: the goal's proprioception is not known.
        num_committed: rows of the plan that were decided before, because the robot was expected to
            have taken them by now.
        surprise: see `runtime.surprise`; NaN: nothing was expected.
        checkpoint: name and checksum of what it was made with.
        draw: gives (S, (H + 1) * S, 3) uint8, the imagined frames left to right, and of a planner
            of two levels the subgoal after them; None when not asked for, or when the checkpoint
            has no decoder. It takes a while, so the plan goes first; call it before the next plan,
            on the same thread.
    """

    goal: Goal
    plan: Plan
    initial_cost: float
    num_evaluations: int
    picture_distance: float
    proprio_distance: float | None = None
    num_committed: int = 0
    surprise: float = math.nan
    checkpoint: Mapping[str, str] = field(default_factory=dict[str, str])
    draw: Callable[[], np.ndarray] | None = None

    def summary(self) -> dict[str, float | int]:
        """The numbers of this replan by name; NaN where one is not known."""
        distance = self.proprio_distance
        return {
            "stamp_ns": self.plan.stamp_ns,
            "cost": self.plan.cost,
            "initial_cost": self.initial_cost,
            "plan_seconds": self.plan.seconds,
            "num_evaluations": self.num_evaluations,
            "num_committed": self.num_committed,
            "picture_distance": self.picture_distance,
            "proprio_distance": math.nan if distance is None else distance,
            "surprise": self.surprise,
        }


class GoalPlanner:
    """A checkpoint's planner that follows whichever goal comes with the observation.

    Args:
        checkpoint: shipped name, variant or directory.
        embodiment: of the robot that it plans for, whose bounds and rates it keeps; None: of the
            robot that the checkpoint was trained on.
        solver: name of the solver.
        settings: planner settings, 'key=value'.
        seed: of the planner's random generator.
        device: torch device.
        imagine: also draw what the model expects.

    Attributes:
        checkpoint: the directory that it was loaded from.
        sha256: of its weights.
        familiar: what the checkpoint is familiar with; None: it was not calibrated.
        sent: tell it what is sent to the robot, or nothing is surprising.
        surprise: measures it.

    Raises:
        WmPlannerError: the checkpoint, the device or a setting cannot be used.
    """

    def __init__(
        self,
        checkpoint: str,
        embodiment: Embodiment | None,
        solver: str,
        settings: Iterable[str] = (),
        seed: int = 0,
        device: str = "cpu",
        imagine: bool = True,
    ) -> None:
        # Here, so that nodes without a planner start without torch.
        import torch

        from wm_planner.models.catalog import resolve_checkpoint
        from wm_planner.models.checkpoint import load_bundle

        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
            raise ConfigError(
                f"device '{device}' cannot be used ({str(error).splitlines()[0]}); use 'cpu', or "
                "'cuda' where PyTorch finds an NVIDIA GPU"
            ) from error
        name = None if embodiment is None else embodiment.name
        self.checkpoint = resolve_checkpoint(checkpoint, name)
        bundle = load_bundle(self.checkpoint, device)
        if embodiment is not None:
            _check_robot(bundle, embodiment, checkpoint)
            bundle.embodiment = embodiment
        self._options = {"solver": solver, "seed": seed}, tuple(settings), device
        self._imagine = imagine
        self.sent = SentActions()
        self._begin(bundle)

    def _begin(self, bundle: Bundle) -> None:
        """All that there is one of for each checkpoint."""
        from wm_planner.models.catalog import CARD, read_card
        from wm_planner.planning import Planner, Session, planner_config

        named, settings, _ = self._options
        self.sha256 = str(read_card(self.checkpoint / CARD)["sha256"])
        config = planner_config({**bundle.planner, **named}, settings, "settings")
        self._planner = Planner(bundle, config)
        self._session = Session(self._planner, time.perf_counter)
        self._bundle = bundle
        known = bundle.info.get("familiar")
        source = f"checkpoint {self.checkpoint}: info: familiar"
        self.familiar = None if known is None else Familiar.from_json(known, source)
        usual = () if self.familiar is None else self.familiar.surprise
        self.surprise = Surprise(self._planner, usual, self.sent)
        self._draws = self._imagine and bundle.model.decoder is not None
        self._goal: Goal | None = None

    def load_another(self, directory: Path) -> Bundle:
        """Load a checkpoint that could take this one's place.

        Raises:
            WmPlannerError: it is damaged, of another robot or of other sizes, or its weights are no
                numbers or all zero.
        """
        from wm_planner.config import flat, to_dict
        from wm_planner.models.checkpoint import check_weights, load_bundle
        from wm_planner.models.registration import unregistered

        bundle = load_bundle(directory, self._options[2])
        _check_robot(bundle, self.embodiment, str(directory))
        here, there = (
            flat({**to_dict(config), "encoder": unregistered(config.encoder)})
            for config in (self._bundle.model.config, bundle.model.config)
        )
        for key in sorted({*here, *there}):
            if here.get(key) != there.get(key):
                raise CheckpointError(
                    f"{directory}: its model has {key} {there.get(key)}, the running one "
                    f"{here.get(key)}; another model needs a new start of the planner"
                )
        check_weights(bundle.model, directory)
        if bundle.upper is not None:
            check_weights(bundle.upper.model, f"{directory}: upper")
        bundle.embodiment = self.embodiment
        return bundle

    def another(self, directory: Path, bundle: Bundle) -> GoalPlanner:
        """A planner of the same robot and settings with what `load_another` gave, warmed up.

        Not while this one plans: both choose how the whole process multiplies.
        """
        made = copy.copy(self)
        made.checkpoint = directory
        made._begin(bundle)
        made.warm_up()
        if (made.history, made.reach_s, made.replan_ns) != (
            self.history,
            self.reach_s,
            self.replan_ns,
        ):
            raise CheckpointError(
                f"{directory}: recommends another horizon, history or replanning than the running "
                "one has; give these settings to the planner, or start it anew"
            )
        return made

    def take_over(self, other: GoalPlanner) -> None:
        """Go on with what `other` is doing; call it where the next plan would be its."""
        self._goal = other._goal
        self.surprise.clear()
        if self._goal is not None:
            self._session.take_over(other._session, self._goal)

    def knows_as(self, other: GoalPlanner) -> bool:
        """Whether both models see the same in the same observation."""
        import torch

        if self._bundle.preprocess != other._bundle.preprocess:
            return False
        for part in ("encoder", "proprio_encoder"):
            mine, its = (getattr(p._bundle.model, part).state_dict() for p in (self, other))
            if mine.keys() != its.keys():  # one of them puts pictures back
                return False
            if not all(torch.equal(value, its[key]) for key, value in mine.items()):
                return False
        return True

    @property
    def identity(self) -> dict[str, str]:
        """Name and checksum of the checkpoint."""
        return {"checkpoint": str(self.checkpoint), "sha256": self.sha256}

    @property
    def embodiment(self) -> Embodiment:
        """Of the robot that it plans for."""
        return self._planner.embodiment

    @property
    def proprio_scale(self) -> tuple[float, ...]:
        """(P,) standard deviations of the proprioception in training."""
        return tuple(self._bundle.preprocess.proprio_std)

    @property
    def reach_s(self) -> float:
        """How far a plan reaches, seconds."""
        return self._planner.config.horizon * self.embodiment.model_dt_ns * 1e-9

    @property
    def replan_ns(self) -> int:
        """From one plan to the next, nanoseconds: `replan_steps` model steps."""
        return self._planner.config.replan_steps * self.embodiment.model_dt_ns

    @property
    def history(self) -> int:
        """Frames that an observation needs."""
        return self._planner.num_frames

    def warm_up(self, timed: bool = False) -> None:
        """Plan once, from and to a black picture, so that the first real plan is not the slow one.

        Args:
            timed: also find out how long first and later plans take.
        """
        body, count = self._planner.embodiment, self.history
        size = body.image_size
        black = np.zeros((count, size, size * len(body.cameras), 3), np.uint8)
        rest = np.zeros((count, len(body.proprio)), np.float32)
        actions = np.zeros((count - 1, body.frame_skip * body.action.size), np.float32)
        seen = Observation(black, rest, 0, actions if count > 1 else None)
        goal = self._planner.bundle.encode_goal(Goal(black[0], rest[0]))
        self._session.warm_up(goal, seen, timed)
        self._goal = None

    @property
    def encodes_concurrently(self) -> bool:
        """Whether another thread may `encode` while a plan is computed, and gain by it."""
        return self._planner.encoder.is_concurrent

    def encode(self, observation: Observation) -> EncodedObservation:
        """What the model sees of an observation."""
        return self._session.encode(observation)

    def __call__(
        self,
        goal: Goal,
        observation: Observation | EncodedObservation,
        should_stop: StopFn | None = None,
        age_s: float | None = None,
    ) -> PlanResult:
        """Plan towards `goal`; a goal object other than the last one begins afresh.

        Args:
            goal: where to go.
            observation: where the robot is, encoded or not.
            should_stop: see `Solver.solve`.
            age_s: seconds since the observation was made, of a robot that goes on meanwhile: the
                actions that will be due before this plan is there stay those of the last plan, or
                rest, and the plan ends in time (`max_seconds`). None: the robot waits.

        Raises:
            PlanningError: no finite plan was found.
        """
        if self._goal is not goal:
            self._session.set_goal(goal)
            self.surprise.clear()
            self._goal = goal
        plan = self._session.plan(observation, should_stop, age_s)
        detail = self._session.last
        assert detail is not None
        distance = None
        if goal.proprio is not None:
            proprio = detail.observation.proprio[-1]
            distance = proprio_distance(proprio, goal.proprio, self.embodiment)
        return PlanResult(
            goal=goal,
            plan=plan,
            initial_cost=float(detail.initial_costs[0]),
            num_evaluations=detail.num_evaluations,
            picture_distance=self._session.picture_distance(),
            proprio_distance=distance,
            num_committed=detail.num_committed,
            surprise=self.surprise.measure(detail.observation),
            checkpoint=self.identity,
            draw=self._draw if self._draws else None,
        )

    def _draw(self) -> np.ndarray:
        frames = list(self._bundle.decode(self._session.imagine())[0])
        last = self._session.last
        if last is not None and last.subgoal is not None:
            frames += list(self._bundle.decode(last.subgoal.aim)[0])
        return np.concatenate(frames, axis=1)


def _check_robot(bundle: Bundle, embodiment: Embodiment, checkpoint: str) -> None:
    """Raises:
    ConfigError: the bundle was trained on another robot.
    """
    difference = embodiment.difference(bundle.embodiment)
    if difference is not None:
        raise ConfigError(
            f"checkpoint {checkpoint}: was trained on '{bundle.embodiment.name}', which "
            f"is not this robot, '{embodiment.name}': {difference}"
        )
