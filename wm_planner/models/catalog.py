"""Finding checkpoints and reading their cards, without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from wm_planner.config import suggest
from wm_planner.embodiment import Embodiment
from wm_planner.errors import CheckpointError, ConfigError, TaskError
from wm_planner.files import read_json
from wm_planner.models import versions as published
from wm_planner.tasks import embodiment_of

SCHEMA = 2
_SCHEMAS = (1, SCHEMA)  # 1 names a simulated task in place of the embodiment
WEIGHTS, CARD, VERSIONS = "model.safetensors", published.CARD, "versions"
UPPER = "upper.safetensors"
SHIPPED = Path(__file__).parent.parent / "checkpoints"
_KEYS = ("schema", "model", "preprocess", "planner", "info", "sha256")


def shipped_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package, '<task>-<variant>'."""
    return sorted(path.name for path in SHIPPED.glob("*") if (path / CARD).is_file())


def resolve_checkpoint(name: str | Path, task: str | None = None) -> Path:
    """Find a checkpoint directory.

    Args:
        name: a checkpoint directory, the run directory of 'train', that of 'learn' (its newest
            version), a shipped name ('wall-base'), or a variant ('base') when `task` is given.
        task: task that the variant is for.

    Raises:
        CheckpointError: neither; the message lists the shipped names, or says how to train one
            where none is shipped for the task.
    """
    path = Path(name)
    for directory in (path, path / "checkpoint", *published.versions(path / VERSIONS)[:1]):
        if (directory / CARD).is_file():
            return directory
    for candidate in (str(name), f"{task}-{name}"):
        if candidate in shipped_checkpoints():
            return SHIPPED / candidate
    if path.is_dir():
        raise CheckpointError(
            f"checkpoint '{path}': holds no {CARD}, so it is not a checkpoint directory; give one "
            "that 'wm-planner train' wrote, with --checkpoint (docs/train.md)"
        )
    if task is not None and not any(n.startswith(f"{task}-") for n in shipped_checkpoints()):
        raise CheckpointError(
            f"unknown checkpoint '{name}': no such directory, and none is shipped for task "
            f"'{task}'; train one (docs/train.md) and give its directory, as by "
            f"--checkpoint runs/{task}/checkpoint"
        )
    raise CheckpointError(
        f"unknown checkpoint '{name}': no such directory, and not one of the shipped ones."
        f"{suggest(str(name), shipped_checkpoints())}"
    )


def read_card(file: Path, task: str | None = None) -> dict[str, Any]:
    """The readable half of a checkpoint, which must be of `task` when that is given.

    Raises:
        CheckpointError: not JSON, of another schema or task, or a key is missing.
    """
    card = read_json(file, CheckpointError, "copy the checkpoint again")
    if not isinstance(card, dict) or card.get("schema") not in _SCHEMAS:
        got = card.get("schema") if isinstance(card, dict) else type(card).__name__
        raise CheckpointError(f"{file}: schema {got}; this version reads schema {SCHEMA}")
    for key in _KEYS:
        if key not in card:
            raise CheckpointError(f"{file}: key '{key}' is missing")
    if card["schema"] == 1:
        _migrate(card, file)
    name = card["embodiment"]["name"] if isinstance(card.get("embodiment"), dict) else None
    if name is None:
        raise CheckpointError(f"{file}: key 'embodiment' is missing")
    if task is not None and name != task:
        raise CheckpointError(f"{file.parent}: was trained for '{name}', not for '{task}'")
    return card


def embodiment_of_card(card: dict[str, Any], directory: Path) -> Embodiment:
    """The robot that a checkpoint was trained on.

    Raises:
        CheckpointError: it cannot be used.
    """
    try:
        return Embodiment.from_json(card["embodiment"], f"{directory / CARD}: embodiment")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def _migrate(card: dict[str, Any], file: Path) -> None:
    """Bring a card of schema 1 to the present one, in place.

    The weight of the proprioception error was the task's then: 0 in the mazes.
    """
    try:
        size = int(card["preprocess"]["image_size"])
        card["embodiment"] = embodiment_of(card, str(file), size).to_json()
    except (ConfigError, TaskError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error}") from error
    if card["task"] in ("point_maze", "gym_point_maze") and isinstance(card["planner"], dict):
        card["planner"].setdefault("objective_alpha", 0.0)
    del card["task"]


def checksum(card: dict[str, Any]) -> str:
    """Of all weights that plans depend on."""
    upper = card.get("upper")
    if upper is None:
        return str(card["sha256"])
    return hashlib.sha256(f"{card['sha256']} {upper['sha256']}".encode()).hexdigest()


def check_whole(file: Path, sha256: str) -> None:
    """Compare a file with the checksum that the card has of it.

    Raises:
        CheckpointError: it is missing or another.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    if file_sha256(file) != sha256:
        raise CheckpointError(
            f"{file}: its checksum is not the one in {CARD}: truncated or changed; "
            "copy the checkpoint again"
        )


def file_sha256(file: Path) -> str:
    """Checksum of a file of any size, as hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
