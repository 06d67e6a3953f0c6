"""The free space of a robot: the box of its tip, and clear of itself.

Shapes: A = entries of one raw action, J = joints that are measured, P = pairs of shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wm_planner.embodiment import TWIST_AXES
from wm_planner.errors import ConfigError
from wm_planner.kinematics.robot_model import RobotModel
from wm_planner.robot import Workspace
from wm_planner.runtime.free_space import Check, FreeSpace

Place = Callable[[np.ndarray, np.ndarray], np.ndarray]
_BASE = 0  # number of the link at the root of the tree


class Box:
    """Keeps a point in a box; places are points, (3,) metres."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._low, self._high = np.array(workspace.low), np.array(workspace.high)

    def excess(self, place: np.ndarray) -> np.ndarray:
        """(6,) how far the point is below and above the box."""
        return np.concatenate([self._low - place, place - self._high])

    def told(self, number: int) -> str:
        """See `free_space.Check`."""
        side = "below" if number < 3 else "above"
        bound = np.concatenate([self._low, self._high])[number]
        return f"workspace: {self._workspace.link} {side} {'xyz'[number % 3]} = {bound:g}"


class TipBox(Box):
    """Keeps a link in a box; places are (J,) positions of joints."""

    def __init__(self, workspace: Workspace, model: RobotModel) -> None:
        super().__init__(workspace)
        self._model, (self._link, self._frame) = model, _numbers(workspace, model)

    def excess(self, place: np.ndarray) -> np.ndarray:
        """(6,) how far the link is below and above the box."""
        self._model.place(place)
        return super().excess(self._model.point(self._link, self._frame))


class SelfCollision:
    """Keeps the links apart; places are (J,) positions of joints."""

    def __init__(self, model: RobotModel, distance: float) -> None:
        self._model, self._distance = model, distance

    def excess(self, place: np.ndarray) -> np.ndarray:
        """(P,) by how much the pairs are too near."""
        self._model.place(place)
        return self._distance - self._model.distances(self._distance)

    def told(self, number: int) -> str:
        """See `free_space.Check`."""
        return f"self_collision: {self._model.pair(number)}"


@dataclass(frozen=True)
class Space:
    """The free space of a robot, and what must be measured for it.

    Attributes:
        model: the robot's links.
        free: the space.
        place: where the robot is after a displacement, see `free_space.VelocityGuard`.
        joints: that must be measured, in the order of `place`.
        others: joints that move the tip, too, and must stand in the same message.
        notes: what is left out of the checks, for people.
    """

    model: RobotModel
    free: FreeSpace
    place: Place
    joints: tuple[str, ...]
    others: tuple[str, ...]
    notes: tuple[str, ...]


def space_of(
    description: str,
    names: Sequence[str],
    workspace: Workspace | None = None,
    distance: float | None = None,
    home: np.ndarray | None = None,
    twist_frame: str = "",
) -> Space:
    """The free space of a robot.

    Args:
        description: URDF, as text.
        names: of the action: joints, or axes of a twist.
        workspace: of the tip; None: not checked.
        distance: smallest distance of links, metres; None: not checked.
        home: (A,) where links that touch are not watched; None: not known.
        twist_frame: link in whose axes a twist is; empty: the frame of the workspace.

    Raises:
        ConfigError: MuJoCo is missing, a link or joint is not in the description, the joints do
            not move the tip, or no two links can collide.
    """
    if names[0] in TWIST_AXES:
        assert workspace is not None
        return _twist_space(description, names, workspace, twist_frame)
    model = RobotModel(description, names, collisions=distance is not None)
    checks: list[Check] = []
    notes = [f"self_collision: {problem}, which is not checked" for problem in model.missing]
    others: list[str] = []
    if workspace is not None:
        checks.append(TipBox(workspace, model))
        link, frame = _numbers(workspace, model)
        moving = model.between(frame, link)
        if not set(moving) & set(names):
            raise ConfigError(f"workspace: no joint of the action moves link '{workspace.link}'")
        others = [name for name in moving if name not in names]
    if distance is not None:
        touching = model.watch_pairs(home, distance)
        if not model.pairs:
            near = [f"nearer at home: {pair}" for pair in touching]
            why = (
                "; ".join(near + model.missing) or "no two links that move have collision geometry"
            )
            raise ConfigError(f"self_collision: nothing can be checked: {why}")
        checks.append(SelfCollision(model, distance))
        notes.append(f"self_collision: {len(model.pairs)} pairs of shapes are watched")
        if touching:
            notes.append(f"self_collision: nearer at home, and not watched: {', '.join(touching)}")
        elif home is None:
            notes.append("self_collision: no home is known: only neighbours are not watched")
    free = FreeSpace(checks)
    return Space(model, free, np.add, tuple(names), tuple(others), tuple(notes))


def _twist_space(
    description: str, names: Sequence[str], workspace: Workspace, twist_frame: str
) -> Space:
    """Of a robot that takes the velocity of its tip: places are points."""
    joints = RobotModel(description, ())
    moving = joints.between(*reversed(_numbers(workspace, joints)))
    if not moving:
        raise ConfigError(f"workspace: no joint moves link '{workspace.link}'")
    model = RobotModel(description, moving)
    link, frame = _numbers(workspace, model)
    axes = model.link(twist_frame, "command: frame_id") if twist_frame else frame
    linear = {f"linear.{axis}": number for number, axis in enumerate("xyz")}

    def place(positions: np.ndarray, displacement: np.ndarray) -> np.ndarray:
        model.place(positions)
        moved = np.zeros(3)
        for name, value in zip(names, displacement, strict=True):
            if name in linear:
                moved[linear[name]] = value
        result: np.ndarray = model.point(link, frame) + model.rotation(axes, frame) @ moved
        return result

    return Space(model, FreeSpace([Box(workspace)]), place, tuple(moving), (), ())


def _numbers(workspace: Workspace, model: RobotModel) -> tuple[int, int]:
    """Of the link and of the frame."""
    link = model.link(workspace.link, "workspace: link")
    frame = model.link(workspace.frame, "workspace: frame") if workspace.frame else _BASE
    return link, frame
