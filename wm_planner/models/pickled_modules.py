"""Tensors and settings out of whole pickled modules, without running anything in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wm_planner.errors import CheckpointError
from wm_planner.torch_file import (
    Archive,
    Inert,
    InertUnpickler,
    StoredTensor,
    mapping,
    said_of,
    stored_tensor,
)

_MOST_MODULES = 10**4


@dataclass(frozen=True)
class PickledModule:
    """What a pickled module holds, by dotted name.

    Attributes:
        origin: its class.
        tensors: parameters and buffers.
        settings: numbers, texts and tensors that were plain attributes.
    """

    origin: str
    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


class PickledFile:
    """The dictionary of whole modules that `torch.save` wrote to `file`.

    Attributes:
        entries: its plain values, and its modules as `PickledModule`.
        origins: every name that the file asks for; none of them is looked up.

    Raises:
        CheckpointError: missing, truncated, of the format before torch 1.6, or no dictionary.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._archive = Archive(file, CheckpointError)
        what = "damaged, or no dictionary of modules as torch.save writes it"
        with said_of(f"{file}: {what}", CheckpointError):
            unpickler = InertUnpickler(self._archive.pickled)
            entries = mapping(unpickler.load())
            self.entries = {key: _entry(value) for key, value in entries.items()}
        self.origins = sorted(unpickler.classes)

    def read(self, tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
        """The tensors, copied out of the file; bfloat16 as float32.

        Raises:
            CheckpointError: one is missing, or does not lie within its storage.
        """
        copies = self._archive.copies(tensors)
        return {name: torch.from_numpy(values) for name, values in copies.items()}


def _entry(value: Any) -> Any:
    """A module's contents; other things as they are."""
    if not isinstance(value, Inert) or not isinstance(value.state, dict):
        return value
    module = PickledModule(value.origin)
    if "_modules" in value.state:
        for number, (prefix, state) in enumerate(_modules(value.state)):
            if number >= _MOST_MODULES:
                raise ValueError(f"modules within modules, more than {_MOST_MODULES}")
            _collect(state, prefix, module)
            if len(module.tensors) + len(module.settings) > _MOST_MODULES:
                raise ValueError(f"more than {_MOST_MODULES} tensors and settings")
    return module


def _modules(state: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(prefix of names, attributes) of a module and of those within it."""
    yield prefix, state
    for name, child in mapping(state["_modules"]).items():
        if child is not None:
            yield from _modules(child.state, f"{prefix}{name}.")


def _collect(state: dict[str, Any], prefix: str, module: PickledModule) -> None:
    for name, value in state.items():
        tensor = stored_tensor(value)
        if tensor is not None or isinstance(value, bool | int | float | str):
            module.settings[prefix + name] = value if tensor is None else tensor
    for group in ("_parameters", "_buffers"):
        for name, value in mapping(state[group]).items():
            tensor = stored_tensor(value)
            if tensor is not None:
                module.tensors[prefix + name] = tensor
