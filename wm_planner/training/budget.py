"""How many updates a recipe makes, where it says minutes instead.

The number follows from the size of the data and of the pictures and from the minutes, by a fixed
rule: a clock would give another model at every run. The seconds of an update are those of one core
of the machine that the recipe was found on; how long it takes on this one is measured apart, and
only said.
"""

from __future__ import annotations

from dataclasses import replace

from wm_planner.data.store import TrajectoryStore
from wm_planner.training.recipe import Recipe

ENCODER_SHARE = 0.5  # of the minutes
FRAME_S, PIXELS_S = 2.2e-3, 1.3e-3  # of a frame that the encoder trains on: fixed, and at 96 pixels
MODEL_S = 0.07  # of a model's update of 32 windows of five steps, on average over its stages
# Beyond so many times through the data, and so many updates, the held-out error falls no more.
ENCODER_EPOCHS, MODEL_EPOCHS, ENOUGH = 60, 100, 500
LEAST = 20  # updates; fewer train nothing


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
    window_s = MODEL_S / (32 * 5)
    model_s = 60 * recipe.minutes * (1 - ENCODER_SHARE)
    batch = model.batch_size * model.rollout_steps
    model_updates = _within(
        model_s / (batch * window_s), MODEL_EPOCHS * count * (frames - 1) / batch
    )
    return replace(
        recipe,
        encoder=replace(encoder, num_updates=updates),
        model=replace(model, num_updates=model_updates),
    )


def _within(affordable: float, useful: float) -> int:
    return max(LEAST, round(min(affordable, max(useful, ENOUGH))))
