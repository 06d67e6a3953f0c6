"""Names of ROS topics: which ones ROS takes, and which this package's nodes use."""

from __future__ import annotations

import re

from wm_planner.config import shown, suggest

# Topics that the nodes read and write; a robot file may remap them.
TOPICS = (
    *("camera/image_raw", "observation/image", "joint_states", "robot_description"),
    *("plan", "plan/imagined", "plan/markers", "command", "command_sent", "episode", "diagnostics"),
    *("goal/image", "goal/joint_states", "goal/accepted"),
)
_NAME = re.compile(r"(?:/|~/)?[A-Za-z_][A-Za-z0-9_]*(?:/[A-Za-z_][A-Za-z0-9_]*)*")
_LONGEST = 200  # characters; DDS ends at 255, with what ROS puts before and behind


def check_topic(key: str, name: object) -> None:
    """Raises:
    ValueError: ROS takes no such name; `key` says of what.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"{key}: expected the name of a topic, got {shown(name)}")
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise ValueError(
            f"{key}: {shown(name)} is no name of a topic: letters, digits and '_' between '/', "
            f"no part beginning with a digit, at most {_LONGEST} characters"
        )


def check_remapping(key: str, name: str, topic: object) -> None:
    """Raises:
    ValueError: no node has a topic `name`, or ROS takes no such `topic`.
    """
    if name.removeprefix("/") not in TOPICS and not name.startswith("observation/"):
        raise ValueError(f"{key}: no node has a topic '{name}'.{suggest(name, TOPICS)}")
    check_topic(f"{key}: {name}", topic)
