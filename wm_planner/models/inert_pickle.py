"""Tensors and settings out of whole pickled modules, without running anything in the file.

`torch.save(module)` writes the names of classes and functions that a reader is to call. Here no
name is ever looked up: each becomes an `Inert` class whose instances only remember what they were
given, `os.system` and `torch._utils._rebuild_tensor_v2` alike. What tensors are and what a module
holds is then read from these records by the code below.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from wm_planner.errors import CheckpointError

_LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # how torch before 1.6 begins a file
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_STORAGE = "storage"  # without a dot, so that no name of a file can be it


class Inert:
    """Stands for an object or a call in a file: remembers what it was given, does nothing.

    Slots and an own `__setstate__` leave a file no attribute to set.
    """

    __slots__ = ("args", "items", "state")
    origin: ClassVar[str] = ""
    args: tuple[Any, ...]
    items: list[tuple[Any, Any]]
    state: Any

    def __new__(cls, *args: Any, **_: Any) -> Inert:
        self = super().__new__(cls)
        self.args, self.items, self.state = args, [], None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, _: Any) -> None:
        """Lists, and with `extend` and `add` whatever else grows, are of no interest."""

    extend = add = append


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in the file; nothing of it is checked before it is read."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


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
    """The dictionary that `torch.save` wrote to `file`.

    Attributes:
        entries: its plain values, and its modules as `PickledModule`.
        origins: every name that the file asks for.

    Raises:
        CheckpointError: missing, truncated, of the format before torch 1.6, or no dictionary.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with _open(file) as archive:
            try:
                self._folder, pickled = _pickled(archive)
                unpickler = _Unpickler(io.BytesIO(pickled))
                entries = _mapping(unpickler.load())
                self.entries = {key: _entry(value) for key, value in entries.items()}
            except Exception as error:  # a damaged pickle can fail in any way
                raise CheckpointError(
                    f"{file}: damaged, or no dictionary of modules as torch.save writes it: "
                    f"{type(error).__name__}: {error}; copy or download it again"
                ) from error
        self.origins = sorted(unpickler.classes)

    def read(self, tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
        """The tensors, copied out of the file.

        Raises:
            CheckpointError: one is missing, or does not lie within its storage.
        """
        result = {}
        with _open(self.file) as archive:
            for name, tensor in tensors.items():
                try:
                    result[name] = _read_tensor(archive, self._folder, tensor)
                except Exception as error:
                    raise CheckpointError(
                        f"{self.file}: tensor '{name}' is damaged: {type(error).__name__}: {error}"
                    ) from error
        return result


class _Unpickler(pickle.Unpickler):
    """Looks no name up."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.classes: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> type[Inert]:
        origin = f"{module}.{name}"
        if origin not in self.classes:
            self.classes[origin] = _inert(origin)
        return self.classes[origin]

    def persistent_load(self, pid: Any) -> Inert:
        return _inert(_STORAGE)(*pid)


def _inert(origin: str) -> type[Inert]:
    return type(origin, (Inert,), {"__slots__": (), "origin": origin})


def _open(file: Path) -> zipfile.ZipFile:
    try:
        with file.open("rb") as stream:
            begin = stream.read(len(_LEGACY))
        if begin == _LEGACY:
            raise CheckpointError(
                f"{file}: is of the format before torch 1.6, which is not read; where you trust "
                "it, load it with a current torch and save it again"
            )
        return zipfile.ZipFile(file)
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: no such file") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{file}: not a whole file of torch.save (version 1.6 or newer): {error}; copy or "
            "download it again"
        ) from error


def _pickled(archive: zipfile.ZipFile) -> tuple[str, bytes]:
    """Folder inside the archive, and the pickle in it."""
    name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
    if name is None:
        raise ValueError("a zip archive without data.pkl; unpack it if it holds a .pth file")
    folder = name.removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and _member(archive, order) != b"little":
        raise ValueError("written on a big-endian machine, which is not supported")
    return folder, _member(archive, name)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed; torch.save stores it plain")
    return archive.read(name)


def _read_tensor(archive: zipfile.ZipFile, folder: str, tensor: StoredTensor) -> Tensor:
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise ValueError(f"shape {shape}, strides {strides}, offset {offset}")
    if not isinstance(tensor.storage, Inert) or tensor.storage.origin != _STORAGE:
        raise ValueError("no storage")
    _, kind, key, _, _ = tensor.storage.args
    dtype = _STORAGES[kind.origin.removeprefix("torch.")]
    if len(shape) != len(strides):
        raise ValueError(f"shape {shape}, strides {strides}")
    count = math.prod(shape)
    if not count:
        return torch.empty(shape, dtype=dtype)
    values = torch.frombuffer(bytearray(_member(archive, f"{folder}data/{key}")), dtype=dtype)
    # as_strided looks wherever it is told to, and zero strides would make much out of little.
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if max(last + 1, count) > len(values):
        raise ValueError(f"shape {shape}, strides {strides}; {len(values)} values are stored")
    return values.as_strided(shape, strides, offset).clone()


def _entry(value: Any) -> Any:
    """A module's contents; other things as they are."""
    if not isinstance(value, Inert) or not isinstance(value.state, dict):
        return value
    module = PickledModule(value.origin)
    if "_modules" in value.state:
        _collect(value.state, "", module)
    return module


def _collect(state: dict[str, Any], prefix: str, module: PickledModule) -> None:
    for name, value in state.items():
        tensor = _tensor(value)
        if tensor is not None or isinstance(value, bool | int | float | str):
            module.settings[prefix + name] = value if tensor is None else tensor
    for group in ("_parameters", "_buffers"):
        for name, value in _mapping(state[group]).items():
            tensor = _tensor(value)
            if tensor is not None:
                module.tensors[prefix + name] = tensor
    for name, child in _mapping(state["_modules"]).items():
        if child is not None:
            _collect(child.state, f"{prefix}{name}.", module)


def _tensor(value: Any) -> StoredTensor | None:
    while isinstance(value, Inert) and value.origin in _PARAMETERS:
        value = value.args[0]
    if isinstance(value, Inert) and value.origin == _TENSOR:
        return StoredTensor(*value.args[:4])
    return None


def _mapping(value: Any) -> dict[Any, Any]:
    """What `dict` and `collections.OrderedDict` hold."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Inert) and value.origin == "collections.OrderedDict":
        return dict([*(value.args[0] if value.args else ()), *value.items])
    raise TypeError(f"{getattr(value, 'origin', type(value).__name__)} is no dictionary")
