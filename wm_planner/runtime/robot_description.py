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
        The limits. A soft limit of the description counts where it is narrower, and so do the
        limits of joints that mimic the joint.

    Raises:
        ConfigError: it is no URDF, or has no such joint, or one that mimics another, or a limit
            that is no number or leaves nothing.
    """
    joints = named_joints(parsed_description(description))
    limits = []
    for name in names:
        if name not in joints:
            raise ConfigError(f"robot_description: no joint '{name}'.{suggest(name, joints)}")
        mimic = joints[name].find("mimic")
        if mimic is not None:
            raise ConfigError(
                f"robot_description: joint '{name}' mimics '{mimic.get('joint')}' and cannot be "
                "commanded; take it out of action.names"
            )
        limit = _limits_of(joints[name], name)
        for follower in joints.values():
            mimic = follower.find("mimic")
            if mimic is not None and mimic.get("joint") == name:
                limit = _with_follower(limit, mimic, follower)
        if not limit.low < limit.high:
            raise ConfigError(
                f"robot_description: joint '{name}' cannot move: its limits are {limit.low:g} and "
                f"{limit.high:g}; give position_limits as lists low and high"
            )
        limits.append(limit)
    return limits


def named_joints(root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """Joints of a description by their names; not those of transmissions, which lie deeper.

    Raises:
        ConfigError: two have one name.
    """
    joints: dict[str, ElementTree.Element] = {}
    for joint in root.findall("joint"):
        name = joint.get("name", "")
        if name in joints:
            raise ConfigError(f"robot_description: two joints are called '{name}'")
        joints[name] = joint
    return joints


def _with_follower(
    limit: JointLimit, mimic: ElementTree.Element, follower: ElementTree.Element
) -> JointLimit:
    """Narrowed so that a joint which mimics this one keeps its own limits."""
    name = follower.get("name", "")
    factor = _number(mimic, "multiplier", name, 1.0)
    offset = _number(mimic, "offset", name, 0.0)
    stated = follower.find("limit")
    if factor == 0 or stated is None:
        return limit
    own = _limits_of(follower, name)
    low, high = limit.low, limit.high
    if stated.get("lower") is not None or stated.get("upper") is not None:
        ends = sorted(((own.low - offset) / factor, (own.high - offset) / factor))
        low, high = max(low, ends[0]), min(high, ends[1])
    return JointLimit(low, high, min(limit.speed, own.speed / abs(factor)), limit.effort)


def parsed_description(description: str) -> ElementTree.Element:
    """The tree of a text from others: of bounded size, and without entities, which could make a
    short text fill the memory.
    """
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
    for quantity, value in (("velocity", speed), ("effort", effort)):
        if value < 0:
            raise ConfigError(
                f"robot_description: joint '{name}': {quantity} is {value:g}, which limits nothing"
            )
    greatest = (speed if speed > 0 else math.inf, effort if effort > 0 else math.inf)
    if joint.get("type") in _ENDLESS:
        return JointLimit(-math.inf, math.inf, *greatest)
    low = _number(limit, "lower", name, 0.0)  # the defaults of the format
    high = _number(limit, "upper", name, 0.0)
    low = max(low, _number(soft, "soft_lower_limit", name, low))
    high = min(high, _number(soft, "soft_upper_limit", name, high))
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
