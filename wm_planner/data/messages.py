"""Decoding of ROS messages to plain arrays: joint values and commands. Pictures: `image_message`.

A message may come from rclpy or from a bag that rosbags has read: only the names of its fields are
used, so this module needs neither. Every part that looks into a message does it by these two.

Legend: P = proprioception entries, A = entries of one raw action.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_planner.config import suggest
from wm_planner.embodiment import FIELDS, ActionSpace
from wm_planner.errors import ConfigError

# What a robot takes, and the field of a trajectory point that carries it.
POINT_FIELDS = {"position": "positions", "velocity": "velocities", "effort": "effort"}
DISPLACEMENT = "displacement"  # the quantity of a jog by distances: a position_delta as it stands


def stamp_ns(message: Any) -> int | None:
    """Header stamp, nanoseconds; None where there is none, or nobody has filled it in."""
    header = getattr(message, "header", None)
    return None if header is None else _nanoseconds(header.stamp) or None


def joint_values(message: Any, entries: Sequence[str]) -> np.ndarray:
    """(P,) float64 values of a JointState; NaN where it says nothing of an entry.

    Several devices may share the topic, and an arm's joints may come in two messages.

    Args:
        message: sensor_msgs/JointState, its joints in any order.
        entries: '<joint>/<position|velocity|effort>'.
    """
    index = {joint: i for i, joint in enumerate(message.name)}
    values = np.full(len(entries), np.nan)
    for row, entry in enumerate(entries):
        joint, _, quantity = entry.rpartition("/")
        column = getattr(message, quantity) if quantity in FIELDS else ()
        if joint in index and index[joint] < len(column):
            values[row] = column[index[joint]]
    return values


def proprio_array(message: Any, entries: Sequence[str]) -> np.ndarray:
    """(P,) float32 of a JointState that holds all of `entries`, in their order.

    Raises:
        ConfigError: the message lacks a joint or the field, or a value is not finite.
    """
    values = joint_values(message, entries)
    for entry, value in zip(entries, values, strict=True):
        if np.isfinite(value):
            continue
        joint, _, quantity = entry.rpartition("/")
        if joint not in message.name:
            raise ConfigError(f"joint_states has no joint '{joint}'.{suggest(joint, message.name)}")
        column = getattr(message, quantity) if quantity in FIELDS else ()
        if list(message.name).index(joint) >= len(column):
            raise ConfigError(f"joint_states has no {quantity or 'field'} for joint '{joint}'")
        raise ConfigError(f"joint_states: {quantity} of joint '{joint}' is {value}")
    return values.astype(np.float32)


@dataclass(frozen=True)
class Command:
    """What one message tells the robot.

    Attributes:
        quantity: what the numbers are: 'position', 'velocity', 'effort' or 'displacement'.
        values: (N, A) float64, in the order of the action's names.
        offsets_ns: from when on each row is in force, nanoseconds after the message; from 0 on.
        last_ns: how long the last row of several takes, nanoseconds; 0: nobody says.
    """

    quantity: str
    values: np.ndarray
    offsets_ns: tuple[int, ...] = (0,)
    last_ns: int = 0


def command_of(
    message: Any, action: ActionSpace, names: Sequence[str] = (), carries: str = ""
) -> Command:
    """Read a Float64MultiArray, JointTrajectory, Twist, TwistStamped, JointState or JointJog.

    Joints may come in any order, and those that the action does not have are passed over.

    Args:
        message: the command.
        action: of the robot.
        names: joints of what names none itself, in its order; empty: those of the action.
        carries: quantity of a message without fields for each; empty: by the action's kind.

    Raises:
        ConfigError: another type, a joint or axis of the action is missing, or the numbers do not
            go with the names.
    """
    names, wanted = tuple(names) or action.names, carries or action.kind.removesuffix("_delta")
    if hasattr(message, "points") and hasattr(message, "joint_names"):
        return _trajectory(message, action, names, wanted)
    if hasattr(message, "twist"):
        message = message.twist
    if hasattr(message, "linear") and hasattr(message, "angular"):
        return Command("velocity", _twist(message, action)[None])
    if hasattr(message, "layout") and hasattr(message, "data"):
        return Command(wanted, _ordered(message.data, names, action, "Float64MultiArray")[None])
    if hasattr(message, "joint_names") and hasattr(message, "displacements"):
        jogs = {"velocity": message.velocities, DISPLACEMENT: message.displacements}
        first = DISPLACEMENT if action.kind == "position_delta" else "velocity"
        quantity, row = _chosen(jogs, first, "JointJog")
        return Command(quantity, _ordered(row, message.joint_names, action, "JointJog")[None])
    if hasattr(message, "name") and all(hasattr(message, field) for field in FIELDS):
        columns = {field: getattr(message, field) for field in FIELDS}
        quantity, row = _chosen(columns, wanted, "JointState")
        return Command(quantity, _ordered(row, message.name, action, "JointState")[None])
    kind = getattr(message, "__msgtype__", type(message).__name__)
    raise ConfigError(
        f"a command of type {kind} cannot be read; known are Float64MultiArray, JointTrajectory, "
        "Twist, TwistStamped, JointState and JointJog"
    )


def point_rows(message: Any, interface: str) -> list[Any]:
    """What each point of a JointTrajectory carries in the field of `interface`, as it stands."""
    return [getattr(point, POINT_FIELDS[interface]) for point in message.points]


def _trajectory(message: Any, action: ActionSpace, names: Sequence[str], wanted: str) -> Command:
    if not message.points:
        raise ConfigError("a JointTrajectory without points commands nothing")
    names = list(message.joint_names) or list(names)
    first = {key: getattr(message.points[0], field) for key, field in POINT_FIELDS.items()}
    quantity, _ = _chosen(first, wanted, "JointTrajectory")
    rows = point_rows(message, quantity)
    due = [_nanoseconds(point.time_from_start) for point in message.points]
    # A position is approached from the moment when the one before was due, a velocity holds from
    # its own moment on. What comes first is in force at once.
    offsets = [0, *(due[:-1] if quantity == "position" else due[1:])]
    if any(later < earlier for earlier, later in itertools.pairwise(offsets)):
        raise ConfigError(f"the points of a JointTrajectory are not in order of time: {due} ns")
    values = np.stack([_ordered(row, names, action, "JointTrajectory") for row in rows])
    last_ns = due[-1] - due[-2] if len(due) > 1 else 0
    return Command(quantity, values, tuple(offsets), last_ns)


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * 10**9 + int(time.nanosec)


def _twist(message: Any, action: ActionSpace) -> np.ndarray:
    if not action.is_twist:
        raise ConfigError(f"a twist says nothing of the joints {', '.join(action.names)}")
    parts = (name.split(".") for name in action.names)
    return np.array([getattr(getattr(message, part), axis) for part, axis in parts], float)


def _chosen(columns: dict[str, Any], wanted: str, kind: str) -> tuple[str, Any]:
    """The wanted quantity where the message has it, else the first that it has."""
    for quantity in (wanted, *columns):
        if quantity in columns and len(columns[quantity]):
            return quantity, columns[quantity]
    raise ConfigError(f"a {kind} without a value commands nothing")


def _ordered(row: Any, names: Sequence[str], action: ActionSpace, kind: str) -> np.ndarray:
    """(A,) float64 in the order of the action."""
    if len(row) != len(names):
        raise ConfigError(
            f"{kind}: {len(row)} values for the joints {', '.join(names)}, which are {len(names)}"
        )
    index = {name: i for i, name in enumerate(names)}
    missing = [name for name in action.names if name not in index]
    if missing:
        raise ConfigError(
            f"{kind}: nothing of {', '.join(missing)}; it commands {', '.join(names)}"
        )
    return np.array([row[index[name]] for name in action.names], float)
