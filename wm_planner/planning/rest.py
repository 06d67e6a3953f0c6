"""The raw action that leaves a robot where it is: what rest is depends on the kind of action."""

from __future__ import annotations

import numpy as np

from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError


class Rest:
    """Rest of one robot.

    A velocity, an effort or a change of position of zero leaves a robot where it is; where zero
    lies outside the bounds, the nearest bound does it best. A robot that takes positions rests
    where its joints are, which its proprioception says.

    Args:
        embodiment: of the robot.

    Attributes:
        fixed: (a,) float32 rest of a robot whose rest is always the same, physical units; None: it
            depends on where the robot is.

    Raises:
        ConfigError: the robot takes positions, and its proprioception lacks that of a joint.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        action = embodiment.action
        self._low, self._high = (np.array(x, np.float32) for x in (action.low, action.high))
        self.fixed: np.ndarray | None = None
        self._columns: list[int] = []
        if action.rests_at_zero:
            self.fixed = np.clip(np.zeros_like(self._low), self._low, self._high)
            return
        for name in action.names:
            entry = f"{name}/position"
            if entry not in embodiment.proprio:
                raise ConfigError(
                    f"proprio of '{embodiment.name}' lacks '{entry}': action.kind is "
                    f"'{action.kind}', and such a robot rests where its joints are; add it to "
                    "proprio, or take kind 'position_delta' or 'velocity'"
                )
            self._columns.append(embodiment.proprio.index(entry))

    def at(self, proprio: np.ndarray) -> np.ndarray:
        """(n, a) rest of robots with proprioception (n, P), physical units, inside the bounds."""
        if self.fixed is not None:
            return np.broadcast_to(self.fixed, (len(proprio), len(self.fixed)))
        where = np.asarray(proprio, dtype=np.float32)[:, self._columns]
        return np.clip(where, self._low, self._high)
