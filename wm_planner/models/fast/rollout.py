"""'markov' rollouts of a frozen predictor as one node of the graph.

The same as `WorldModel.rollout`; for small models, whose products take microseconds, most of its
time went to the bookkeeping of tokens taken apart and put together again. Here what a prediction
hands to the next step, its visual tokens and proprioception, stays one tensor, the state.

Shapes: B batch, H horizon, P patches, M = B * P rows, Dv, Dp, Da sizes of the parts of a token,
S size of the state of a patch, W inner width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wm_planner.models.fast.linear import FrozenLinear
from wm_planner.models.fast.predictor import FrozenPredictor
from wm_planner.models.world_model import Latent


def markov_rollout(ends: Ends, now: Latent, embedded: Tensor) -> Latent:
    """Imagine what H actions do, every step predicted from one frame.

    Args:
        now: (B, 1, ...).
        embedded: (B, H, Da) actions.

    Returns:
        H + 1 frames: now, then the predictions.
    """
    run: Any = _Markov.apply  # torch gives it no annotations
    return Latent(*run(ends, now.visual, now.proprio, embedded))


class TokenEnds:
    """How a state enters and leaves the blocks of a predictor that works on tokens as they are.

    The state is the token, S = D; its action entries are written over before each step.

    Args:
        predictor: its first position and its ends are taken.
        action_size: Da.
    """

    def __init__(self, predictor: FrozenPredictor, action_size: int) -> None:
        self.predictor, self._position = predictor, predictor.position[0]
        self.size = self._position.shape[1]
        self.end = self.size - action_size

    def actions(self, embedded_BHE: Tensor) -> Tensor:
        """What `enter` takes of (B, H, Da) actions, step by step."""
        return embedded_BHE

    def enter(self, state_BPS: Tensor, action_BE: Tensor) -> Tensor:
        """(M, W)"""
        state_BPS[..., self.end :] = action_BE[:, None]
        result: Tensor = (state_BPS + self._position).flatten(0, 1)
        return result

    def leave(self, rows_MW: Tensor, state_BPS: Tensor) -> Tensor:
        """The next state (B, P, S), with proprioception as predicted for each patch."""
        new = rows_MW.view(state_BPS.shape)
        return new.add_(state_BPS) if self.predictor.residual else new

    def back_from_exit(self, gradient_BPS: Tensor) -> Tensor:
        """Gradient of the rows that left."""
        gradient_BPS[..., self.end :] = 0
        return gradient_BPS.flatten(0, 1)

    def back_from_entry(self, gradient_BPW: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the state (without what went round the blocks) and of (B, Da) actions."""
        return gradient_BPW, gradient_BPW[..., self.end :].sum(dim=1)

    def of_actions(self, gradient_BHE: Tensor) -> Tensor:
        """From the gradients of each step to those of the embedded actions."""
        return gradient_BHE


