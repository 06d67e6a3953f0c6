"""How recorded episodes came out, and what planned them: without reading a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wm_planner.data.bags import Bag, bags_in
from wm_planner.data.recording_message import RECORDING_TOPIC, outcome_of, parse_description
from wm_planner.data.streams import EPISODE_TOPIC, EPISODE_TYPE
from wm_planner.errors import DatasetError

_TEXT = "std_msgs/msg/String"


@dataclass(frozen=True)
class Outcome:
    """Of one bag.

    Attributes:
        name: of the bag.
        outcome: 'success', 'failure', or '' where nobody said.
        checkpoint: name of what planned when the episode began; '': nothing, or nobody said.
        sha256: of its weights; '' where nobody said.
    """

    name: str
    outcome: str
    checkpoint: str
    sha256: str = ""


def outcomes(path: Path) -> list[Outcome]:
    """Of the bags at a path, by their names.

    Raises:
        DatasetError: there is no bag, or one cannot be read.
    """
    bags = bags_in(path) if path.exists() else []
    if not bags:
        raise DatasetError(f"{path}: holds no bag")
    return [_of(bag) for bag in bags]


def _of(bag: Path) -> Outcome:
    outcome = ""
    told: dict[str, Any] = {}
    for message in Bag(bag).messages():
        name = message.topic.rpartition("/")[2]
        if name == RECORDING_TOPIC and message.msgtype == _TEXT:
            told = parse_description(message.decode().data).checkpoint or {}
        elif name == EPISODE_TOPIC and message.msgtype == EPISODE_TYPE:
            event = message.decode()
            if event.message == "end":
                outcome = outcome_of({item.key: item.value for item in event.values})
    return Outcome(bag.name, outcome, str(told.get("name", "")), str(told.get("sha256", "")))
