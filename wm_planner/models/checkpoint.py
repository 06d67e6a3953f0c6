"""Checkpoints: a directory with ``model.safetensors`` and a readable ``bundle.json``.

Nothing in a checkpoint is ever executed. Writing goes aside first and is then renamed, so that a
reader finds either the old one or the new one, whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wm_planner.config import from_dict, to_dict
from wm_planner.errors import CheckpointError, ConfigError
from wm_planner.models.bundle import Bundle, build_model
from wm_planner.models.catalog import CARD, SCHEMA, WEIGHTS, read_card, resolve_checkpoint
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import ModelConfig


def save_bundle(bundle: Bundle, directory: Path | str) -> Path:
    """Write a checkpoint directory.

    Raises:
        CheckpointError: the directory exists already.
    """
    directory = Path(directory)
    if directory.exists():
        raise CheckpointError(f"{directory}: exists already; choose another directory")
    aside = directory.with_name(f".{directory.name}.part{os.getpid()}")
    aside.mkdir(parents=True)
    try:
        state = {k: v.contiguous().cpu() for k, v in bundle.model.state_dict().items()}
        save_file(state, aside / WEIGHTS)
        card = {
            "schema": SCHEMA,
            "task": bundle.task,
            "model": to_dict(bundle.model.config),
            "preprocess": to_dict(bundle.preprocess),
            "planner": bundle.planner,
            "info": bundle.info,
            "sha256": _sha256(aside / WEIGHTS),
        }
        (aside / CARD).write_text(json.dumps(card, indent=2) + "\n")
        aside.rename(directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return directory


def load_bundle(name: str | Path, device: str = "cpu", task: str | None = None) -> Bundle:
    """Load a checkpoint by directory or name (see `resolve_checkpoint`).

    Raises:
        CheckpointError: missing, truncated, of another schema, or of sizes that do not fit; the
            message names the file and the key.
    """
    directory = resolve_checkpoint(name, task)
    card = read_card(directory / CARD)
    if task is not None and card["task"] != task:
        raise CheckpointError(
            f"{directory}: was trained for task '{card['task']}', not for '{task}'"
        )
    weights = directory / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such file")
    if _sha256(weights) != card["sha256"]:
        raise CheckpointError(
            f"{weights}: its checksum is not the one in {CARD}: truncated or changed; "
            "copy the checkpoint again"
        )
    try:
        config = from_dict(ModelConfig, card["model"], f"{directory / CARD}: model")
        preprocess = from_dict(Preprocess, card["preprocess"], f"{directory / CARD}: preprocess")
        model = build_model(config)
        state = load_file(weights)
    except (ConfigError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{directory}: {error}") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{weights}: does not fit {CARD}: {error}") from error
    return Bundle(model.to(device), preprocess, card["task"], card["planner"], card["info"])


def publish(bundle: Bundle, root: Path | str, name: str) -> Path:
    """Save as ROOT/NAME, then point ROOT/latest at it by an atomic rename."""
    directory = save_bundle(bundle, Path(root) / name)
    link = directory.with_name(f".latest.part{os.getpid()}")
    link.unlink(missing_ok=True)
    link.symlink_to(directory.name)
    link.replace(directory.with_name("latest"))
    return directory


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
