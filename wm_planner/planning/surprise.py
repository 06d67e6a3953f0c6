"""How far what is seen is from what the model expected of the actions that were taken."""

from __future__ import annotations

import numpy as np
import torch

from wm_planner.planning.encoding import EncodedObservation
from wm_planner.planning.planner import Planner


def error_of(
    planner: Planner,
    before: EncodedObservation,
    actions: np.ndarray,
    now: EncodedObservation,
    passed: float,
) -> float:
    """Mean squared error of the visual tokens that the model expects of one robot.

    Args:
        planner: whose model.
        before: where the robot was.
        actions: (H, A) model actions that it has taken since, physical units.
        now: where it is.
        passed: model steps between the two, about H or less than one less: what is expected in
            between lies on the line through the last two imagined frames.
    """
    for observation in (before, now):
        observation.wait()
    normal = planner.bundle.preprocess.normalise_actions(actions)[None].to(planner.bundle.device)
    with torch.no_grad(), planner.engine.products():
        path = planner.engine.rollout(before.now, normal, before.past_actions).visual
    last, share = path[:, -1], passed - len(actions) + 1
    expected = path[:, -2] + share * (last - path[:, -2])
    return float((expected - now.now.visual[:, -1]).square().mean())
