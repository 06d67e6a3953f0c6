"""How long a recipe trains: the updates that its minutes give, and the minutes on this machine.

The number of updates follows from the size of the data and of the pictures and from the minutes, by
a fixed rule: a clock would give another model at every run. The seconds of an update are those of
one core of the machine that the recipe was found on. How long it takes on this one is measured on a
few updates of throw-away weights, and only said.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from wm_planner.data.store import TrajectoryStore
from wm_planner.models.bundle import Bundle
from wm_planner.training.encoder import EncoderLearner, denormals_as_zero
from wm_planner.training.feature_cache import encode_chunk
from wm_planner.training.latents import LatentTrajectories
from wm_planner.training.learner import Learner
from wm_planner.training.machine import Machine
from wm_planner.training.model import ModelLearner
from wm_planner.training.recipe import Recipe
from wm_planner.training.untrained import build_fresh, parts_of

ENCODER_SHARE = 0.5  # of the minutes
FRAME_S, PIXELS_S = 2.2e-3, 1.3e-3  # of a frame that the encoder trains on: fixed, and at 96 pixels
MODEL_S = 0.07  # of a model's update of 32 windows of five steps, on average over its stages
# Beyond so many times through the data, and so many updates, the held-out error falls no more.
ENCODER_EPOCHS, MODEL_EPOCHS, ENOUGH = 60, 100, 500
LEAST = 20  # updates; fewer train nothing
_TIMED = 3  # of each kind; the one before them warms up
_ENCODED = 64  # frames


def with_updates(recipe: Recipe, store: TrajectoryStore) -> Recipe:
    """The recipe with the numbers of updates that its minutes and the store's size give.

    One without minutes is returned as it is.
    """
    if recipe.minutes is None:
        return recipe
    encoder, model = recipe.encoder, recipe.model
    count, frames, size, width = store.images.shape[:4]
    batch = encoder.batch_pairs * encoder.num_frames
    frame_s = (width / size) * (FRAME_S + PIXELS_S * (size / 96) ** 2)
    encoder_s = 60 * recipe.minutes * ENCODER_SHARE
    updates = _within(encoder_s / (batch * frame_s), ENCODER_EPOCHS * count * frames / batch)
    encoder = replace(encoder, num_updates=updates)
    window_s = MODEL_S / (32 * 5)
    model_s = 60 * recipe.minutes * (1 - ENCODER_SHARE)
    batch = model.batch_size * model.rollout_steps
    updates = _within(model_s / (batch * window_s), MODEL_EPOCHS * count * (frames - 1) / batch)
    return replace(recipe, encoder=encoder, model=replace(model, num_updates=updates))


def _within(affordable: float, useful: float) -> int:
    return max(LEAST, round(min(affordable, max(useful, ENOUGH))))


def expected_minutes(store: TrajectoryStore, recipe: Recipe, machine: Machine) -> dict[str, float]:
    """Minutes of 'encoder', of 'encode' (every frame once) and of 'model'.

    Args:
        store: what will be trained on.
        recipe: with its numbers of updates.
        machine: what it will be trained on; nothing is written.

    Raises:
        DatasetError: an entry of actions or proprioception never changes.
    """
    machine = replace(machine, compile=False)
    bundle = build_fresh(store, *parts_of(store, recipe.encoder), recipe.model)
    bundle.model.to(machine.device)
    seconds = {"encoder": 0.0}
    with denormals_as_zero(recipe.encoder.standardise):
        if not recipe.encoder.comes_trained:
            learner = EncoderLearner(store.images, recipe.encoder, machine, store.proprio)
            seconds["encoder"] = recipe.encoder.num_updates * _update_s(learner, 0)
        images = store.images[:, :1].reshape(-1, *store.images.shape[2:])[:_ENCODED]
        each_s = _median_s(lambda: encode_chunk(images, bundle.model, bundle.preprocess, machine))
        seconds["encode"] = each_s / len(images) * store.images.shape[0] * store.images.shape[1]
    seconds["model"] = _model_s(bundle, recipe, machine)
    return {name: value / 60 for name, value in seconds.items()}


def _model_s(bundle: Bundle, recipe: Recipe, machine: Machine) -> float:
    """On noise, of which nothing depends but the loss."""
    config, sizes = recipe.model, bundle.model.config
    steps, count = config.rollout_steps, max(2, config.batch_size)
    data = LatentTrajectories(
        torch.randn(count, steps + 1, sizes.num_patches, sizes.visual_dim),
        torch.randn(count, steps + 1, sizes.proprio_dim),
        torch.randn(count, steps, sizes.action_dim),
    )
    learner = ModelLearner(bundle.model, data, config, machine)
    rollouts = config.num_updates * config.rollout_fraction
    teacher_s = _update_s(learner, 0) if rollouts < config.num_updates else 0.0
    rollout_s = _update_s(learner, config.num_updates) if rollouts else 0.0
    return (config.num_updates - rollouts) * teacher_s + rollouts * rollout_s


def _update_s(learner: Learner, step: int) -> float:
    """Seconds of an update, as the training loop makes one."""
    optimizer, _ = learner.schedule.build(learner.parameter_groups())
    device = next(learner.module.parameters()).device

    def update() -> None:
        batch = tuple(x.to(device) for x in learner.batch(step))
        optimizer.zero_grad(set_to_none=True)
        loss = learner.loss(step, *batch)["loss"]
        loss.backward()
        optimizer.step()
        float(loss.detach())  # a GPU has computed it by then

    return _median_s(update)


def _median_s(do: Callable[[], object]) -> float:
    seconds = []
    for _ in range(1 + _TIMED):
        begun = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])
