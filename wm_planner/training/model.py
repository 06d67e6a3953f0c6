"""Training of the transition model on encoded trajectories.

First teacher forcing (one step ahead from true latents), then imagined rollouts: the error of
every step of an `rollout_steps` long rollout, which is what a planner will look at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wm_planner.config import Natural, Seed, Size, Weight, check_at_least, to_dict
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError
from wm_planner.models.bundle import Bundle
from wm_planner.models.fast.library import training_library
from wm_planner.models.predictor import PredictorConfig
from wm_planner.models.world_model import WorldModel
from wm_planner.training.adversarial import Adversarial, AdversarialLoss, AdversarialRollout
from wm_planner.training.latents import LatentTrajectories, encode_store, split_rows
from wm_planner.training.learner import SCHEDULES, Learner, Schedule
from wm_planner.training.loop import fit
from wm_planner.training.losses import evaluate, history_windows, rollout_loss
from wm_planner.training.machine import Machine

SMALL = PredictorConfig(
    depth=3, heads=4, dim_head=32, mlp_dim=256, dropout=0.0, width=128, residual=True
)


@dataclass(frozen=True)
class TransitionTraining:
    """How a transition model is trained, from scratch or further.

    Attributes:
        num_updates: optimizer steps in all.
        rollout_fraction: share of the updates, at the end, that train on rollouts.
        rollout_steps: length of those rollouts, model steps.
        batch_size: windows per update, of all processes together; each gives `rollout_steps`
            predictions.
        learning_rate, weight_decay: AdamW.
        embedding_learning_rate: of the action embedding; None for `learning_rate`.
        schedule: 'one-cycle' (cosine) or 'constant'.
        held_out: share of trajectories kept for validation; the seed says which.
    """

    num_updates: Natural = 6000
    rollout_fraction: float = 0.5
    rollout_steps: Natural = 5
    batch_size: Natural = 32
    learning_rate: Weight = 1e-3
    weight_decay: Weight = 1e-4
    embedding_learning_rate: Weight | None = None
    schedule: str = "one-cycle"
    held_out: float = 0.05
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_at_least(self, num_updates=1, batch_size=1, rollout_steps=1)
        if not 0 <= self.rollout_fraction <= 1 or not 0 < self.held_out < 1:
            raise ValueError(
                f"rollout_fraction must be in [0, 1] and held_out in (0, 1), got "
                f"{self.rollout_fraction}, {self.held_out}"
            )
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule '{self.schedule}'; choices: {', '.join(SCHEDULES)}")


@dataclass(frozen=True)
class ModelTraining(TransitionTraining):
    """Settings of one transition-model run from scratch.

    Attributes:
        predictor: sizes.
        num_hist: history window K.
    """

    predictor: PredictorConfig = SMALL
    num_hist: Size = 1


class ModelLearner(Learner):
    """Predictor and action embedding, on windows of encoded trajectories.

    The proprioception embedding stays as drawn: it fixes the scale that the planning objective's
    alpha refers to, and training it lets the loss shrink its own target.

    Args:
        model: on the machine's device; is put into training mode.
        data: whole set; its held-out part is only evaluated on. None: batches come from elsewhere.
        config: settings.
        machine: processes and precision.
        adversarial: makes the teacher-forcing updates train on perturbed inputs.
    """

    name = "model"

    def __init__(
        self,
        model: WorldModel,
        data: LatentTrajectories | None,
        config: TransitionTraining,
        machine: Machine,
        adversarial: Adversarial | None = None,
    ) -> None:
        torch.manual_seed(config.seed + machine.group.rank)
        self.model, self.config, self.group = model, config, machine.group
        self.generator = torch.Generator().manual_seed(config.seed)
        if data is not None:
            self.train, self.held_out = data.split(config.held_out, config.seed)
        self.schedule = Schedule(
            config.num_updates, config.learning_rate, config.weight_decay, config.schedule
        )
        parts = (model.predictor, model.action_encoder, model.proprio_encoder)
        self.module = nn.ModuleList(parts)
        for part in parts[:2]:
            part.requires_grad_(True)
        model.predictor.train()
        if machine.compile:
            model.predictor.compile()
        self._one_step: Callable[..., dict[str, Tensor]] = model.latent_loss
        self._rollout: Callable[..., dict[str, Tensor]] = partial(rollout_loss, model)
        self._adversaries: list[AdversarialLoss | AdversarialRollout] = []
        if adversarial is not None:
            given = (model, adversarial, self.generator, self.group)
            self._one_step = AdversarialLoss(*given)
            self._adversaries.append(self._one_step)
            if adversarial.rollouts:
                self._rollout = AdversarialRollout(*given)
                self._adversaries.append(self._rollout)
        self.library = training_library(
            model.config.num_patches * model.config.num_hist, machine.device
        )
        self._rollouts_from = int(config.num_updates * (1 - config.rollout_fraction))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Predictor and action embedding, in two groups if their rates differ."""
        predictor = list(self.model.predictor.parameters())
        embedding = list(self.model.action_encoder.parameters())
        rate = self.config.embedding_learning_rate
        if rate is None:
            return [{"params": [*predictor, *embedding]}]
        return [{"params": predictor}, {"params": embedding, "lr": rate}]

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Windows of `rollout_steps` model steps."""
        return self.windows(self.train, self.config.batch_size)

    def windows(self, data: LatentTrajectories, count: int) -> tuple[Tensor, ...]:
        """This process's share of `count` random windows of `data`."""
        steps, share = self.config.rollout_steps, self.group.share(count)
        return data.windows(count, steps, self.generator, share)

    def loss(self, step: int, *batch: Tensor) -> dict[str, Tensor]:
        """Teacher forcing first, rollouts in the end."""
        if step < self._rollouts_from:
            return self._one_step(*history_windows(self.model, *batch))
        return self._rollout(*batch)

    def evaluate(self) -> dict[str, float]:
        """See `losses.evaluate`."""
        return evaluate(self.model, self.held_out, self.config.rollout_steps)

    def state(self) -> dict[str, Any]:
        """The source of the batches, and what adversaries keep from the first of them."""
        scales = [adversary.scale for adversary in self._adversaries]
        return {**super().state(), "scales": scales}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `state`."""
        super().set_state(state)
        for adversary, scale in zip(self._adversaries, state["scales"], strict=True):
            adversary.scale = scale


def train_model(
    store: TrajectoryStore,
    bundle: Bundle,
    config: ModelTraining,
    output: Path,
    machine: Machine | None = None,
) -> Bundle:
    """Train the predictor and the action embedding of `bundle` in place; log to `output`.

    Args:
        store: trajectories, none shorter than the rollouts to train on.
        bundle: as `build_untrained` gives it.
        config: settings.
        output: run directory.
        machine: device, cache, and whether to resume; one CPU by default.

    Raises:
        DatasetError: trajectories are too short.
        TrainingError: a loss is not finite.
    """
    machine = machine or Machine()
    check_length(store, config.rollout_steps)
    bundle.model.to(machine.device)
    data = encode_store(store, bundle.model, bundle.preprocess, machine)
    learner = ModelLearner(bundle.model, data, config, machine)
    settings = {"model": to_dict(config), "data": store.meta}
    run = fit(learner, settings, output, machine)
    _, held_out = split_rows(len(data), config.held_out, config.seed)
    bundle.model.eval().requires_grad_(False)
    bundle.info = {
        **run,
        "data": store.meta,
        "held_out": learner.evaluate(),
        "held_out_trajectories": sorted(held_out.tolist()),
    }
    return bundle


def check_length(store: TrajectoryStore, steps: int, macro_steps: int = 0) -> None:
    """Raises:
    DatasetError: trajectories have fewer than `steps` model steps, of so many macro-steps.
    """
    if store.actions.shape[1] < steps:
        wanted = f"rollout_steps {macro_steps or steps} needs at least"
        many = f"{steps} (upper.model.steps says how many a macro-step has)"
        raise DatasetError(
            f"{store.directory}: trajectories have {store.actions.shape[1]} model steps, "
            f"{wanted} {many if macro_steps else 'as many'}"
        )
