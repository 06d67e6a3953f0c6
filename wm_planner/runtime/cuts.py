"""How much of a plan the limits of a robot would change."""

from __future__ import annotations

import numpy as np

from wm_planner.runtime.safety import Limits, limit


def cuts(actions: np.ndarray, last_sent: np.ndarray, limits: Limits, dt_s: float) -> np.ndarray:
    """Which actions of a plan would not reach the robot as they are.

    Args:
        actions: (N, A) finite, one control period apart.
        last_sent: (A,) the action before them.
        limits: bounds and rates.
        dt_s: control period, seconds.

    Returns:
        (N,) bool. Each action is held against what would have been sent before it.
    """
    sent, changed = np.asarray(last_sent, np.float64), []
    for action in actions:
        sent, cut = limit(action, sent, limits, dt_s)
        changed.append(cut)
    return np.array(changed, dtype=bool)
