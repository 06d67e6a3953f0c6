"""Tensors and plain values out of other people's ``.pth`` and ``.pkl`` files.

Nothing in such a file is run: of the names that a pickle may call, only those that stand for a
tensor, an array or a number are known here, and each is ours. Tensors come as memory maps of the
file, so that opening costs nothing and a frame is read when it is looked at; torch is not needed.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.errors import DatasetError

STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
LOCAL_HEADER = 30  # bytes before the name in a zip member's own header


def load_pth(file: Path) -> Any:
    """What `torch.save` wrote: a tensor, or numbers and tensors in lists, tuples and dicts.

    Returns:
        Tensors as read-only memory-mapped arrays; the containers as they were.

    Raises:
        DatasetError: missing, truncated, of the format before torch 1.6, or holding something
            else; names the file and what it asked for.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
            pickled = next(name for name in members if name.endswith("/data.pkl"))
            folder = pickled.removesuffix("data.pkl")
            order = b"little"
            if f"{folder}byteorder" in members:
                order = archive.read(f"{folder}byteorder")
            data = archive.read(pickled)
    except FileNotFoundError as error:
        raise DatasetError(f"{file}: no such file") from error
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise DatasetError(
            f"{file}: not a whole file of torch.save (version 1.6 or newer): {error}; copy it "
            "again, or load and save an older one with a current torch"
        ) from error

    def storage(key: str) -> np.ndarray:
        return _map_member(file, members[f"{folder}data/{key}"])

    return _load(io.BytesIO(data), file, storage, ">" if order == b"big" else "<")


def load_pickle(file: Path) -> Any:
    """What `pickle.dump` wrote: numbers, text and numpy arrays in plain containers.

    Raises:
        DatasetError: missing, truncated, or holding something else.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror}") from error
    return _load(io.BytesIO(data), file)


def _load(
    stream: io.BytesIO,
    file: Path,
    storage: Callable[[str], np.ndarray] | None = None,
    byte_order: str = "<",
) -> Any:
    try:
        return _plain(_Loader(stream, file, storage, byte_order).load())
    except DatasetError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise DatasetError(f"{file}: damaged: {type(error).__name__}: {error}") from error


def _map_member(file: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Bytes of a zip member, mapped in place."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise DatasetError(f"{file}: {member.filename} is compressed; torch.save stores it plain")
    if member.file_size == 0:
        return np.zeros(0, np.uint8)
    with file.open("rb") as stream:
        stream.seek(member.header_offset)
        name, extra = struct.unpack("<HH", stream.read(LOCAL_HEADER)[26:])
    offset = member.header_offset + LOCAL_HEADER + name + extra
    return np.memmap(file, np.uint8, mode="r", offset=offset, shape=(member.file_size,))


class _Storage:
    """The whole memory of a tensor: nothing else may a tensor be a view of."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values


class _Dtype:
    """Stands for a numpy dtype of plain numbers while a pickle is read."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "biuf":
            raise ValueError(f"array of {code}; only numbers are read")

    def __setstate__(self, state: Sequence[Any]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for a numpy array while a pickle is read."""

    array: np.ndarray

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, kind, is_fortran, data = state
        array = np.frombuffer(data, kind.dtype)
        self.array = array.reshape(shape, order="F" if is_fortran else "C")


class _Loader(pickle.Unpickler):
    """Knows the names below and no other; bound methods, so that a file cannot alter them."""

    def __init__(
        self,
        stream: io.BytesIO,
        file: Path,
        storage: Callable[[str], np.ndarray] | None,
        byte_order: str,
    ) -> None:
        super().__init__(stream)
        self._file = file
        self._storage = storage
        self._byte_order = byte_order
        self._names: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "_codecs.encode": self._encode,
            "numpy.ndarray": "ndarray",
            "numpy.dtype": self._dtype,
        }
        for core in ("numpy.core", "numpy._core"):
            self._names[f"{core}.multiarray._reconstruct"] = self._new_array
            self._names[f"{core}.multiarray.scalar"] = self._scalar
            self._names[f"{core}.numeric._frombuffer"] = self._from_buffer
        if storage is not None:
            self._names["torch._utils._rebuild_tensor_v2"] = self._tensor
            self._names |= {f"torch.{name}": code for name, code in STORAGES.items()}

    def find_class(self, module: str, name: str) -> Any:
        known = self._names.get(f"{module}.{name}")
        if known is None:
            raise DatasetError(
                f"{self._file}: asks for {module}.{name}; only tensors, arrays, numbers, text and "
                "plain containers are read, and nothing in the file is run"
            )
        return known

    def persistent_load(self, pid: Any) -> _Storage:
        if self._storage is None:
            raise ValueError("a tensor outside of torch.save's format")
        _, code, key, _, _ = pid
        return _Storage(self._storage(key).view(np.dtype(code).newbyteorder(self._byte_order)))

    def _tensor(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: Any,
    ) -> np.ndarray:
        # as_strided looks wherever it is told to: the view must lie within the storage.
        if not isinstance(storage, _Storage):
            raise ValueError(f"a tensor in a {type(storage).__name__}")
        values = storage.values
        if len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
            raise ValueError(f"tensor of shape {shape}, strides {strides}, offset {offset}")
        if not math.prod(shape):
            return np.zeros(shape, values.dtype)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if last >= len(values):
            raise ValueError(f"tensor of shape {shape} needs {last + 1} values, {len(values)} are")
        in_bytes = tuple(stride * values.itemsize for stride in strides)
        return np.lib.stride_tricks.as_strided(values[offset:], shape, in_bytes, writeable=False)

    def _dtype(self, code: str, *_: Any) -> _Dtype:
        return _Dtype(code)

    def _new_array(self, *_: Any) -> _Array:
        return _Array()

    def _scalar(self, kind: _Dtype, data: bytes) -> Any:
        return np.frombuffer(data, kind.dtype)[0]

    def _from_buffer(
        self, data: bytes, kind: _Dtype, shape: tuple[int, ...], order: str
    ) -> np.ndarray:
        return np.frombuffer(data, kind.dtype).reshape(shape, order="F" if order == "F" else "C")

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError(f"text encoded as {encoding}")
        return text.encode("latin1")


def _plain(value: Any) -> Any:
    """The value with the arrays in the place of what stood for them."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
