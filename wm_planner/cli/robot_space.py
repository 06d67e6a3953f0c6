"""What a robot file wants beside joint limits, held against what was found: the tip's box, links
that keep apart, and what the robot says of itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from wm_planner.cli.robot_report import Line, fine, note, wrong
from wm_planner.errors import ConfigError
from wm_planner.kinematics.checks import Space, space_of
from wm_planner.robot import DESCRIPTION, RobotFile


def space_lines(
    robot: RobotFile, description: str | None, positions: Mapping[str, float]
) -> Iterator[Line]:
    """The free space, and whether the robot is in it.

    Args:
        robot: the file.
        description: URDF, when one was published.
        positions: of the joints now.
    """
    box, distance = robot.workspace, robot.collision_distance
    if box is None and not robot.action.is_twist:
        yield note("no workspace: the tip may go anywhere; write workspace: {link, low, high}")
    if distance is None and not robot.action.is_twist:
        yield note("no self_collision: links may touch each other; write self_collision: true")
    if box is None and distance is None:
        return
    what = " and ".join(["workspace"] * (box is not None) + ["self_collision"] * bool(distance))
    if description is None:
        yield wrong(
            f"{what}: nobody publishes {DESCRIPTION}: start robot_state_publisher, or leave "
            "workspace and self_collision out"
        )
        return
    home = np.array(robot.home) if robot.home else None
    names, frame = robot.action.names, robot.command.frame_id
    try:
        space = space_of(description, names, box, distance, home, frame)
    except ConfigError as error:
        yield wrong(str(error))
        return
    for text in space.notes:
        yield note(text)
    missing = [name for name in (*space.joints, *space.others) if name not in positions]
    if missing:
        yield wrong(f"{what}: no position of {', '.join(missing)} on {robot.joint_states}")
        return
    space.model.sense(positions)
    now = np.array([positions[name] for name in space.joints])
    yield from _place_lines(space, robot, now, "the robot is")
    if home is not None and not robot.action.is_twist:
        yield from _place_lines(space, robot, home, "home is")


def _place_lines(space: Space, robot: RobotFile, positions: np.ndarray, who: str) -> Iterator[Line]:
    violated = space.free.violated(space.place(positions, np.zeros(robot.action.size)))
    for text in violated:
        yield wrong(f"{who} outside of its free space: {text}")
    if not violated:
        yield fine(f"{who} in its free space, by the URDF on {DESCRIPTION}")


def state_lines(robot: RobotFile, disobeys: Mapping[str, str]) -> Iterator[Line]:
    """What the robot says of itself.

    Args:
        robot: the file.
        disobeys: by topic, why the robot does not execute commands; empty: it does.
    """
    if not robot.state:
        yield note(
            "nothing tells whether the robot executes commands (protective stop, emergency stop): "
            "write state: {topic, type, field, good}"
        )
    for state in robot.state:
        why = disobeys[state.topic]
        yield wrong(why) if why else fine(f"{state.topic}: the robot executes commands")
