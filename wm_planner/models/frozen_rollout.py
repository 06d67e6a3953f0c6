"""'markov' rollouts of a frozen predictor as one node of the graph.

The same as `WorldModel.rollout`; for small models, whose products take microseconds, most of its
time went to the bookkeeping of tokens taken apart and put together again.

Shapes: B batch, H horizon, P patches, Dv, Dp, Da sizes of the parts of a token.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wm_planner.models.frozen import FrozenPredictor
from wm_planner.models.world_model import Latent


def markov_rollout(frozen: FrozenPredictor, now: Latent, embedded: Tensor) -> Latent:
    """Imagine what H actions do, every step predicted from one frame.

    Args:
        now: (B, 1, ...).
        embedded: (B, H, Da) actions.

    Returns:
        H + 1 frames: now, then the predictions.
    """
    return Latent(*_Markov.apply(frozen, now.visual, now.proprio, embedded))


class _Markov(torch.autograd.Function):
    """(B, 1, P, Dv), (B, 1, Dp), (B, H, Da) -> (B, H + 1, P, Dv), (B, H + 1, Dp)."""

    @staticmethod
    def forward(
        ctx: Any, frozen: FrozenPredictor, visual: Tensor, proprio: Tensor, embedded: Tensor
    ) -> tuple[Tensor, Tensor]:
        patches, cut, end = visual.shape[2], visual.shape[3], visual.shape[3] + proprio.shape[2]
        parts, ctx.steps = [visual[:, 0], proprio, embedded[:, :1]], []
        frames = [visual[:, 0]], [proprio[:, 0]]
        for step in range(embedded.shape[1]):
            action = embedded[:, step : step + 1]
            tiled = [part.expand(-1, patches, -1) for part in (parts[1], action)]
            result, seen, saved = frozen.forward(torch.cat([parts[0], *tiled], 2), 0, (), True)
            ctx.steps.append((seen, saved))
            assert result is not None
            parts = [result[..., :cut], result[:, :1, cut:end]]
            frames[0].append(parts[0])
            frames[1].append(parts[1][:, 0])
        ctx.frozen, ctx.cut, ctx.end, ctx.size = frozen, cut, end, end + embedded.shape[2]
        return torch.stack(frames[0], dim=1), torch.stack(frames[1], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_visual: Tensor, of_proprio: Tensor) -> tuple[Tensor | None, ...]:
        cut, end, batch = ctx.cut, ctx.end, len(of_visual)
        of_actions: list[Tensor] = []
        visual = proprio = None
        for step in reversed(range(len(ctx.steps))):
            seen, saved = ctx.steps[step]
            visual = _plus(of_visual[:, step + 1], visual)
            proprio = _plus(of_proprio[:, step + 1], proprio)
            # Of a prediction the entries of the action go unused, proprioception is patch 0's.
            of_result = F.pad(visual, (0, ctx.size - cut))
            of_result[:, 0, cut:end] = proprio
            z, _ = ctx.frozen.backward(of_result, (), saved, seen, batch, 0)
            rest = z[..., cut:].sum(dim=1)
            visual, proprio = z[..., :cut], rest[:, : end - cut]
            of_actions.append(rest[:, end - cut :])
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            visual, proprio = _plus(of_visual[:, 0], visual), _plus(of_proprio[:, 0], proprio)
            visual, proprio = visual[:, None], proprio[:, None]
        return None, visual, proprio, torch.stack(of_actions[::-1], dim=1)


def _plus(a: Tensor, b: Tensor | None) -> Tensor:
    return a if b is None else a + b
