"""The predictor made ready for planning: frozen weights, gradients of its inputs only.

`ViTPredictor` stays the reference, and trains. This computes the same function frame by frame,
with its derivative written out by hand. A frame sees those before it through their keys and
values alone, so nothing else of them is kept: no mask is built, no frame of a growing window is
computed twice, and a frame whose prediction nobody asks for ends at the keys and values of the
last block. The graph has one node for each frame.

Shapes: B batch, P patches of a frame, M = B * P rows, S visible keys, N heads, W inner width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wm_planner.models.fast.block import FrozenBlock, FrozenNorm
from wm_planner.models.predictor import ViTPredictor

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class FrozenPredictor:
    """`ViTPredictor` in evaluation mode, one frame at a time.

    Args:
        predictor: its weights are taken now; what is done to them afterwards may not be seen.
        precision: of the products, 'float32' or 'bfloat16' (accumulated in float32; the residual
            stream and the norms stay in float32).
    """

    def __init__(self, predictor: ViTPredictor, precision: str = "float32") -> None:
        sizes = predictor.num_patches, predictor.num_hist
        self.blocks = []
        for pair in predictor.transformer.layers:
            attention, feed_forward = cast(Any, pair)
            self.blocks.append(FrozenBlock(attention, feed_forward, PRECISIONS[precision], *sizes))
        self.num_patches, self.num_hist = predictor.num_patches, predictor.num_hist
        self.residual = predictor.residual
        self._norm = FrozenNorm(predictor.transformer.norm)
        # Weights and bias of what comes before and after the blocks, or None.
        self.entry, self.exit = (
            (layer.weight.detach(), layer.bias.detach()) if isinstance(layer, nn.Linear) else None
            for layer in (predictor.proj_in, predictor.proj_out)
        )
        position = predictor.pos_embedding.detach()[0].unflatten(0, (self.num_hist, -1))
        # (K, P, W), with the bias of the entry.
        self.position = position if self.entry is None else position + self.entry[1]

    def predict(
        self, z_BPD: Tensor, slot: int = 0, past: Sequence[Tensor] = (), keep: bool = False
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Predict the frame after this one.

        Args:
            z_BPD: (B, P, D) tokens of a frame.
            slot: its place in the window.
            past: keys and values (B, N, slot * P, dim_head) of the frames before it, of every
                block, as an earlier call returned them.
            keep: also return keys and values, of this frame too.

        Returns:
            (B, P, D) tokens, and keys and values (empty unless kept).
        """
        run: Any = _Frame.apply  # torch gives it no annotations
        prediction, *seen = run(self, slot, True, keep, z_BPD, *past)
        return prediction, seen

    def remember(
        self, z_BPD: Tensor, slot: int = 0, past: Sequence[Tensor] = ()
    ) -> Sequence[Tensor]:
        """Keys and values as from `predict`, of a frame that needs no prediction."""
        run: Any = _Frame.apply
        result: Sequence[Tensor] = run(self, slot, False, True, z_BPD, *past)
        return result

    def forward(
        self, z: Tensor, slot: int, past: Sequence[Tensor], predict: bool
    ) -> tuple[Tensor | None, list[Tensor], list[list[Tensor]]]:
        """The prediction, or None; keys and values seen; what the derivative needs."""
        x = z if self.entry is None else F.linear(z, self.entry[0])
        x = (x + self.position[slot]).flatten(0, 1)
        y, seen, saved = self.through(x, len(z), past, predict)
        if y is None:
            return None, seen, saved
        y = (y if self.exit is None else F.linear(y, *self.exit)).view(z.shape)
        return (z + y if self.residual else y), seen, saved

    def through(
        self, x: Tensor, batch: int, past: Sequence[Tensor] = (), predict: bool = True
    ) -> tuple[Tensor | None, list[Tensor], list[list[Tensor]]]:
        """`forward` between entry and exit: rows (M, W) in, normed rows out."""
        last = len(self.blocks) - 1
        seen: list[Tensor] = []
        saved = []
        for index, block in enumerate(self.blocks):
            mine = past[2 * index : 2 * index + 2]
            if predict or index < last:
                x, visible, kept = block.forward(x, mine, batch)
            else:
                visible, kept = block.remember(x, mine, batch)
            seen += visible
            saved.append(kept)
        if not predict:
            return None, seen, saved
        y, *stats = self._norm.forward(x)
        saved.append([x, *stats])
        return y, seen, saved

    def backward(
        self,
        gradient: Tensor | None,
        of_seen: Sequence[Tensor | None],
        saved: list[list[Tensor]],
        seen: Sequence[Tensor],
        batch: int,
        num_past: int,
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Derivative of `forward`.

        Args:
            gradient: of the prediction (B, P, D), or None.
            of_seen: of keys and values, each may be None; empty for none at all.
            saved, seen: as returned.
            num_past: keys that were handed in.

        Returns:
            Gradients of the tokens, and of the keys and values that were handed in.
        """
        rows = None
        if gradient is not None:
            rows = gradient.flatten(0, 1)
            rows = rows if self.exit is None else torch.mm(rows, self.exit[0])
        x, of_past = self.back_through(rows, of_seen, saved, seen, batch, num_past)
        if x is None:
            return None, of_past
        z = (x if self.entry is None else torch.mm(x, self.entry[0])).unflatten(0, (batch, -1))
        if gradient is not None and self.residual:
            z = z + gradient
        return z, of_past

    def back_through(
        self,
        rows: Tensor | None,
        of_seen: Sequence[Tensor | None],
        saved: list[list[Tensor]],
        seen: Sequence[Tensor],
        batch: int,
        num_past: int = 0,
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Derivative of `through`: as `backward`, with rows (M, W) for tokens."""
        x = None if rows is None else self._norm.backward(rows, *saved[-1])
        of_past: list[Tensor | None] = []
        for index in reversed(range(len(self.blocks))):
            mine = slice(2 * index, 2 * index + 2)
            others = of_seen[mine] or (None,) * len(seen[mine])
            x, past = self.blocks[index].backward(
                x, others, saved[index], seen[mine], batch, num_past
            )
            of_past = past + of_past
        return x, of_past


class _Frame(torch.autograd.Function):
    """One frame through all blocks: the prediction, then keys and values, as far as wanted."""

    @staticmethod
    def forward(
        ctx: Any,
        frozen: FrozenPredictor,
        slot: int,
        predict: bool,
        keep: bool,
        z: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        prediction, seen, ctx.saved = frozen.forward(z, slot, past, predict)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*seen)  # outputs must be; the others are nobody else's
        ctx.frozen, ctx.predict, ctx.batch = frozen, predict, len(z)
        ctx.num_past = past[0].shape[2] if past else 0
        outputs = () if prediction is None else (prediction,)
        return (*outputs, *(seen if keep else ()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        z, of_past = ctx.frozen.backward(
            gradients[0] if ctx.predict else None,
            gradients[ctx.predict :],
            ctx.saved,
            ctx.saved_tensors,
            ctx.batch,
            ctx.num_past,
        )
        return (None, None, None, None, z, *of_past)


class FrozenWindow:
    """`PredictorWindow` on a frozen predictor: equal predictions, frame by frame."""

    def __init__(self, predictor: FrozenPredictor) -> None:
        self._predictor = predictor

    def begin(self, z_BTPD: Tensor) -> Tensor:
        """See `Window.begin`."""
        self._frames = list(z_BTPD.unbind(1))[-self._predictor.num_hist :]
        self._remember()
        return self._predict()

    def append(self, z_B1PD: Tensor) -> Tensor:
        """See `Window.append`."""
        slides = len(self._frames) == self._predictor.num_hist
        self._frames = [*self._frames[slides:], z_B1PD[:, 0]]
        if slides:  # every frame moves to another position: nothing known of them holds
            self._remember()
        return self._predict()

    def _remember(self) -> None:
        self._past: Sequence[Tensor] = ()
        for slot, frame in enumerate(self._frames[:-1]):
            self._past = self._predictor.remember(frame, slot, self._past)

    def _predict(self) -> Tensor:
        count = len(self._frames)
        grows = count < self._predictor.num_hist
        result, self._past = self._predictor.predict(
            self._frames[-1], count - 1, self._past, keep=grows
        )
        return result[:, None]
