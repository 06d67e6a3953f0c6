"""What a robot file wants, held against what was found: joints, cameras, commands and limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_planner.cli.robot_report import Line, fine, note, wrong
from wm_planner.config import suggest
from wm_planner.data.prepare import prepare
from wm_planner.errors import ConfigError, ImageSourceError
from wm_planner.robot import ADAPTERS, CameraSource, RobotFile, adapter_hint
from wm_planner.runtime.robot_description import joint_limits

_TWIST_TIMEOUT = (
    "what becomes of the last twist when commands cease is the receiver's: set its timeout "
    "(MoveIt Servo: incoming_command_timeout, diff_drive_controller: cmd_vel_timeout)"
)
_TIMEOUT = {
    "forward": "a forward command controller repeats its last command for ever when commands "
    "cease: ask its driver for a timeout",
    "joint_trajectory": "a joint_trajectory_controller goes to the end of what it was sent last "
    "when commands cease",
    "simulator": "the simulator keeps its last command when commands cease",
    "twist": _TWIST_TIMEOUT,
    "twist_unstamped": _TWIST_TIMEOUT,
}
_ASK = (
    "write it as command.timeout_s into the robot file, in seconds. Until then the command guard "
    "stops the robot where a process dies, but not where the network does: see docs/safety.md"
)


@dataclass(frozen=True)
class Party:
    """Who publishes or subscribes to a topic.

    Attributes:
        name: of the node, with its namespace.
        kind: message type, 'package/msg/Name'.
    """

    name: str
    kind: str


def wanted_joints(robot: RobotFile) -> list[str]:
    """Joints that the robot file names, each once."""
    joints = [entry.rpartition("/")[0] for entry in robot.proprio]
    if not robot.action.is_twist:
        joints += robot.action.names
    return list(dict.fromkeys(joints))


def joint_lines(robot: RobotFile, messages: Sequence[Any]) -> Iterator[Line]:
    """Joints found of those wanted.

    Args:
        robot: the file.
        messages: one sensor_msgs/JointState of each set of names that was heard.
    """
    wanted = wanted_joints(robot)
    heard = {name: message for message in messages for name in message.name}
    complete = heard.keys() >= set(wanted)
    for name in wanted:
        if name not in heard:
            yield wrong(f"no joint '{name}' on {robot.joint_states}.{suggest(name, heard)}")
    for entry in robot.proprio:
        joint, _, quantity = entry.rpartition("/")
        message = heard.get(joint)
        if message is None or list(message.name).index(joint) < len(getattr(message, quantity)):
            continue
        complete = False
        yield wrong(
            f"joint '{joint}' comes without {quantity}: take '{joint}/position' into proprio, or "
            "have the driver fill it in"
        )
    if not complete:
        return
    yield fine(f"joints: {', '.join(wanted)} ({len(wanted)} of {len(wanted)})")
    moved = () if robot.action.is_twist else robot.action.names
    carriers = {tuple(heard[name].name) for name in moved}
    if len(carriers) > 1:
        yield note(
            f"the joints that are moved come in {len(carriers)} messages: recording joins them, "
            "the controller takes a topic that has them together (joint_state_publisher with "
            "source_list)"
        )
    others = [name for name in heard if name not in wanted]
    if others:
        yield note(f"also on this topic, and passed over: {', '.join(others)}")


def camera_lines(source: CameraSource, picture: np.ndarray, encoding: str) -> Iterator[Line]:
    """Whether the crop fits the picture (H, W, 3)."""
    height, width = picture.shape[:2]
    found = f"{width} x {height} {encoding}".strip()
    try:
        prepare(picture, source.crop, source.size)
    except (ConfigError, ImageSourceError) as error:
        yield wrong(f"{found}: {error}; write a crop that lies inside, or null for the middle")
        return
    crop = "its middle" if source.crop is None else f"crop {', '.join(map(str, source.crop))}"
    yield fine(f"{found}; {crop} becomes {source.size} x {source.size}")
    side = min(height, width) if source.crop is None else min(source.crop[2:])
    if side < source.size:
        yield note(f"it is enlarged from {side} pixels: a smaller size loses nothing")


def command_lines(
    robot: RobotFile,
    subscribers: Sequence[Party],
    publishers: Sequence[Party],
    elsewhere: Mapping[str, Sequence[str]],
) -> Iterator[Line]:
    """Who listens to what the controller will send.

    Args:
        robot: the file.
        subscribers, publishers: of the command topic, without this command.
        elsewhere: topics by their types, for a hint.
    """
    kind = ADAPTERS[robot.command.adapter]
    for party in subscribers:
        if party.kind == kind:
            yield fine(f"{party.name} listens for {kind}")
        else:
            yield wrong(
                f"{party.name} listens for {party.kind}, adapter '{robot.command.adapter}' sends "
                f"{kind}: {adapter_hint(party.kind)}"
            )
    if not subscribers:
        topics = ", ".join(sorted(t for t, kinds in elsewhere.items() if kind in kinds))
        hint = f"topics of type {kind}: {topics}" if topics else f"no topic here is of type {kind}"
        yield wrong(
            "nobody listens: start (ros2 control switch_controllers) the robot's controller, or "
            f"name its topic in command.topic; {hint}"
        )
    for party in publishers:
        yield note(f"{party.name} commands the robot now: stop it before 'explore' and 'run'")
    yield timeout_line(robot)
    step = max(robot.action.max_rate, default=0.0) * robot.control_dt_s
    if robot.action.kind == "position" and step > robot.command.tracking_error:
        yield wrong(
            f"command.tracking_error {robot.command.tracking_error:g} is below the step of one "
            f"control period, {step:g} (action.max_rate times control_dt_s): the controller will "
            "not start; lower max_rate, or widen tracking_error"
        )


def timeout_line(robot: RobotFile) -> Line:
    """What stops the robot when commands cease."""
    if robot.sends_positions:
        return note("when commands cease the robot holds the last position that it was sent")
    if robot.command.timeout_s is not None:
        return fine(
            f"by its file the robot stops {robot.command.timeout_s:g} s after the last command"
        )
    return note(f"{_TIMEOUT[robot.command.adapter]}; {_ASK}")


def _wider_lines(
    names: Sequence[str], given: Sequence[tuple[float, float]], description: str | None
) -> Iterator[Line]:
    """Limits of the file that the robot's description does not allow."""
    if description is None:
        return
    try:
        described = joint_limits(description, names)
    except ConfigError as error:
        yield note(f"limits of the file cannot be held against the URDF: {error}")
        return
    for name, (low, high), (least, most) in zip(names, given, described, strict=True):
        if low < least or high > most:
            yield wrong(
                f"position_limits of joint '{name}' are {low:g} .. {high:g}, the URDF says "
                f"{least:g} .. {most:g}: keep within it, or write robot_description"
            )


