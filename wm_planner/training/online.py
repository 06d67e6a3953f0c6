"""Online World Modeling: plan, execute in the simulator, learn from what happened.

Algorithm 2 of arXiv 2512.09929, a DAgger with the simulator as the expert. Every round plans from
true start states with the current model, executes the plans open loop, and adds the transitions
o_0, a_0, o_1, ..., o_H to a bounded buffer. Each observation is followed by the action that was
taken from it; the released code is off by one frame there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_planner.config import Natural, check_at_least
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import ConfigError
from wm_planner.models.bundle import Bundle
from wm_planner.models.world_model import Latent
from wm_planner.planning import Planner, planner_config
from wm_planner.training.adversarial import Adversarial
from wm_planner.training.feature_cache import encode_chunk
from wm_planner.training.latents import LatentTrajectories, joined
from wm_planner.training.machine import Group, Machine
from wm_planner.training.model import ModelLearner, TransitionTraining
from wm_planner.types import Observation

logger = logging.getLogger(__name__)
MakeEnv = Callable[[bool], Any]  # True for an environment that draws
_TARGETS = ("task", "data")


@dataclass(frozen=True)
class Online:
    """Settings of the rounds.

    Attributes:
        num_rounds: rounds of planning, evenly spread over the updates.
        num_targets: plans per round.
        horizon: model steps of a plan.
        targets: where starts and goals come from: 'task' draws those of the task, 'data' takes
            the states of frames of the data that are `horizon` model steps apart.
        buffer_size: executed plans that are kept, the newest.
        buffer_fraction: share of a batch that comes from the buffer.
        adversarial: perturb the inputs of the teacher-forcing updates, too.
        planner: changes of the checkpoint's planner settings, by name.
    """

    num_rounds: Natural = 10
    num_targets: Natural = 32
    horizon: Natural = 5
    targets: str = "task"
    buffer_size: Natural = 1024
    buffer_fraction: float = 0.5
    adversarial: bool = False
    planner: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_at_least(self, num_rounds=1, num_targets=1, horizon=1, buffer_size=1)
        if not 0 < self.buffer_fraction <= 1:
            raise ValueError(f"buffer_fraction must be in (0, 1], got {self.buffer_fraction}")
        if self.targets not in _TARGETS:
            raise ValueError(f"unknown targets '{self.targets}'; choices: {', '.join(_TARGETS)}")


class OnlineLearner(ModelLearner):
    """Trains on a mix of the data and of what happened when the model was planned with.

    Args:
        bundle, data, config, machine, adversarial: see `ModelLearner`.
        online: settings.
        rounds: plans and simulates; None when `corrections` are all there is, as on a robot.
        corrections: the buffer's content to begin with.
    """

    def __init__(
        self,
        bundle: Bundle,
        data: LatentTrajectories,
        config: TransitionTraining,
        machine: Machine,
        online: Online,
        rounds: Callable[[int], tuple[LatentTrajectories, dict[str, float]]] | None,
        corrections: LatentTrajectories | None = None,
        adversarial: Adversarial | None = None,
    ) -> None:
        super().__init__(
            bundle.model, data, config, machine, adversarial if online.adversarial else None
        )
        self._online, self._rounds, self._buffer = online, rounds, corrections
        self._every = -(-config.num_updates // online.num_rounds)
        self._measures: dict[str, float] = {}

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Windows of the data and of the buffer; a round first where one is due."""
        if self._rounds is not None and step % self._every == 0:
            new, self._measures = self._rounds(step // self._every)
            kept = [new] if self._buffer is None else [self._buffer, new]
            self._buffer = joined(kept, self._online.buffer_size)
        assert self._buffer is not None
        size = self.config.batch_size
        count = corrected(size, self._online.buffer_fraction, self.group)
        parts = [self.windows(self._buffer, count)]
        if count < size:
            parts.append(self.windows(self.train, size - count))
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def evaluate(self) -> dict[str, float]:
        """Held-out error on the data, and how the last round went."""
        return {**super().evaluate(), **self._measures}

    def state(self) -> dict[str, Any]:
        """The buffer, too, where rounds fill it."""
        state = {**super().state(), "measures": self._measures}
        if self._rounds is not None and self._buffer is not None:
            buffer = self._buffer
            state["buffer"] = [buffer.visual, buffer.proprio, buffer.actions]
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """See `state`."""
        super().set_state(state)
        self._measures = state["measures"]
        if "buffer" in state:
            self._buffer = LatentTrajectories(*state["buffer"])


def corrected(batch_size: int, fraction: float, group: Group) -> int:
    """Windows of a batch that come from the buffer, at least one per process."""
    each = batch_size // group.size
    return group.size * min(each, max(1, round(each * fraction)))


class PlanRounds:
    """Plans of the current model, and what the simulator makes of them.

    Args:
        bundle: whose model is being trained.
        config: settings.
        make_env: makes the task's environment.
        store: for targets from the data.
        machine: device and processes, which share the targets.
        workers: simulators side by side.
        seed: of the targets.

    Raises:
        ConfigError: targets of the data, and it has no states.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: Online,
        make_env: MakeEnv,
        store: TrajectoryStore,
        machine: Machine,
        workers: int = 1,
        seed: int = 0,
    ) -> None:
        # Recorded corrections need none.
        from wm_planner.training.plan_execution import EnvSimulatorMaker, Simulators

        self._bundle, self._config, self._store, self._seed = bundle, config, store, seed
        self._machine = machine
        settings = planner_settings(bundle.planner, config)
        self._planner = Planner(bundle, planner_config(settings, source="online.planner"))
        self._camera = make_env(True)
        names, ahead = self._camera.task.state_names, config.horizon
        if config.targets == "data" and not (
            store.states.shape[2] == len(names) and store.states.shape[1] > ahead
        ):
            raise ConfigError(
                f"online.targets data: {store.directory} has no simulator states of "
                f"{ahead} model steps; take those of the task"
            )
        skip = bundle.preprocess.frame_skip
        self._simulators = Simulators(EnvSimulatorMaker(make_env), skip, workers)

    def run(self, number: int) -> tuple[LatentTrajectories, dict[str, float]]:
        """Make round `number`: executed plans, and how they went.

        'online_success' is the share of goals reached, 'online_gap' the mean squared error of the
        imagined last frame, where planning went (compare 'val_last').
        """
        group = self._machine.group
        share = group.share(self._config.num_targets)
        pairs = [self._target(number, i) for i in range(share.start, share.stop)]
        executed, measures = self._execute(*(np.stack(part) for part in zip(*pairs, strict=True)))
        parts, shared = group.gather(executed), group.gather(measures)
        means = {key: float(np.mean([m[key] for m in shared])) for key in measures}
        if self._machine.writes:
            shown = ", ".join(f"{key} {value:.3f}" for key, value in means.items())
            logger.info("round %d: %d plans, %s", number, self._config.num_targets, shown)
        return joined(parts), means

    def close(self) -> None:
        """Close all environments."""
        self._camera.close()
        self._simulators.close()

    def _target(self, number: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self._seed, number, index])
        if self._config.targets == "task":
            return self._camera.sample_target(rng)
        states, ahead = self._store.states, self._config.horizon
        row, start = rng.integers(len(states)), rng.integers(states.shape[1] - ahead)
        return np.array(states[row, start]), np.array(states[row, start + ahead])

    def _execute(
        self, starts: np.ndarray, goals: np.ndarray
    ) -> tuple[LatentTrajectories, dict[str, float]]:
        model, planner = self._bundle.model, self._planner
        was_training = model.predictor.training
        model.predictor.eval()
        now, goal = self._seen(starts), self._seen(goals)
        rest = planner.rest.at(np.stack([self._camera.proprio_of(state) for state in starts]))
        result = planner.plan_latents(now, goal, None, 0, planner.generator(), rest=rest)
        plan, raw = result.actions, planner.raw_actions(result.actions, result.bounds)
        happened = self._simulators.run(starts, raw.cpu().numpy())
        latents = self._encode(happened, raw)
        with torch.no_grad():
            imagined = model.rollout(now, plan, mode=planner.config.rollout).visual[:, -1]
        model.predictor.train(was_training)
        gap = (imagined.cpu() - latents.visual[:, -1].float()).square().mean()
        pairs = zip(happened["states"][:, -1], goals, strict=True)
        reached = [self._camera.task.is_success(state, goal) for state, goal in pairs]
        return latents, {"online_success": float(np.mean(reached)), "online_gap": float(gap)}

    def _seen(self, states: np.ndarray) -> Latent:
        """(n, 1, ...) latents of n states."""
        images = np.stack([self._camera.render_state(state) for state in states])
        proprio = np.stack([self._camera.proprio_of(state) for state in states])
        frames = self._bundle.encode_observation(Observation(images, proprio, 0))
        return Latent(frames.visual.transpose(0, 1), frames.proprio.transpose(0, 1))

    def _encode(self, happened: dict[str, np.ndarray], raw: Tensor) -> LatentTrajectories:
        """What training takes of the executed (n, H * frame_skip, a) actions."""
        bundle, preprocess = self._bundle, self._bundle.preprocess
        tokens = [
            encode_chunk(images, bundle.model, preprocess, self._machine)
            for images in happened["images"]
        ]
        actions = raw.cpu().reshape(len(raw), self._config.horizon, preprocess.action_dim)
        return LatentTrajectories(
            torch.stack(tokens),
            preprocess.normalise_proprio(happened["proprio"]),
            preprocess.normalise_actions(actions),
        )


def planner_settings(recommended: dict[str, Any], config: Online) -> dict[str, Any]:
    """The checkpoint's settings of gradient-based planning, changed by those of the rounds."""
    solver = config.planner.get("solver", "gbp")
    special = {**recommended.get(solver, {}), "horizon": config.horizon, **config.planner}
    return {**recommended, "solver": solver, solver: special}
