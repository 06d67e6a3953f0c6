"""The goal in force: its image and its proprioception come apart, in any order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wm_planner.types import Goal


class GoalTracker:
    """Joins goal image and goal proprioception by their stamp. Use it from one thread.

    A goal that is sent again is the same `Goal` object: whoever plans for it need not begin afresh.
    """

    def __init__(self) -> None:
        self.goal: Goal | None = None
        self._proprio: tuple[int, np.ndarray] | None = None

    def put_image(self, image: np.ndarray, stamp_ns: int) -> bool:
        """Take a (H, W, 3) uint8 RGB goal image; say whether the goal is another one now.

        The picture counts too: what a person sends by hand may have no stamp.
        """
        goal = self.goal
        if goal and goal.stamp_ns == stamp_ns and np.array_equal(goal.image, image):
            return False
        proprio = None
        if self._proprio is not None and self._proprio[0] == stamp_ns:
            proprio = self._proprio[1]
        self.goal = Goal(image, proprio, stamp_ns)
        return True

    def put_proprio(self, proprio: np.ndarray, stamp_ns: int) -> bool:
        """Take the (P,) proprioception at the goal; say whether the goal is another one now."""
        self._proprio = (stamp_ns, proprio)
        if self.goal is None or self.goal.stamp_ns != stamp_ns or self.goal.proprio is not None:
            return False
        self.goal = replace(self.goal, proprio=proprio)
        return True

    def renew(self) -> Goal | None:
        """The same goal as another object: whoever plans for it begins afresh."""
        self.goal = None if self.goal is None else replace(self.goal)
        return self.goal

    def clear(self) -> None:
        """There is no goal any more."""
        self.goal = None
