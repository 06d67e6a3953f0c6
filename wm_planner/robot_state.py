"""What a robot says of itself: topics whose value tells whether it does what it is told.

A protective stop, an emergency stop or another mode of operation: the robot hears commands, and
does not execute them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_planner.config import from_dict, to_dict
from wm_planner.errors import ConfigError
from wm_planner.files import parse_json

TOPIC = "robot_state"  # on which a bag says whether the robot executed what it was told
_TYPE = re.compile(r"[a-zA-Z]\w*/msg/[a-zA-Z]\w*")
_PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class StateTopic:
    """One topic, and the values of it with which the robot executes its commands.

    Attributes:
        topic: its name.
        type: message type, 'package/msg/Name'.
        field: of the message; 'mode.value' is a field of a field, 'data.0' the first entry.
        good: values with which the robot executes commands.
        max_age_s: a value that is older, by the time of its receipt, is none; null: it holds for
            as long as somebody publishes the topic, as with drivers that publish changes.
    """

    topic: str
    type: str
    field: str
    good: tuple[Any, ...]
    max_age_s: float | None = None

    def __post_init__(self) -> None:
        if not self.topic.strip("/"):
            raise ValueError("topic: name the topic on which the robot tells its state")
        if not _TYPE.fullmatch(self.type):
            raise ValueError(f"type: expected 'package/msg/Name', got '{self.type}'")
        if not all(self.field.split(".")):
            raise ValueError(f"field: expected names with points between, got '{self.field}'")
        if not self.good or not all(isinstance(value, _PLAIN) for value in self.good):
            raise ValueError(f"good: expected values, as [7], got {list(self.good)}")
        if self.max_age_s is not None and not 0 < self.max_age_s <= 3600:
            raise ValueError(f"max_age_s must be above 0 and at most 3600, got {self.max_age_s:g}")

    def value(self, message: Any) -> Any:
        """What a message says: true or false, a number or a text.

        Raises:
            ConfigError: it has no such field, or that of a message within it.
        """
        value = message
        for part in self.field.split("."):
            try:
                value = value[int(part)] if part.isdecimal() else getattr(value, part)
            except (AttributeError, TypeError, IndexError):
                raise ConfigError(
                    f"state: topic {self.topic}: {self.type} has no field '{self.field}'"
                    f"{_fields(value)}"
                ) from None
        if isinstance(value, bytes) and len(value) == 1:  # ROS's type byte
            value = value[0]
        elif isinstance(value, np.generic):
            value = value.item()
        if not isinstance(value, _PLAIN):
            raise ConfigError(
                f"state: topic {self.topic}: field '{self.field}' of {self.type} is no single value"
                f"{_fields(value)}"
            )
        return value

    def is_good(self, value: Any) -> bool:
        """Whether the robot executes commands with this value."""
        return value in self.good

    def told(self, value: Any) -> str:
        """A value, for people."""
        good = ", ".join(map(str, self.good))
        return f"{self.topic}: {self.field} is {value}, the robot obeys with {good}"


def state_topics(values: Any) -> tuple[StateTopic, ...]:
    """Out of plain values: one mapping, or a list of them.

    Raises:
        ConfigError: a key or value cannot be used.
    """
    if isinstance(values, dict):
        values = [values]
    if not isinstance(values, (list, tuple)):
        raise ConfigError(f"state: expected a mapping or a list of them, got {values!r}")
    topics = []
    for number, value in enumerate(values):
        where = f"state[{number}]" if len(values) > 1 else "state"
        if not isinstance(value, StateTopic):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: expected a mapping, got {value!r}")
            value = from_dict(StateTopic, value, where)
        topics.append(value)
    names = [topic.topic for topic in topics]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"state: topic {name} is named twice; name all its good values once")
    return tuple(topics)


def state_parameter(text: str) -> tuple[StateTopic, ...]:
    """Out of a node's parameter, which is JSON; nothing where it is empty.

    Raises:
        ConfigError: it is no JSON, or a key or value cannot be used.
    """
    return state_topics(parse_json(text, "robot_state")) if text else ()


def plain_states(topics: Sequence[StateTopic]) -> list[dict[str, Any]]:
    """What `state_topics` reads."""
    return [to_dict(topic) for topic in topics]


def _fields(message: Any) -> str:
    """The fields that a message has, for people; empty: it is no message."""
    names = getattr(message, "get_fields_and_field_types", None)
    if names is None:
        return ""
    return f"; it has {', '.join(names())}"
