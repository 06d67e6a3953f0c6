"""Weights between those of before finetuning and those of after it."""

from __future__ import annotations

import copy
import math

import torch

from wm_planner.learning.gate import errors
from wm_planner.models.bundle import Bundle
from wm_planner.training.segments import Segments

SHARES = (1.0, 0.85, 0.7, 0.5, 0.3)  # of a change of weights, that are tried


def mixed(
    base: Bundle, finetuned: Bundle, held_out: Segments, core_held_out: Segments | None
) -> Bundle:
    """The finetuned bundle, or so much of its change as errs least on both kinds of recordings.

    Weights between those of before and those of after finetuning forget less than they lose
    (arXiv 2109.01903).
    """
    if core_held_out is None:
        return finetuned
    before = base.model.state_dict()
    least, best = math.inf, finetuned
    for share in SHARES:
        tried = copy.deepcopy(finetuned)
        with torch.no_grad():
            for key, value in tried.model.state_dict().items():
                if share < 1 and value.is_floating_point():
                    value.lerp_(before[key], 1 - share)
        found = errors(tried.model, held_out, core_held_out)
        assert found.core_set is not None
        if found.corrections + found.core_set < least:
            least, best = found.corrections + found.core_set, tried
    return best
