"""Which recordings are trained on, and which judge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wm_planner.learning.episodes import Episode, Episodes
from wm_planner.models.core_set import CoreSet
from wm_planner.training.segments import Segments, joined, of_stretches

HELD_OUT = 5  # of so many episodes, or stretches of the core set, one is not trained on


def loaded(episodes: Episodes, order: Sequence[str]) -> list[Episode | None]:
    """The episodes of these names; None where one is not there any more."""
    there = set(episodes.names())
    return [episodes.load(name) if name in there else None for name in order]


def numbers(usable: Sequence[Episode | None]) -> tuple[list[int], list[int]]:
    """Which to train on, and which to judge by: every `HELD_OUT`-th episode, or else the last."""
    there = [i for i, episode in enumerate(usable) if episode is not None]
    held = [i for i in there if i % HELD_OUT == HELD_OUT - 1] or there[-1:]
    if held == there:
        held = there[-1:]
    return [i for i in there if i not in held], held


def in_both(
    one: list[Episode | None], other: list[Episode | None]
) -> tuple[list[Episode | None], list[Episode | None]] | None:
    """The episodes that are there in both, so that errors are of the same ones.

    None where these are fewer than two, or fewer than half of `other`: bags may be gone, and what
    was converted for one encoder cannot be converted for another then.
    """
    is_there = [a is not None and b is not None for a, b in zip(one, other, strict=True)]
    if sum(is_there) < max(2, sum(episode is not None for episode in other) / 2):
        return None
    left, right = (
        [each if there else None for each, there in zip(episodes, is_there, strict=True)]
        for episodes in (one, other)
    )
    return left, right


def newest_pictures(usable: list[Episode | None], count: int) -> tuple[Tensor, Tensor] | None:
    """(F, S, C * S, 3) pictures of the newest episodes: to fit, and to judge by.

    None where fewer than two of them have pictures.
    """
    shown = [each if each is not None and each.pictures is not None else None for each in usable]
    there = [number for number, each in enumerate(shown) if each is not None][-count:]
    if len(there) < 2:
        return None
    newest = [each if number in there else None for number, each in enumerate(shown)]
    fit, judge = (
        torch.cat(
            [each.pictures for i in part if (each := newest[i]) and each.pictures is not None]
        )
        for part in numbers(newest)
    )
    return fit, judge


def parts_of(usable: Sequence[Episode | None]) -> tuple[Segments, Segments]:
    """Segments to train on, and to judge by."""
    chosen = {i: episode.segments for i, episode in enumerate(usable) if episode is not None}
    train, held = (joined([chosen[i] for i in part]) for part in numbers(usable))
    return train, held


def core_parts(core: CoreSet | None) -> tuple[Segments | None, Segments | None]:
    """Stretches of the core set to train on, and to judge by; None where there is none."""
    if core is None:
        return None, None
    held = torch.arange(len(core.actions)) % HELD_OUT == HELD_OUT - 1
    if not bool(held.any()):
        held[-1] = True
    both = [
        of_stretches(core.visual[rows], core.proprio[rows], core.actions[rows])
        for rows in (~held, held)
    ]
    return both[0], both[1]
