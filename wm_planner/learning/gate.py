"""Whether a finetuned model may drive the robot: what it must know, and what it must do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wm_planner.errors import CheckpointError, WmPlannerError
from wm_planner.models.bundle import Bundle
from wm_planner.models.checkpoint import check_weights
from wm_planner.models.world_model import Latent, WorldModel
from wm_planner.planning import Planner, planner_config
from wm_planner.training.segments import Segments

LONGEST = 5  # model steps of the rollouts that are judged
_BATCH, _BATCHES = 32, 8
_PROBES = 4
STEPS = 3  # model steps that a surprise looks back
_QUANTILE = 0.999


@dataclass(frozen=True)
class Errors:
    """Of imagined rollouts, as shares of what moved: 1 is that of expecting that nothing moves.

    Attributes:
        corrections: on recorded episodes that were not trained on.
        core_set: on the part of the core set that was not trained on; None: there is none.
    """

    corrections: float
    core_set: float | None


@torch.no_grad()
def error(model: WorldModel, segments: Segments) -> float:
    """Mean squared error of the visual tokens over all steps, as a share of what moved."""
    generator = torch.Generator().manual_seed(0)
    wrong = moved = 0.0
    for _ in range(_BATCHES):
        length = segments.draw_length(LONGEST, generator)
        visual, proprio, actions = segments.windows(_BATCH, length, generator)
        now = Latent(visual[:, :1], model.proprio_encoder(proprio[:, :1]))
        imagined = model.rollout(now, actions, mode=_mode(model)).visual
        wrong += float((imagined[:, 1:] - visual[:, 1:]).square().mean())
        moved += float((visual[:, :1] - visual[:, 1:]).square().mean())
    return wrong / max(moved, 1e-12)


def errors(model: WorldModel, corrections: Segments, core: Segments | None) -> Errors:
    """Both errors of a model."""
    return Errors(error(model, corrections), None if core is None else error(model, core))


def reason_against(
    bundle: Bundle,
    before: Errors,
    after: Errors,
    probe: Callable[[], str],
    most_forgotten: float,
    worth: float = 1.0,
) -> str:
    """Why a bundle fails the gate; '' when it passes.

    Args:
        bundle: finetuned.
        before: errors of the model in use.
        after: errors of the bundle.
        probe: see `probe_plans`; asked last.
        most_forgotten: by which factor the error on the core set may grow.
        worth: see `against_errors`.
    """
    try:
        check_weights(bundle.model, "weights")
    except CheckpointError as error:
        return str(error)
    return against_errors(before, after, most_forgotten, worth) or probe()


def against_errors(before: Errors, after: Errors, most_forgotten: float, worth: float = 1.0) -> str:
    """What the errors of a finetuned model say against it; '' for nothing.

    Args:
        before: errors of the model in use.
        after: of the finetuned one.
        most_forgotten: by which factor the error on the core set may grow.
        worth: which share of the error before is the most that is worth a change.
    """
    if not after.corrections < worth * before.corrections:
        most = "" if worth == 1 else f", and {worth:g} of that is the most that is worth forgetting"
        return (
            f"its error on held-out episodes is {after.corrections:.3g} of what moved, that of the "
            f"checkpoint in use {before.corrections:.3g}{most}"
        )
    if after.core_set is not None and before.core_set is not None:
        limit = max(before.core_set, min(most_forgotten * before.core_set, 1.0))
        if not after.core_set <= limit:
            return (
                f"it forgets: its error on the core set is {after.core_set:.3g} of what moved, "
                f"before it was {before.core_set:.3g} (most {limit:.3g})"
            )
    return ""


def probe_plans(bundle: Bundle, segments: Segments) -> str:
    """Plan between recorded pictures; what is wrong with the plans, or ''."""
    planner = Planner(bundle, planner_config(bundle.planner))
    firsts = torch.cat([segments.lengths.new_zeros(1), (segments.lengths + 1).cumsum(0)[:-1]])
    chosen = torch.linspace(0, len(segments) - 1, min(_PROBES, len(segments))).round().long()
    begin, end = firsts[chosen], firsts[chosen] + segments.lengths[chosen]
    now, goal = (_latents(bundle.model, segments, frames) for frames in (begin, end))
    proprio = segments.proprio[begin] * torch.tensor(bundle.preprocess.proprio_std)
    proprio = proprio + torch.tensor(bundle.preprocess.proprio_mean)
    rest = planner.rest.at(proprio.numpy())
    try:
        result = planner.plan_latents(now, goal, None, 0, planner.generator(), rest=rest)
    except WmPlannerError as error:
        return f"a plan between recorded pictures fails: {error}"
    rows = planner.raw_actions(result.actions, result.bounds).numpy()
    action = bundle.embodiment.action
    if not np.isfinite(rows).all() or (rows < action.low).any() or (rows > action.high).any():
        return "a plan between recorded pictures leaves the bounds of the action"
    worse = result.costs > result.initial_costs
    if bool(worse.any()) or not bool((result.costs < result.initial_costs).any()):
        return (
            "plans between recorded pictures do not descend: costs "
            f"{_shown(result.initial_costs)} become {_shown(result.costs)}"
        )
    return ""


@torch.no_grad()
def usual_surprise(model: WorldModel, segments: Segments) -> tuple[float, ...]:
    """Error that hardly any rollout exceeds, by model step; as long as the stretches allow."""
    limits = []
    for steps in range(1, min(STEPS, segments.longest) + 1):
        generator = torch.Generator().manual_seed(0)
        visual, proprio, actions = segments.windows(_BATCH * _BATCHES, steps, generator)
        now = Latent(visual[:, :1], model.proprio_encoder(proprio[:, :1]))
        last = model.rollout(now, actions, mode=_mode(model)).visual[:, -1]
        wrong = (last - visual[:, -1]).square().mean(dim=(-2, -1)).double()
        limits.append(max(float(wrong.quantile(_QUANTILE)), 1e-9))
    return tuple(limits)


def _latents(model: WorldModel, segments: Segments, frames: Tensor) -> Latent:
    with torch.no_grad():
        embedded = model.proprio_encoder(segments.proprio[frames][:, None])
    return Latent(segments.visual[frames][:, None].float(), embedded)


def _mode(model: WorldModel) -> str:
    return "markov" if model.config.num_hist == 1 else "history"


def _shown(costs: Tensor) -> str:
    return ", ".join(f"{cost:.3g}" for cost in costs.tolist())
