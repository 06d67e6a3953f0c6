"""One gradient step on what just happened, before each plan: bounded, and with a way back.

After AdaJEPA (Wang et al., arXiv 2606.32026). The last transitions tell how wrong the model is
here and now, so the predictor takes one step down the one-step error on them: one step of Adam
begun afresh, as published, which moves every weight by about the learning rate. The published
method adapts the last block, and the encoder's head too; here the encoder stays as it is, so that
latents of the goal and of remembered frames still mean the same, and all of the predictor adapts
unless told otherwise.

Two limits are this package's own: a step that does not lower the error is not taken, and the
weights that adapt stay in a ball around those of the checkpoint.

A learning rate of 0.0002 is a good first one for the shipped checkpoints; the page
docs/experiments/shifts.md says where it helps.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
from torch import Tensor

from wm_planner.errors import ConfigError
from wm_planner.models.model import Model
from wm_planner.models.predictor import ViTPredictor
from wm_planner.models.world_model import Latent, WorldModel
from wm_planner.planning.config import PlannerConfig
from wm_planner.planning.objective import goal_cost

_EPSILON = 1e-8  # of Adam
_JITTER = 0.1  # of a model step, by which frames may come early


@dataclass(frozen=True)
class Transition:
    """What was seen, what was done, and what came of it.

    Attributes:
        seen: (1, T, ...) frames that the model predicts from.
        actions: (1, T, A) standardised, executed from each of them on.
        then: (1, 1, ...) the frame after the last.
    """

    seen: Latent
    actions: Tensor
    then: Latent

    def is_finite(self) -> bool:
        """Whether all of it is a number."""
        parts = (self.seen, self.then)
        tensors = [self.actions, *(p.visual for p in parts), *(p.proprio for p in parts)]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)


class Adaptation:
    """A model that follows what happens; with a learning rate of 0 the given model itself.

    The weights that adapt are copies, all others are shared with the given model, which never
    changes. `Engine.refresh` sees the copies change: on a CPU it takes them anew in about a
    millisecond, on a GPU it also records its graph again (`CapturedSolver.forget`).

    Args:
        model: in evaluation mode, without weight gradients.
        config: 'rollout' and the settings 'adapt_...' are used.
        step_ns: time of a model step, nanoseconds.

    Attributes:
        model: what to plan with.

    Raises:
        ConfigError: the model has no predictor, or one of fewer layers than are to adapt.
    """

    def __init__(self, model: Model, config: PlannerConfig, step_ns: int) -> None:
        self.model, self._config, self._step_ns = model, config, step_ns
        self._buffer: deque[Transition] = deque(maxlen=config.adapt_transitions)
        self._until_ns: int | None = None
        self._originals: list[Tensor] = []
        self._weights: list[Tensor] = []
        if config.adapts:
            if not hasattr(model, "predictor"):
                raise ConfigError(
                    f"adapt_learning_rate {config.adapt_learning_rate}: this model has no "
                    "predictor that adapts; use 0"
                )
            ours = cast(WorldModel, model)
            self._originals = last_weights(ours.predictor, config.adapt_layers)
            own = _with_own(ours, self._originals)
            self.model, self._weights = own, last_weights(own.predictor, config.adapt_layers)

    def restore(self) -> None:
        """Back to the weights of the given model, bit for bit, and forget what happened."""
        self._buffer.clear()
        self._until_ns = None
        _copy(self._originals, self._weights)

    def learn(self, frames: Latent, actions: Tensor | None, stamp_ns: int) -> bool:
        """Remember the newest model step and take one step of learning; True when it was taken.

        Whoever plans more often than once in a model step sees the same motion again and again;
        what overlaps the last model step that was learnt from is left out.

        Args:
            frames: (1, T, ...) the newest frames. With T = 1 nothing is known to have happened.
            actions: (1, T - 1, A) standardised, executed between them, or None.
            stamp_ns: time of the newest frame.

        Raises:
            ValueError: more than one robot: each would need weights of its own.
        """
        if not self._weights or actions is None or self._overlaps(stamp_ns):
            return False
        if len(actions) > 1:
            raise ValueError(f"the model adapts to one robot, got a batch of {len(actions)}")
        window = actions.shape[1] if self._config.rollout == "history" else 1
        transition = Transition(
            frames.frames(slice(-1 - window, -1)),
            actions[:, -window:],
            frames.frames(slice(-1, None)),
        )
        if not transition.is_finite():
            return False
        self._buffer.append(transition)
        self._until_ns = stamp_ns
        return self._step()

    def error(self) -> Tensor:
        """Mean squared error of the next latent over all remembered transitions."""
        groups = groupby(self._buffer, key=lambda transition: transition.actions.shape)
        return torch.cat([self._errors(list(group)) for _, group in groups]).mean()

    def change(self) -> Tensor:
        """Norm of the change of the weights that adapt, relative to theirs in the given model."""
        pairs = zip(self._weights, self._originals, strict=True)
        return _norm([own - original for own, original in pairs]) / _norm(self._originals)

    def _overlaps(self, stamp_ns: int) -> bool:
        if self._until_ns is None:
            return False
        return 0 <= stamp_ns - self._until_ns < (1 - _JITTER) * self._step_ns

    def _errors(self, transitions: Sequence[Transition]) -> Tensor:
        """(n,) errors of n transitions of one length, weighed as in training."""
        seen, then = (_joined([getattr(t, n) for t in transitions]) for n in ("seen", "then"))
        actions = torch.cat([transition.actions for transition in transitions])
        past = actions[:, :-1] if actions.shape[1] > 1 else None
        imagined = self.model.rollout(seen, actions[:, -1:], past, mode=self._config.rollout)
        alpha = then.proprio.shape[-1] / then.visual.shape[-1]
        return goal_cost(imagined, then, "last", 1.0, alpha)

    def _step(self) -> bool:
        with torch.enable_grad():
            for weight in self._weights:
                weight.requires_grad_(True)
            before = self.error()
            gradients = torch.autograd.grad(before, self._weights, materialize_grads=True)
        old = []
        with torch.no_grad():
            for weight, gradient in zip(self._weights, gradients, strict=True):
                weight.requires_grad_(False)
                old.append(weight.clone())
                scale = gradient.abs().add_(_EPSILON)
                weight.addcdiv_(gradient, scale, value=-self._config.adapt_learning_rate)
            self._pull_back()
            if self.error() < before:
                return True
        _copy(old, self._weights)
        return False

    def _pull_back(self) -> None:
        """To the nearest point of the ball."""
        share = self._config.adapt_max_change / self.change()
        if share < 1:
            for weight, original in zip(self._weights, self._originals, strict=True):
                weight.lerp_(original, 1 - share)


def last_weights(predictor: ViTPredictor, num_layers: int) -> list[Tensor]:
    """Weights of the last blocks and of what comes after them; of 0 blocks means all weights.

    Raises:
        ConfigError: the predictor has fewer blocks.
    """
    if num_layers == 0:
        return list(predictor.parameters())
    blocks = predictor.transformer.layers
    if num_layers > len(blocks):
        raise ConfigError(
            f"adapt_layers {num_layers}: the predictor has {len(blocks)} blocks; 0 adapts it whole"
        )
    modules = [*list(blocks)[-num_layers:], predictor.transformer.norm, predictor.proj_out]
    return [weight for module in modules for weight in module.parameters()]


def _with_own(model: WorldModel, weights: Sequence[Tensor]) -> WorldModel:
    """The model again, with copies of `weights`; everything else is the same memory."""
    own, predictor = {id(weight) for weight in weights}, model.predictor
    others = [x for x in (*predictor.parameters(), *predictor.buffers()) if id(x) not in own]
    shared = [*others, *(child for child in model.children() if child is not predictor)]
    return copy.deepcopy(model, {id(x): x for x in shared})


def _joined(latents: Sequence[Latent]) -> Latent:
    return Latent(
        torch.cat([latent.visual for latent in latents]),
        torch.cat([latent.proprio for latent in latents]),
    )


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.stack([tensor.norm() for tensor in tensors]).norm()
    return norm


def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
