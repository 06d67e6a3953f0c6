"""Joint limits out of a robot's description (URDF)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.parsers import expat

from wm_planner.config import suggest
from wm_planner.errors import ConfigError

MAX_BYTES = 16 * 2**20  # descriptions name their meshes' files; they do not hold them
_ENDLESS = ("continuous", "planar", "floating")


@dataclass(frozen=True)
class JointLimit:
    """What a description says of one joint.

    Attributes:
        low, high: where it may be, radians or metres; infinite for a joint that turns without end.
        speed: greatest speed, per second; infinite where none, or 0, is stated.
        effort: greatest force or torque; infinite where none, or 0, is stated.
    """

    low: float
    high: float
    speed: float = math.inf
    effort: float = math.inf


def joint_limits(description: str, names: Sequence[str]) -> list[tuple[float, float]]:
    """Where the joints may be: see `described_limits`."""
    return [(limit.low, limit.high) for limit in described_limits(description, names)]


def described_limits(description: str, names: Sequence[str]) -> list[JointLimit]:
    """What a description says of joints, in the order of `names`.

    Args:
        description: URDF, as text.
        names: of the joints.

    Returns:
        The limits. A soft limit of the description counts where it is narrower.

    Raises:
        ConfigError: it is no URDF, or has no such joint, or a limit that is no number.
    """
    root = _parsed(description)
    joints = {joint.get("name", ""): joint for joint in root.iter("joint") if joint.get("type")}
    limits = []
    for name in names:
        if name not in joints:
            raise ConfigError(f"robot_description: no joint '{name}'.{suggest(name, joints)}")
        limits.append(_limits_of(joints[name], name))
    return limits


def _parsed(description: str) -> ElementTree.Element:
    """The tree of a text from others: of bounded size, and without entities, which could make a
    short text fill the memory."""
    if len(description) > MAX_BYTES:
        raise ConfigError(
            f"robot_description: has {len(description)} bytes; at most {MAX_BYTES} are read"
        )
    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = _refuse_doctype
    try:
        checker.Parse(description, True)
        return ElementTree.fromstring(description)
    except (ElementTree.ParseError, expat.ExpatError, ValueError) as error:
        raise ConfigError(f"robot_description: is not XML: {error}") from error


def _refuse_doctype(*_: object) -> None:
    raise ConfigError("robot_description: declares a document type, which no URDF has")


def _limits_of(joint: ElementTree.Element, name: str) -> JointLimit:
    limit, soft = joint.find("limit"), joint.find("safety_controller")
    speed = _number(limit, "velocity", name, 0.0)
    effort = _number(limit, "effort", name, 0.0)
    greatest = (speed if speed > 0 else math.inf, effort if effort > 0 else math.inf)
    if joint.get("type") in _ENDLESS:
        return JointLimit(-math.inf, math.inf, *greatest)
    low = _number(limit, "lower", name, 0.0)  # the defaults of the format
    high = _number(limit, "upper", name, 0.0)
    low = max(low, _number(soft, "soft_lower_limit", name, low))
    high = min(high, _number(soft, "soft_upper_limit", name, high))
    if not low < high:
        raise ConfigError(
            f"robot_description: joint '{name}' cannot move: its limits are {low:g} and {high:g}; "
            "give position_limits as lists low and high"
        )
    return JointLimit(low, high, *greatest)


def _number(
    element: ElementTree.Element | None, attribute: str, joint: str, default: float
) -> float:
    text = None if element is None else element.get(attribute)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ConfigError(f"robot_description: joint '{joint}': {attribute} is '{text}', no number")
    return value
