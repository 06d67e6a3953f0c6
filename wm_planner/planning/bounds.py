"""What a plan may hold: bounds of every raw action, and the greatest change from one to the next.

Shapes: B problems, N candidates, H model steps, A model action size, a raw action size,
R = H * A / a raw actions. Actions are standardised.

The safety gate cuts what it is sent one raw action after the other, so a plan is cut in the same
way: each raw action comes as near to what it should be as the one before it allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TOUCHES = 1e-2  # of a step: a change so near to its limit counts as limited


@dataclass(frozen=True)
class Rates:
    """Greatest changes between consecutive raw actions.

    Attributes:
        step: (R, a) greatest change to each from the one before, infinite where there is no limit,
            and where an action is decided already.
        previous: (B, 1, a) the raw action before the first.
    """

    step: Tensor
    previous: Tensor


@dataclass(frozen=True)
class Bounds:
    """Where actions may be.

    Attributes:
        low, high: infinite where there are none: (A,), or (B, 1, H, A), equal where an action is
            decided already.
        rates: greatest changes; None: no limit.
    """

    low: Tensor
    high: Tensor
    rates: Rates | None = None

    def project(self, x: Tensor) -> Tensor:
        """Actions (B, N, H, A) that keep the bounds and the rates; those that do stay."""
        x = x.clamp(self.low, self.high)
        return x if self.rates is None else within_rates(x, self.rates)

    def project_(self, x: Tensor) -> Tensor:
        """The same in place."""
        x.clamp_(self.low, self.high)
        return x if self.rates is None else x.copy_(within_rates(x, self.rates))

    def descent(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The gradient for a descent of x (B, N, H, A), inside, that ends in `project`.

        A raw action that is to change further than its rate allows follows the one before it, and
        so its derivative belongs to that one as well. Without this a descent would end wherever
        a rate limits it: each raw action would wait for the one before it, which feels nothing.
        """
        if self.rates is None:
            return gradient
        return _Chain(x, self).gathered(gradient)

    def face(self, x: Tensor, gradient: Tensor) -> Face:
        """What of x (B, N, H, A), inside, can go downhill, and what must move together.

        `gradient` is that of the cost, as it is.
        """
        low, high = (bound.expand(x.shape) for bound in (self.low, self.high))
        if self.rates is None:
            return Face(~(((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0))))
        return _Chain(x, self).face(gradient)


@dataclass(frozen=True)
class Face:
    """The directions that keep what is limited at its limit.

    Attributes:
        free: (B, N, H, A) what may move.
        mixing: (B, N, a, R, R) the mean over raw actions that move together; None: each moves
            alone.
    """

    free: Tensor
    mixing: Tensor | None = None

    def reduce(self, x: Tensor) -> Tensor:
        """The part of (B, N, H, A) vectors that lies in the face: the nearest one."""
        x = torch.where(self.free, x, 0.0)
        if self.mixing is None:
            return x
        rows = x.unflatten(-1, (-1, self.mixing.shape[2])).flatten(2, 3)
        return torch.einsum("bnars,bnsa->bnra", self.mixing, rows).reshape(x.shape)


def within_rates(x: Tensor, rates: Rates) -> Tensor:
    """(B, N, H, A) actions, one raw action after the other no further than a step from the last."""
    rows = x.unflatten(-1, (-1, rates.step.shape[1])).flatten(2, 3)
    last, kept = rates.previous, []
    for row, step in zip(rows.unbind(2), rates.step.unbind(), strict=True):
        last = row.clamp(last - step, last + step)
        kept.append(last)
    return torch.stack(kept, dim=2).reshape(x.shape)


class _Chain:
    """Which raw actions of x (B, N, H, A) are as far from the one before as their rate allows."""

    def __init__(self, x: Tensor, bounds: Bounds) -> None:
        assert bounds.rates is not None
        self._shape, step = x.shape, bounds.rates.step
        self._size = step.shape[1]
        rows = self._rows(x)
        previous = bounds.rates.previous.expand(*rows.shape[:2], -1)[:, :, None]
        change = rows - torch.cat([previous, rows[:, :, :-1]], dim=2)
        nearly = step - _TOUCHES * step.nan_to_num(posinf=0.0)
        low, high = (self._rows(bound.expand(x.shape)) for bound in (bounds.low, bounds.high))
        self._at_low, self._at_high, self._decided = rows <= low, rows >= high, low == high
        self._up, self._down = change >= nearly, change <= -nearly

    def gathered(self, gradient: Tensor) -> Tensor:
        """The gradient, with what belongs to followers added to those that they follow."""
        return self._gather(gradient).reshape(self._shape)

    def face(self, gradient: Tensor) -> Face:
        """See `Bounds.face`."""
        slope = self._gather(gradient)
        before = torch.cat([torch.zeros_like(slope[:, :, :1]), slope[:, :, :-1]], dim=2)
        up, down = self._up & (slope < 0), self._down & (slope > 0)
        # At its bound a raw action cannot follow outwards; it is taken along inwards.
        follows = (up & (~self._at_high | (before > 0))) | (down & (~self._at_low | (before < 0)))
        stuck = (self._at_low & (slope > 0)) | (self._at_high & (slope < 0))
        stuck = (stuck & ~follows) | self._decided
        stuck[:, :, 0] |= follows[:, :, 0]  # what it follows is not of this plan, and stays
        follows[:, :, 0] = False
        group = (~follows).cumsum(dim=2).transpose(2, 3)  # (B, N, a, R)
        together = group[..., :, None] == group[..., None, :]
        free = ~(together & stuck.transpose(2, 3)[..., None, :]).any(dim=-1)
        mixing = together / together.sum(dim=-1, keepdim=True)
        return Face(free.transpose(2, 3).reshape(self._shape), mixing)

    def _gather(self, gradient: Tensor) -> Tensor:
        """(B, N, R, a) gathered gradient.

        What a raw action passes on is its own gathered gradient where that points further out
        than its rate allows, and nothing elsewhere. At a bound it is anything between: outwards
        the bound stops it as well, inwards it is taken along. So both ends of what may be passed
        on are followed, and where zero lies between them, nothing is gained either way.
        """
        none = torch.zeros_like(self._up, dtype=gradient.dtype)
        least, most = (
            none.masked_fill(self._up, -torch.inf),
            none.masked_fill(self._down, torch.inf),
        )
        low_end = torch.stack([least, least.masked_fill(self._at_high, 0.0)])
        high_end = torch.stack([most.masked_fill(self._at_low, 0.0), most])
        rows = self._rows(gradient)
        passed, ends = torch.zeros_like(low_end[:, :, :, 0]), []
        for own, low, high in zip(
            reversed(rows.unbind(2)),
            reversed(low_end.unbind(3)),
            reversed(high_end.unbind(3)),
            strict=True,
        ):
            ends.append(own + passed)
            passed = ends[-1].clamp(low, high)
        lower, upper = torch.stack(ends[::-1], dim=3)
        return none.clamp(lower, upper)

    def _rows(self, x: Tensor) -> Tensor:
        rows: Tensor = x.unflatten(-1, (-1, self._size))
        return rows.flatten(2, 3)