class ProjectedEnds:
    """The same for a predictor with a width of its own, S = Dv + Dp.

    The first layer is linear: the share of all actions is one product. Of the last layer only
    what goes on is computed.
    """

    def __init__(self, predictor: FrozenPredictor, action_size: int) -> None:
        assert predictor.entry is not None and predictor.exit is not None
        self.predictor = predictor
        weight, _ = predictor.entry
        self.size = self.end = weight.shape[1] - action_size
        self._state = FrozenLinear(weight[:, : self.end], None, weight.dtype)
        self._action = weight[:, self.end :]
        self._position = predictor.position[0]
        weight, bias = predictor.exit
        self._exit = FrozenLinear(weight[: self.end], bias[: self.end], weight.dtype)

    def actions(self, embedded_BHE: Tensor) -> Tensor:
        """See `TokenEnds`."""
        bias = self._position[0] if len(self._position) == 1 else None
        return F.linear(embedded_BHE, self._action, bias)

    def enter(self, state_BPS: Tensor, action_BW: Tensor) -> Tensor:
        """See `TokenEnds`."""
        patches, size = state_BPS.shape[1:]
        rows = self._state.forward(state_BPS.view(-1, size))
        if patches == 1:
            return rows.add_(action_BW)
        share = action_BW[:, None] + self._position
        return rows.add_(share.view(-1, share.shape[2]))

    def leave(self, rows_MW: Tensor, state_BPS: Tensor) -> Tensor:
        """See `TokenEnds`."""
        new = self._exit.forward(rows_MW).view(state_BPS.shape)
        return new.add_(state_BPS) if self.predictor.residual else new

    def back_from_exit(self, gradient_BPS: Tensor) -> Tensor:
        """See `TokenEnds`."""
        return self._exit.backward(gradient_BPS.flatten(0, 1))

    def back_from_entry(self, gradient_BPW: Tensor) -> tuple[Tensor, Tensor]:
        """See `TokenEnds`."""
        batch, patches, width = gradient_BPW.shape
        state = self._state.backward(gradient_BPW.view(-1, width)).view(batch, patches, -1)
        return state, gradient_BPW[:, 0] if patches == 1 else gradient_BPW.sum(dim=1)

    def of_actions(self, gradient_BHW: Tensor) -> Tensor:
        """See `TokenEnds`."""
        return F.linear(gradient_BHW, self._action.t())


Ends = TokenEnds | ProjectedEnds


def ends_of(predictor: FrozenPredictor, action_size: int) -> Ends:
    """The ends for this predictor."""
    return (TokenEnds if predictor.entry is None else ProjectedEnds)(predictor, action_size)


class _Markov(torch.autograd.Function):
    """(B, 1, P, Dv), (B, 1, Dp), (B, H, Da) -> (B, H + 1, P, Dv), (B, H + 1, Dp)."""

    @staticmethod
    def forward(
        ctx: Any, ends: Ends, visual: Tensor, proprio: Tensor, embedded: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, _, patches, cut = visual.shape
        state = visual.new_empty(batch, patches, ends.size)
        state[..., :cut], state[..., cut : ends.end] = visual[:, 0], proprio
        states, ctx.steps = [state], []
        for action in ends.actions(embedded).unbind(1):
            rows, seen, saved = ends.predictor.through(ends.enter(state, action), batch)
            assert rows is not None
            ctx.steps.append((seen, saved))
            state = ends.leave(rows, state)
            if patches > 1:  # every patch is told the proprioception of the first
                state[:, 1:, cut : ends.end] = state[:, :1, cut : ends.end]
            states.append(state)
        ctx.ends = ends
        frames = torch.stack(states, dim=1)
        return frames[..., :cut], frames[:, :, 0, cut : ends.end]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_visual: Tensor, of_proprio: Tensor) -> tuple[Tensor | None, ...]:
        ends: Ends = ctx.ends
        batch, _, patches, cut = of_visual.shape
        of_states = of_visual.new_zeros(*of_visual.shape[:3], ends.size)
        of_states[..., :cut], of_states[:, :, 0, cut : ends.end] = of_visual, of_proprio
        *earlier, gradient = of_states.unbind(1)
        of_actions: list[Tensor] = []
        for (seen, saved), of_state in zip(reversed(ctx.steps), reversed(earlier), strict=True):
            rows, _ = ends.predictor.back_through(
                ends.back_from_exit(gradient), (), saved, seen, batch
            )
            assert rows is not None
            state, action = ends.back_from_entry(rows.view(batch, patches, -1))
            gradient = state.add_(gradient) if ends.predictor.residual else state
            if patches > 1:  # proprioception was read at patch 0
                felt = gradient[..., cut : ends.end]
                total = felt.sum(dim=1)
                felt.zero_()
                felt[:, 0] = total
            gradient.add_(of_state)
            of_actions.append(action)
        visual, proprio = gradient[:, None, :, :cut], gradient[:, :1, cut : ends.end]
        return None, visual, proprio, ends.of_actions(torch.stack(of_actions[::-1], dim=1))
