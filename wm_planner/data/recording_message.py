"""What a bag says of itself: the JSON message on the topic `recording`, and how it came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from wm_planner.config import from_dict
from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError, DatasetError, raised_as
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
        DatasetError: it is no such message, of a newer version of this package, or a value in it
            cannot be used.
    """
    values = parse_json(text, f"topic {RECORDING_TOPIC}", DatasetError)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        got = values.get("schema") if isinstance(values, dict) else values
        raise DatasetError(f"topic {RECORDING_TOPIC}: schema {got!r}, expected {SCHEMA}")
    names = [field.name for field in fields(Description)]
    said = {name: values[name] for name in names if values.get(name) is not None}
    for key in ("cameras", "topics"):
        if isinstance(said.get(key), dict):
            said[key] = {name: str(topic) for name, topic in said[key].items()}
    said["version"] = str(said.get("version", ""))
    with raised_as(DatasetError, ConfigError):
        return from_dict(Description, said, f"topic {RECORDING_TOPIC}")


def outcome_of(values: Mapping[str, str]) -> str:
    """'success', 'failure' or '': the outcome, or what a simulator says of `success`.

    An outcome of another name is none: an episode must not go on because of it.
    """
    outcome = values.get("outcome", "")
    if outcome in OUTCOMES and outcome:
        return outcome
    return {"true": "success", "false": "failure"}.get(values.get("success", ""), "")
