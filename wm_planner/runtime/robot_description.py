"""Joint limits out of a robot's description (URDF)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree

from wm_planner.config import suggest
from wm_planner.errors import ConfigError

_ENDLESS = ("continuous", "planar", "floating")


def joint_limits(description: str, names: Sequence[str]) -> list[tuple[float, float]]:
    """Where the joints may be.

    Args:
        description: URDF, as text.
        names: of the joints.

    Returns:
        Lower and upper limit of each joint in the order of `names`, radians or metres; infinite for
        a joint that turns without end. A soft limit of the description counts where it is narrower.

    Raises:
        ConfigError: it is no URDF, or has no such joint, or a limit that is no number.
    """
    try:
        root = ElementTree.fromstring(description)
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(f"robot_description: is not XML: {error}") from error
    joints = {joint.get("name", ""): joint for joint in root.iter("joint") if joint.get("type")}
    limits = []
    for name in names:
        if name not in joints:
            raise ConfigError(f"robot_description: no joint '{name}'.{suggest(name, joints)}")
        limits.append(_limits_of(joints[name], name))
    return limits


def _limits_of(joint: ElementTree.Element, name: str) -> tuple[float, float]:
    if joint.get("type") in _ENDLESS:
        return -math.inf, math.inf
    limit, soft = joint.find("limit"), joint.find("safety_controller")
    low = _number(limit, "lower", name, 0.0)  # the defaults of the format
    high = _number(limit, "upper", name, 0.0)
    low = max(low, _number(soft, "soft_lower_limit", name, low))
    high = min(high, _number(soft, "soft_upper_limit", name, high))
    if not low < high:
        raise ConfigError(
            f"robot_description: joint '{name}' cannot move: its limits are {low:g} and {high:g}; "
            "give position_limits as lists low and high"
        )
    return low, high


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
