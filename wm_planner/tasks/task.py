"""What a simulated task is: an embodiment, an environment, and a test of success."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from wm_planner.embodiment import Embodiment

Distance = Callable[[np.ndarray, np.ndarray], float]
Success = Callable[[np.ndarray, np.ndarray], bool]


@dataclass(frozen=True)
class Task:
    """One simulated task. It lives beside its environment and is found by an entry point.

    Attributes:
        embodiment: the simulated robot; its name is the task's.
        env_id: gymnasium id. Importing the module that holds the task registers it.
        state_names: names of the full simulator state.
        max_model_steps: model steps after which an episode has failed.
        distance: (state, goal_state) -> distance in the unit of the success test.
        is_success: (state, goal_state) -> bool.
        distance_unit: unit of `distance`, in words.
        layout: what of the simulated scene can be changed; names as in `Shifts`.
        things: what moves, each with the state entries that a picture shows of it; no speeds.
            Empty: one thing, of all entries.
        angles: state entries that are angles, radians.
        metres: that a position of 1 is drawn as.
        action_step: how far an action of 1 leads in a control period, in the unit of positions; 0:
            as its unit says.
    """

    embodiment: Embodiment
    env_id: str
    state_names: tuple[str, ...]
    max_model_steps: int
    distance: Distance
    is_success: Success
    distance_unit: str
    layout: tuple[str, ...] = ()
    things: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    angles: tuple[str, ...] = ()
    metres: float = 1.0
    action_step: float = 0.0

    @property
    def name(self) -> str:
        """Name used on the command line and in checkpoints."""
        return self.embodiment.name


def wrapped_angle(angle_rad: float) -> float:
    """Wrap an angle to [-pi, pi)."""
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)


def xy_distance(state: np.ndarray, goal: np.ndarray) -> float:
    """Distance of the first two entries of two states."""
    return float(np.linalg.norm(np.asarray(state)[:2] - np.asarray(goal)[:2]))
