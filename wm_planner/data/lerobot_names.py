"""What the entries of a LeRobot data set's vectors are called, and what a robot calls them."""

from __future__ import annotations

import logging
import re

from wm_planner.data.lerobot_meta import Feature
from wm_planner.embodiment import FIELDS, TWIST_AXES

logger = logging.getLogger(__name__)

VIEWS = "observation.images."  # and the camera's name
# How LeRobot writes the fields of a joint, and how others do.
SUFFIXES = {
    **{f".{short}": name for short, name in zip(("pos", "vel", "eff"), FIELDS, strict=True)},
    **{f"{mark}{name}": name for name in FIELDS for mark in "./"},
    ".torque": "effort",
}


def split(name: str) -> tuple[str, str | None]:
    """Joint and field of an entry's name; no field where the name says none."""
    for suffix, quantity in SUFFIXES.items():
        if name.endswith(suffix) and len(name) > len(suffix):
            return name.removesuffix(suffix), quantity
    return name, None


def renamed(name: str, names: dict[str, str]) -> tuple[str, str | None]:
    """What `split` says of an entry's name after the robot file's `names`, a joint's or an entry's,
    have been put in place of the data set's.
    """
    joint, quantity = split(name)
    if name in names:
        new, given = split(names[name])
        return new, given or quantity
    return names.get(joint, joint), quantity


def proprio_names(state: Feature, action: Feature) -> tuple[str, ...]:
    """'<joint>/<field>' of each entry of a data set's state."""
    names = state.names or _numbered(state, action)
    pairs = [split(name) for name in names]
    joints = [joint for joint, _ in pairs]
    if len({(joint, quantity or FIELDS[0]) for joint, quantity in pairs}) < len(pairs):
        joints = list(unique(tuple(joints)))
    return tuple(
        f"{joint}/{quantity or FIELDS[0]}"
        for joint, (_, quantity) in zip(joints, pairs, strict=True)
    )


def action_names(action: Feature) -> tuple[tuple[str, ...], str]:
    """Names and kind of a data set's action."""
    names = action.names or _numbered(action, action)
    if all(name in TWIST_AXES for name in names):
        return unique(names), "velocity"
    names = tuple(name.replace(".", "_") if name in TWIST_AXES else name for name in names)
    if all("delta" in name for name in names):
        return unique(names), "position_delta"
    pairs = [split(name) for name in names]
    kinds = {quantity or FIELDS[0] for _, quantity in pairs}
    if len(kinds) == 1:
        return unique(tuple(joint for joint, _ in pairs)), kinds.pop()
    logger.warning(
        "actions of several kinds are taken for positions: %s; write a robot file where they are "
        "not",
        ", ".join(names),
    )
    return unique(names), FIELDS[0]


def _numbered(feature: Feature, other: Feature) -> tuple[str, ...]:
    stem = "joint" if feature.size == other.size and not other.names else feature.key.split(".")[-1]
    return tuple(f"{stem}_{number}" for number in range(feature.size))


def unique(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names; with a number each where one of them comes twice."""
    if len(set(names)) == len(names):
        return names
    return tuple(f"{name}_{number}" for number, name in enumerate(names))


def camera_name(key: str) -> str:
    """A camera's name, from the key of its pictures."""
    name = re.sub(r"\W", "_", key.removeprefix(VIEWS).removeprefix("observation."))
    return name if name.isidentifier() else f"camera_{name}"