def limit_lines(
    robot: RobotFile, description: str | None, positions: Mapping[str, float]
) -> Iterator[Line]:
    """Position limits, and whether the robot is inside of them.

    Args:
        robot: the file.
        description: URDF, when one was published.
        positions: of the joints now.
    """
    names, given = robot.action.names, robot.position_limits
    if robot.action.is_twist:
        yield note("the action is a twist: the receiver of the twist keeps the joints' limits")
        return
    if given is None:
        yield note("no position_limits: write robot_description, or lists low and high")
        return
    if isinstance(given, str):
        if description is None:
            yield wrong(
                "position_limits: nobody publishes robot_description: start "
                "robot_state_publisher, or write lists low and high"
            )
            return
        try:
            limits = joint_limits(description, names)
        except ConfigError as error:
            yield wrong(f"position_limits: {error}")
            return
        yield fine(f"limits of {len(names)} joints read from robot_description")
    else:
        limits = list(zip(given.low, given.high, strict=True))
        yield fine(f"limits of {len(names)} joints given")
        yield from _wider_lines(names, limits, description)
    for name, (low, high) in zip(names, limits, strict=True):
        at = positions.get(name, math.nan)
        if at < low or at > high:
            yield wrong(f"joint '{name}' is at {at:.3f}, outside of its limits {low:g} .. {high:g}")
    for name, home, (low, high) in zip(names, robot.home, limits, strict=False):
        if not low <= home <= high:
            yield wrong(f"home of joint '{name}' is {home:g}, outside of {low:g} .. {high:g}")
