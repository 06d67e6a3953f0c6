"""What a bag says of itself: the JSON message on the topic `recording`, and how it came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wm_planner.embodiment import Embodiment
from wm_planner.errors import DatasetError
from wm_planner.files import parse_json

RECORDING_TOPIC = "recording"
SCHEMA = 1  # of that message
OUTCOMES = ("success", "failure", "")


@dataclass(frozen=True)
class Description:
    """What a bag says of itself.

    Attributes:
        embodiment: of the robot; None: it does not say.
        checkpoint: 'name' and 'sha256' of what planned; None: nothing did.
        planner: its settings.
        version: of this package that recorded.
        cameras: topic of each camera's pictures, by its name.
        topics: names in the bag by the names that this package has for them.
        commands: 'topic', 'names' and 'carries' of the commands of others; see `messages`.
    """

    embodiment: Embodiment | None = None
    checkpoint: dict[str, Any] | None = None
    planner: dict[str, Any] | None = None
    version: str = ""
    cameras: dict[str, str] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    commands: dict[str, Any] = field(default_factory=dict)


def parse_description(text: str) -> Description:
    """The message on the topic `recording`.

    Raises:
        DatasetError: it is no such message, or of a newer version of this package.
        ConfigError: its embodiment cannot be used.
    """
    values = parse_json(text, f"topic {RECORDING_TOPIC}", DatasetError)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        got = values.get("schema") if isinstance(values, dict) else values
        raise DatasetError(f"topic {RECORDING_TOPIC}: schema {got!r}, expected {SCHEMA}")
    given = values.get("embodiment")
    embodiment = None if given is None else Embodiment.from_json(given, RECORDING_TOPIC)
    parts: dict[str, Any] = {}
    for key in ("checkpoint", "planner", "cameras", "topics", "commands"):
        part = values.get(key)
        if part is not None and not isinstance(part, dict):
            raise DatasetError(f"topic {RECORDING_TOPIC}: {key}: expected a mapping, got {part!r}")
        parts[key] = part
    for key in ("cameras", "topics"):
        parts[key] = {str(name): str(topic) for name, topic in (parts[key] or {}).items()}
    parts["commands"] = parts["commands"] or {}
    return Description(embodiment, version=str(values.get("version", "")), **parts)


def outcome_of(values: Mapping[str, str]) -> str:
    """'success', 'failure' or '': the outcome, or what a simulator says of `success`.

    An outcome of another name is none: an episode must not go on because of it.
    """
    outcome = values.get("outcome", "")
    if outcome in OUTCOMES and outcome:
        return outcome
    return {"true": "success", "false": "failure"}.get(values.get("success", ""), "")
