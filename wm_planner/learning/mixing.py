"""Weights between those of before finetuning and those of after it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from wm_planner.learning.gate import Errors
from wm_planner.models.bundle import Bundle

SHARES = (1.0, 0.85, 0.7, 0.5, 0.3)  # of a change of weights, tried in this order


def mixed(
    base: Bundle,
    finetuned: Bundle,
    measure: Callable[[Bundle], Errors],
    passes: Callable[[Errors], bool],
) -> tuple[Bundle, Errors]:
    """As much of a change of weights as passes the gate, and its errors.

    Weights between those of before and those of after finetuning forget less than they lose
    (arXiv 2109.01903).

    Args:
        base: before.
        finetuned: after.
        measure: errors of a bundle.
        passes: whether errors pass the gate; where none do, the least on the new robot are taken.
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
        if passes(tried[-1][1]):
            return tried[-1]
    return min(tried, key=lambda each: each[1].corrections)
