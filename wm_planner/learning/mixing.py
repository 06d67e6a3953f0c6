"""Weights between those of before finetuning and those of after it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from wm_planner.learning.gate import Errors
from wm_planner.models.bundle import Bundle

SHARES = (1.0, 0.85, 0.7, 0.5, 0.3)  # of a change of weights, that are tried


def mixed(
    base: Bundle,
    finetuned: Bundle,
    measure: Callable[[Bundle], Errors],
    passes: Callable[[Errors], bool],
) -> tuple[Bundle, Errors]:
    """So much of a change of weights as errs least on both robots, and its errors.

    Weights between those of before and those of after finetuning forget less than they lose
    (arXiv 2109.01903).

    Args:
        base: before.
        finetuned: after.
        measure: errors of a bundle.
        passes: whether errors pass the gate; what does not is taken where nothing else is there.
    """
    before = base.model.state_dict()
    tried: list[tuple[Bundle, Errors]] = []
    for share in SHARES:
        encoder = finetuned.model.encoder  # frozen, and the same in all
        bundle = copy.deepcopy(finetuned, {id(encoder): encoder})
        with torch.no_grad():
            for key, value in bundle.model.state_dict().items():
                if share < 1 and value.is_floating_point() and not key.startswith("encoder."):
                    value.lerp_(before[key], 1 - share)
        tried.append((bundle, measure(bundle)))
    good = [each for each in tried if passes(each[1])]
    if good:
        return min(good, key=lambda each: each[1].total)
    return min(tried, key=lambda each: each[1].corrections)
