"""Checkpoints: a directory with ``model.safetensors`` and a readable ``bundle.json``.

Nothing in a checkpoint is ever executed. Writing goes aside first and is then renamed, so that a
reader finds either the old one or the new one, whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch.nn import Module

from wm_planner.config import from_dict, to_dict
from wm_planner.errors import CheckpointError, ConfigError
from wm_planner.files import write_bytes, write_json, written_aside
from wm_planner.models.bundle import Bundle, build_model
from wm_planner.models.catalog import (
    CARD,
    SCHEMA,
    WEIGHTS,
    check_whole,
    embodiment_of_card,
    file_sha256,
    read_card,
    resolve_checkpoint,
)
from wm_planner.models.core_set import CoreSet, save_core_set
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.upper import load_upper, save_upper
from wm_planner.models.world_model import ModelConfig, WorldModel


def save_bundle(bundle: Bundle, directory: Path | str, core: CoreSet | None = None) -> Path:
    """Write a checkpoint directory, with a core set where there is one (see `core_set`).

    Raises:
        CheckpointError: the directory exists already.
        WriteError: it cannot be made, or the disk has no room for it.
    """
    directory = Path(directory)
    if directory.exists():
        raise CheckpointError(f"{directory}: exists already; choose another directory")
    with written_aside(directory) as part:
        part.mkdir(parents=True)
        model = to_dict(bundle.model.config)
        card: dict[str, Any] = {
            "schema": SCHEMA,
            "embodiment": bundle.embodiment.to_json(),
            "model": {**model, "encoder": _without_source(model["encoder"])},
            "preprocess": to_dict(bundle.preprocess),
            "planner": bundle.planner,
            "info": bundle.info,
            "sha256": _save_weights(bundle.model, part / WEIGHTS),
        }
        if core is not None:
            card["core_set"] = save_core_set(core, part)
        if bundle.upper is not None:
            card["upper"] = save_upper(bundle.upper, part)
        write_json(part / CARD, card)
    return directory


def in_float16(module: Module, name: str) -> Module:
    """Round a module's numbers to float16, in place; the module itself.

    Args:
        module: anything with weights.
        name: of what it is a part, for the error.

    Raises:
        CheckpointError: a number is not finite, or too large.
    """
    largest = torch.finfo(torch.float16).max
    for key, value in module.state_dict().items():
        if value.is_floating_point() and not bool((value.abs() <= largest).all()):
            raise CheckpointError(f"{name}: '{key}' has values that float16 cannot hold")
    return module.half()


def torch_device(name: str, index: int = 0) -> torch.device:
    """The device of that name.

    Args:
        name: 'auto' (cuda where there is one), 'cpu', 'cuda' or 'cuda:N'.
        index: which one 'cuda' is.

    Raises:
        ConfigError: another name, or this machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device '{name}' is unknown; choices: auto, cpu, cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device '{name}' is not supported; choices: auto, cpu, cuda")
    if device.type == "cuda":
        index = index if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise ConfigError(
                f"device '{name}' number {index}: this machine has {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", index)
    return device


def load_bundle(name: str | Path, device: str = "cpu", task: str | None = None) -> Bundle:
    """Load a checkpoint by directory or name (see `resolve_checkpoint`), onto a `torch_device`.

    Raises:
        ConfigError: no such device.
        CheckpointError: missing, truncated, of another schema, or of sizes that do not fit; the
            message names the file and the key.
    """
    directory, place = resolve_checkpoint(name, task), torch_device(device)
    card = read_card(directory / CARD, task)
    weights = directory / WEIGHTS
    check_whole(weights, card["sha256"])
    try:
        config = from_dict(ModelConfig, card["model"], f"{directory / CARD}: model")
        preprocess = from_dict(Preprocess, card["preprocess"], f"{directory / CARD}: preprocess")
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{directory}: {error}") from error
    try:
        model = build_model(config)
    except (ConfigError, ValueError) as error:
        raise CheckpointError(f"{directory / CARD}: model: {error}") from error
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{weights}: does not fit {CARD}: {error}") from error
    body, upper = embodiment_of_card(card, directory), load_upper(directory, card, model)
    if upper is not None:
        upper.to(place)
    model.to(place)
    return Bundle(model, preprocess, body, card["planner"], card["info"], upper=upper)


def check_weights(model: WorldModel, source: object) -> None:
    """Raises:
    CheckpointError: a number is not finite, or a part of the model that computes is all zero.
    """
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise CheckpointError(f"{source}: '{name}' has values that are not finite numbers")
    for part in ("encoder", "predictor", "action_encoder"):
        weights = list(getattr(model, part).parameters())
        if weights and not any(bool(weight.any()) for weight in weights):
            raise CheckpointError(f"{source}: all weights of the {part} are zero")


def _without_source(encoder: dict[str, Any]) -> dict[str, Any]:
    """Without the file that the encoder was read from: the checkpoint has its weights."""
    kept = {key: value for key, value in encoder.items() if key != "weights"}
    if isinstance(kept.get("base"), dict):  # of several cameras
        kept["base"] = _without_source(kept["base"])
    return kept


def _save_weights(module: Module, file: Path) -> str:
    """Write the weights; return the file's checksum."""
    write_bytes(file, save({k: v.contiguous().cpu() for k, v in module.state_dict().items()}))
    return file_sha256(file)
