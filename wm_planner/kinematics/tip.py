"""Where a robot's tip is by its URDF, for drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from wm_planner.errors import ConfigError
from wm_planner.kinematics.robot_model import RobotModel
from wm_planner.runtime.robot_description import parsed_description

_BASE = 0  # number of the link at the root of the tree


class Tip:
    """The tip of a robot, in the frame of the link at its root.

    Args:
        description: URDF, as text.
        joints: that `points` is given positions of; others are where `sense` has put them.
        link: that is the tip; empty: the last one that `joints` alone move.

    Attributes:
        frame: name of the link at the root.

    Raises:
        ConfigError: MuJoCo is missing, or a joint or link is not in the description.
    """

    def __init__(self, description: str, joints: Sequence[str], link: str = "") -> None:
        self._model = RobotModel(description, joints)
        self._link = self._model.link(link, "tip") if link else self._last(set(joints))
        root = parsed_description(description)
        children = {child.get("link") for child in root.iterfind("joint/child")}
        names = [each.get("name", "") for each in root.iterfind("link")]
        self.frame = next((name for name in names if name not in children), "base_link")

    def sense(self, positions: Mapping[str, float]) -> None:
        """Where joints are, by name."""
        self._model.sense(positions)

    def points(self, path: np.ndarray) -> np.ndarray:
        """(H, 3) metres of the tip, for (H, A) positions of the joints."""
        found = []
        for positions in path:
            self._model.place(positions)
            found.append(self._model.point(self._link, _BASE))
        return np.array(found).reshape(-1, 3)

    def _last(self, joints: set[str]) -> int:
        moved = {
            number: moving
            for number in range(len(self._model.links))
            if (moving := set(self._model.between(_BASE, number)))
            and (moving <= joints or not joints)
        }
        if not moved:
            raise ConfigError("robot_description: no link is moved by the action's joints alone")
        most = max(map(len, moved.values()))
        return max(number for number, moving in moved.items() if len(moving) == most)
