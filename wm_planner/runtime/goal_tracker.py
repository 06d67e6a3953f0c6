"""The goal in force: its image and its proprioception come apart, in any order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wm_planner.types import Goal

KEPT = 4  # goals whose picture may still come


class GoalTracker:
    """Joins goal image and goal proprioception by their stamp. Use it from one thread.

    A goal that is sent again is the same `Goal` object: whoever plans for it need not begin afresh.
    """

    def __init__(self) -> None:
        self.goal: Goal | None = None
        self._proprios: dict[int, np.ndarray] = {}  # by stamp, the newest arrivals
        self._newest_ns = 0  # stamp of the newest goal, or clearing of it

    def is_older(self, stamp_ns: int) -> bool:
        """Whether something with this stamp was sent before the newest that came.

        That says which of several latched goals counts, which come in any order to whoever begins
        to listen. Later it says nothing: a clock may have been set back. What has no stamp (0) is
        never older.
        """
        return 0 < stamp_ns < self._newest_ns

    def put_image(self, image: np.ndarray, stamp_ns: int) -> bool:
        """Take a (H, W, 3) uint8 RGB goal image; say whether the goal is another one now.

        The picture counts too: what a person sends by hand may have no stamp.
        """
        goal = self.goal
        self._newest_ns = max(self._newest_ns, stamp_ns)
        if goal and goal.stamp_ns == stamp_ns and np.array_equal(goal.image, image):
            return False
        self.goal = Goal(image, self._proprios.get(stamp_ns), stamp_ns)
        return True

    def put_proprio(self, proprio: np.ndarray, stamp_ns: int) -> bool:
        """Take the (P,) proprioception at the goal; say whether the goal is another one now."""
        for old_ns in (stamp_ns, 0):  # without a stamp it belongs to the next picture or to none
            self._proprios.pop(old_ns, None)
        self._proprios[stamp_ns] = proprio
        while len(self._proprios) > KEPT:
            del self._proprios[next(iter(self._proprios))]
        if self.goal is None or self.goal.stamp_ns != stamp_ns or self.goal.proprio is not None:
            return False
        self.goal = replace(self.goal, proprio=proprio)
        return True

    def renew(self) -> Goal | None:
        """The same goal as another object: whoever plans for it begins afresh."""
        self.goal = None if self.goal is None else replace(self.goal)
        return self.goal

    def clear(self, stamp_ns: int = 0) -> None:
        """There is no goal any more."""
        self.goal = None
        self._newest_ns = max(self._newest_ns, stamp_ns)
