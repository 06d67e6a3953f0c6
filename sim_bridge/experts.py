"""Scripted policies that collect data: state -> raw action, one policy per episode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Policy = Callable[[np.ndarray], np.ndarray]
CENTRE = np.array([0.0, 45.0])  # PushT: centre of gravity in the block's frame, workspace units


def hold(
    rng: np.random.Generator, low: int, high: int, draw: Callable[[np.ndarray], Policy]
) -> Policy:
    """Keep what `draw(state)` returns for a random number of steps, `low` to `high`, then draw
    again; actions are clipped to [-1, 1].
    """
    left = 0
    current: Policy

    def act(state: np.ndarray) -> np.ndarray:
        nonlocal left, current
        if left == 0:
            left, current = int(rng.integers(low, high + 1)), draw(state)
        left -= 1
        return np.clip(current(state), -1.0, 1.0).astype(np.float32)

    return act


def roam_maze(
    rng: np.random.Generator,
    draw_target: Callable[[], np.ndarray],
    next_waypoint: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Policy:
    """PointMaze: waypoints towards random targets under a noisy PD law, or stretches of random
    force.

    Args:
        rng: source of randomness.
        draw_target: a random x, y.
        next_waypoint: (here, target) -> the point to head for, all x, y.
    """

    def draw(_state: np.ndarray) -> Policy:
        if rng.random() < 0.4:
            force = rng.normal(0.0, 0.6, 2)
            return lambda now: force + rng.normal(0.0, 0.2, 2)
        target = draw_target()
        gain = rng.uniform(0.6, 2.0)

        def pursue(now: np.ndarray) -> np.ndarray:
            force = gain * (next_waypoint(now[:2], target) - now[:2]) - 0.25 * now[2:]
            return force + rng.normal(0.0, 0.2, 2)

        return pursue

    return hold(rng, 5, 30, draw)


def push_calmly(rng: np.random.Generator) -> Policy:
    """PushT: three quarters of the stretches head through the block near its centre."""
    return hold(rng, 4, 14, lambda state: _push(rng, rng.uniform(0.1, 0.4), 0.03))


def push_anyhow(rng: np.random.Generator) -> Policy:
    """PushT: half of the episodes are calm; the others push at any speed and jitter.

    A planner is free in every single action. A model that has only seen smooth pushes is
    wrong about the jerky ones, and a gradient finds that out.
    """
    if rng.random() < 0.5:
        return push_calmly(rng)

    def draw(_state: np.ndarray) -> Policy:
        return _push(rng, rng.uniform(0.05, 0.7), 10 ** rng.uniform(-1.5, -0.5))

    return hold(rng, 2, 10, draw)


def rotate(vector: np.ndarray, angle_rad: float) -> np.ndarray:
    """`vector` (2,) turned counter-clockwise."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]])


def _push(rng: np.random.Generator, speed: float, jitter: float) -> Policy:
    if rng.random() < 0.75:
        offset = rng.normal(0.0, 30.0, 2)

        def push(now: np.ndarray) -> np.ndarray:
            target = now[2:4] + rotate(CENTRE, now[4]) + offset
            return speed * unit(target - now[:2]) + rng.normal(0.0, jitter, 2)

        return push
    heading = rng.uniform(0, 2 * np.pi)
    direction = speed * np.array([np.cos(heading), np.sin(heading)])
    return lambda now: direction + rng.normal(0.0, jitter, 2)


def random_offset(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """(2,) offset of any direction, `low` to `high` long."""
    around = rng.uniform(0, 2 * np.pi)
    return rng.uniform(low, high) * np.array([np.cos(around), np.sin(around)])


def unit(vector: np.ndarray) -> np.ndarray:
    """`vector` with length 1; of one without length, as it is."""
    return vector / max(float(np.linalg.norm(vector)), 1e-6)
