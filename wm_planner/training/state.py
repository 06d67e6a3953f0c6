"""The whole state of a training run, on disk: a resumed run is the run that was not interrupted.

``state.pt`` holds tensors, numbers and text only, so reading one executes nothing in it.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from wm_planner.errors import CheckpointError
from wm_planner.files import written_aside
from wm_planner.training.distributed import Group

STATE = "state.pt"
SCHEMA = 1


def random_state(device: torch.device) -> dict[str, Tensor]:
    """This process's global generators, which dropout uses."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Undo what happened since `random_state`; another kind of device begins its own."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def save_state(directory: Path, state: dict[str, Any]) -> Path:
    """Write ``state.pt``, aside first: a reader finds the last one or this one, whole."""
    file = directory / STATE
    with written_aside(file) as part, part.open("wb") as stream:
        torch.save({"schema": SCHEMA, **state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    return file


def load_state(directory: Path, group: Group) -> dict[str, Any] | None:
    """What `save_state` wrote; None when it never did.

    Raises:
        CheckpointError: it cannot be read, or another number of processes wrote it.
    """
    file = directory / STATE
    if not file.is_file():
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error}") from error
    if state.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{file}: schema {state.get('schema')}; this version reads schema {SCHEMA}"
        )
    if len(state["random"]) != group.size:
        raise CheckpointError(
            f"{file}: of {len(state['random'])} processes; resume with as many, not {group.size}"
        )
    return state


def save_batch(directory: Path, step: int, rank: int, batch: tuple[Tensor, ...]) -> Path:
    """Keep a batch that gave no finite loss; `safetensors.torch.load_file` reads it."""
    file = directory / f"bad_batch_update{step}_process{rank}.safetensors"
    save_file({f"input{i}": x.detach().cpu().contiguous() for i, x in enumerate(batch)}, file)
    return file
