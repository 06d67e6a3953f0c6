"""Finetuning: a trained checkpoint in, a better one out, and the card says how."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wm_planner.config import Natural, Weight, suggest, to_dict
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import ConfigError, DatasetError
from wm_planner.models.bundle import Bundle
from wm_planner.training.adversarial import Adversarial
from wm_planner.training.latents import encode_store
from wm_planner.training.loop import fit
from wm_planner.training.machine import Machine
from wm_planner.training.model import ModelLearner, TransitionTraining, check_length
from wm_planner.training.online import MakeEnv, Online, OnlineLearner, PlanRounds

METHODS = ("base", "adversarial", "online")
CALIBRATED = ("arrived", "familiar")  # keys of a card's info, see `wm-planner train`


@dataclass(frozen=True)
class Finetuning(TransitionTraining):
    """Settings of one finetuning run; sizes are the checkpoint's.

    Rollouts all along, unlike the paper's teacher forcing (`rollout_fraction` 0), with which a
    model that was trained on rollouts forgets them.

    Attributes:
        adversarial: the adversary of 'adversarial' (and of 'online', where that wants one).
        online: the rounds of 'online'.
    """

    num_updates: Natural = 2000
    rollout_fraction: float = 1.0
    learning_rate: Weight = 1e-4
    adversarial: Adversarial = field(default_factory=Adversarial)
    online: Online = field(default_factory=Online)


@dataclass(frozen=True)
class Corrections:
    """Where 'online' learns what happened: an environment or recordings.

    Attributes:
        make_env: makes the task's environment, to execute plans in; or None.
        recorded: executed trajectories, for example of a robot; or None.
        workers: simulators side by side.
    """

    make_env: MakeEnv | None = None
    recorded: TrajectoryStore | None = None
    workers: int = 1


def check_method(method: str, config: Finetuning) -> None:
    """Raises:
    ConfigError: unknown method, or one that does nothing with these settings.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method '{method}'.{suggest(str(method), METHODS)}")
    if method == "adversarial" and config.rollout_fraction == 1 and not config.adversarial.rollouts:
        raise ConfigError(
            "adversarial.rollouts is false and rollout_fraction 1: no update would be adversarial; "
            "change one of them"
        )


def finetune(
    store: TrajectoryStore,
    bundle: Bundle,
    method: str,
    config: Finetuning,
    output: Path,
    parent: dict[str, Any],
    machine: Machine | None = None,
    corrections: Corrections | None = None,
) -> Bundle:
    """Train the transition model of `bundle` further, in place; log to `output`.

    Args:
        store: trajectories of the bundle's task.
        bundle: as loaded from a checkpoint; its encoder, embedding of proprioception and
            preprocessing stay as they are.
        method: 'base' (as from scratch, for comparison), 'adversarial' or 'online'.
        config: settings.
        output: run directory.
        parent: what the new card says of the checkpoint.
        machine: device, cache, and whether to resume; one CPU by default.
        corrections: for 'online'; recorded ones alone need no environment.

    Raises:
        ConfigError: unknown method, or 'online' without corrections.
        DatasetError: the data are too short or of another task, size or action.
        TrainingError: a loss is not finite.
    """
    machine, corrections = machine or Machine(), corrections or Corrections()
    check_method(method, config)
    check_fits(store, bundle)
    check_length(store, config.rollout_steps)
    bundle.model.to(machine.device)
    settings = {"method": method, "finetune": to_dict(config), "parent": parent}
    settings["data"] = store.meta
    # What was calibrated of pictures holds: the encoder stays as it is.
    calibrated = {key: bundle.info[key] for key in CALIBRATED if key in bundle.info}
    learner: ModelLearner
    with ExitStack() as stack:
        if method == "online":
            learner = _online_learner(store, bundle, config, machine, corrections, stack)
            if corrections.recorded is not None:
                settings["corrections"] = corrections.recorded.meta
        else:
            data = encode_store(store, bundle.model, bundle.preprocess, machine)
            adversarial = config.adversarial if method == "adversarial" else None
            learner = ModelLearner(bundle.model, data, config, machine, adversarial)
        before = learner.evaluate()
        run = fit(learner, settings, output, machine)
    bundle.model.eval().requires_grad_(False)
    after = learner.evaluate()
    found = {"held_out_before": before, "held_out": after}
    bundle.info = {**settings, **run, **found, **calibrated}
    return bundle


def check_fits(store: TrajectoryStore, bundle: Bundle) -> None:
    """Raises:
    DatasetError: the store is of another task, or has other actions or proprioception.
    """
    there = store.embodiment
    if there.name != bundle.embodiment.name:
        raise DatasetError(
            f"{store.directory}: holds '{there.name}', the checkpoint is for "
            f"'{bundle.embodiment.name}'"
        )
    store.check_sizes(bundle.preprocess.action_dim, len(bundle.preprocess.proprio_mean))


def _online_learner(
    store: TrajectoryStore,
    bundle: Bundle,
    config: Finetuning,
    machine: Machine,
    corrections: Corrections,
    stack: ExitStack,
) -> OnlineLearner:
    if (corrections.make_env is None) == (corrections.recorded is None):
        raise ConfigError("method 'online' needs either an environment or recorded corrections")
    if corrections.make_env is not None and config.online.horizon < config.rollout_steps:
        raise ConfigError(
            f"online.horizon {config.online.horizon}: plans must be at least rollout_steps "
            f"{config.rollout_steps} long to be trained on"
        )
    recorded = None
    if corrections.recorded is not None:
        check_fits(corrections.recorded, bundle)
        check_length(corrections.recorded, config.rollout_steps)
        recorded = encode_store(corrections.recorded, bundle.model, bundle.preprocess, machine)
    data = encode_store(store, bundle.model, bundle.preprocess, machine)
    run = None
    if corrections.make_env is not None:
        simulated = (corrections.make_env, store, machine, corrections.workers, config.seed)
        rounds = PlanRounds(bundle, config.online, *simulated)
        stack.callback(rounds.close)
        run = rounds.run
    online = (config.online, run, recorded, config.adversarial)
    return OnlineLearner(bundle, data, config, machine, *online)
