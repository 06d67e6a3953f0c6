"""Which recordings are trained on, and which judge."""

from __future__ import annotations

from collections.abc import Sequence

import torch

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
