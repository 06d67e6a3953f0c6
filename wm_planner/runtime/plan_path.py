"""Where a plan leads, for drawing: positions of joints, or of what a twist moves.

Shapes: H = rows of the plan, A = entries of one raw action.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def joint_path(
    kind: str, actions: np.ndarray, positions: np.ndarray, step: float
) -> np.ndarray | None:
    """Positions that a plan of joints leads through.

    Args:
        kind: of the action, see `embodiment.KINDS`.
        actions: (H, A), raw.
        positions: (A,) of now.
        step: how far an action of 1 leads in one control period: the period in seconds for
            velocities, 1 for changes of position.

    Returns:
        (H + 1, A), the first row of now; None where that depends on more than the action, as with
        efforts.
    """
    if kind == "effort":
        return None
    if kind == "position":
        return np.vstack([positions, actions])
    return np.vstack([positions, positions + step * np.cumsum(actions, axis=0)])


def twist_path(names: Sequence[str], actions: np.ndarray, dt_s: float, turns: bool) -> np.ndarray:
    """(H + 1, 3) metres that a plan of twists leads through, from the origin.

    Args:
        names: of the action: axes of a twist.
        actions: (H, A), m/s and rad/s.
        dt_s: control period, seconds.
        turns: the twist's axes turn with what it moves, as those of a mobile base.
    """
    linear = np.zeros((len(actions), 3))
    yaw = np.zeros(len(actions))
    for number, name in enumerate(names):
        part, _, axis = name.partition(".")
        if part == "linear":
            linear[:, "xyz".index(axis)] = actions[:, number]
        elif turns and axis == "z":
            yaw = np.concatenate([[0.0], np.cumsum(actions[:, number] * dt_s)[:-1]])
    x, y = linear[:, 0], linear[:, 1]
    moved = np.stack(
        [x * np.cos(yaw) - y * np.sin(yaw), x * np.sin(yaw) + y * np.cos(yaw), linear[:, 2]], axis=1
    )
    return np.vstack([np.zeros(3), np.cumsum(dt_s * moved, axis=0)])
