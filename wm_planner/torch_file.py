"""Other people's ``.pth`` and ``.pkl`` files, read without running anything in them.

A pickle names the classes and functions that its reader is to call. Here no name is ever looked up:
each becomes an `Inert` class whose instances only remember what they were given, `os.system` and
`torch._utils._rebuild_tensor_v2` alike. What tensors are is then read from these records, and every
size is checked before anything of that size is made. torch is not needed.

What else the records mean is told by `data/pickled_values.py` and `models/pickled_modules.py`.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from wm_planner.errors import WmPlannerError
from wm_planner.files import check_regular

_LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # how torch before 1.6 begins a file
_LOCAL_HEADER = 30  # bytes before the name in a zip member's own header
_BFLOAT16 = "torch.BFloat16Storage"
STORAGES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    _BFLOAT16: "u2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
MOST_BYTES = 1 << 26  # of a pickle; tensors lie beside it
_MOST_NAMES = 2000  # of classes and functions in a file
_MOST_AXES = 32
_STORAGE = "storage"  # without a dot, so that no name of a file can be it
TENSOR = "torch._utils._rebuild_tensor_v2"
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
ORDERED = "collections.OrderedDict"


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in the file; nothing of it is checked before it is read."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


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


class InertUnpickler(pickle._Unpickler):
    """Looks no name up.

    It is the unpickler in Python: that in C makes a list as long as the largest number that a file
    gives a thing, and compares keys that are tuples of shared tuples without end.

    Args:
        data: the pickle.
        check: is given every name before it is recorded, to refuse it by an error.

    Attributes:
        classes: what stands for the names that the pickle asks for.
    """

    def __init__(self, data: bytes, check: Callable[[str], None] = lambda name: None) -> None:
        super().__init__(io.BytesIO(data))
        self.classes: dict[str, type[Inert]] = {}
        self._check = check

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> type[Inert]:
        origin = f"{module}.{name}"
        if origin not in self.classes:
            self._check(origin)
            if len(self.classes) >= _MOST_NAMES:
                raise ValueError(f"asks for more than {_MOST_NAMES} names")
            self.classes[origin] = _inert(origin)
        return self.classes[origin]

    def persistent_load(self, pid: Any) -> Inert:
        return _inert(_STORAGE)(*pid)


def _plain_keys(load: Callable[[Any], None], items: Callable[[Any], list[Any]]) -> Any:
    """An instruction that fills a dictionary or set, and first looks at its keys."""

    def checked(self: Any) -> None:
        for key in items(self):
            if isinstance(key, (tuple, frozenset)):
                raise ValueError(f"a {type(key).__name__} as a key, which is not read")
        load(self)

    return checked


for _code, _items in (
    (pickle.SETITEM, lambda self: self.stack[-2:-1]),
    (pickle.SETITEMS, lambda self: self.stack[::2]),
    (pickle.DICT, lambda self: self.stack[::2]),
    (pickle.ADDITEMS, lambda self: self.stack),
    (pickle.FROZENSET, lambda self: self.stack),
):
    _load = InertUnpickler.dispatch[_code[0]]
    InertUnpickler.dispatch[_code[0]] = _plain_keys(_load, _items)


class Archive:
    """A zip of `torch.save`. What goes wrong with it is raised as `error`.

    Attributes:
        file: of the archive.
        pickled: the pickle in it.

    Raises:
        WmPlannerError: the file is missing, truncated, or of the format before torch 1.6.
    """

    def __init__(self, file: Path, error: type[WmPlannerError]) -> None:
        self.file, self._error = file, error
        not_whole = f"{file}: not a whole file of torch.save (version 1.6 or newer)"
        check_regular(file, error)
        try:
            with file.open("rb") as stream:
                begin = stream.read(len(_LEGACY))
            if begin == _LEGACY:
                raise error(
                    f"{file}: is of the format before torch 1.6, which is not read; where you "
                    "trust it, load it with a current torch and save it again"
                )
            with zipfile.ZipFile(file) as archive, said_of(f"{file}: damaged", error):
                self._members = {member.filename: member for member in archive.infolist()}
                name = next((name for name in self._members if name.endswith("/data.pkl")), None)
                if name is None:
                    raise error(
                        f"{not_whole}, but a zip archive without data.pkl; unpack it if it holds "
                        "a .pth file"
                    )
                self._folder = name.removesuffix("data.pkl")
                order = f"{self._folder}byteorder"
                is_big = order in self._members and archive.read(self._member(order)) == b"big"
                self._byte_order: Literal["<", ">"] = ">" if is_big else "<"
                if self._members[name].file_size > MOST_BYTES:
                    raise error(f"{not_whole}: its data.pkl has more than {MOST_BYTES} bytes")
                self.pickled = archive.read(self._member(name))
        except FileNotFoundError as cause:
            raise error(f"{file}: no such file") from cause
        except (OSError, zipfile.BadZipFile) as cause:
            raise error(f"{not_whole}: {cause}; copy or download it again") from cause

    def mapped(self, tensor: StoredTensor) -> np.ndarray:
        """The tensor as a read-only view into the file; of bfloat16 a float32 copy."""
        member = self._storage(tensor)
        if member.file_size == 0:
            return self._view(tensor, np.zeros(0, np.uint8))
        with self.file.open("rb") as stream:
            stream.seek(member.header_offset)
            name, extra = struct.unpack("<HH", stream.read(_LOCAL_HEADER)[26:])
        offset = member.header_offset + _LOCAL_HEADER + name + extra
        data = np.memmap(self.file, np.uint8, "r", offset=offset, shape=(member.file_size,))
        return self._view(tensor, data)

    def copies(self, tensors: Mapping[str, StoredTensor]) -> dict[str, np.ndarray]:
        """The tensors, held against the checksums of the file; bfloat16 as float32.

        Raises:
            WmPlannerError: one is missing, or does not lie within its storage.
        """
        result = {}
        with said_of(f"{self.file}: damaged", self._error), zipfile.ZipFile(self.file) as archive:
            for name, tensor in tensors.items():
                with said_of(f"{self.file}: tensor '{name}' is damaged", self._error):
                    data = np.frombuffer(archive.read(self._storage(tensor)), np.uint8)
                    view = self._view(tensor, data)
                    if view.size > len(data):  # zero strides would make much out of little
                        raise ValueError(f"shape {view.shape} out of {len(data)} stored bytes")
                    result[name] = np.array(view, view.dtype.newbyteorder("="), order="C")
        return result

    def _storage(self, tensor: StoredTensor) -> zipfile.ZipInfo:
        """The member that holds what the tensor is a view of."""
        storage = tensor.storage
        if not isinstance(storage, Inert) or storage.origin != _STORAGE:
            raise ValueError(f"a tensor in a {getattr(storage, 'origin', type(storage).__name__)}")
        key = storage.args[2]
        if not isinstance(key, str):
            raise ValueError(f"a storage that is called by a {type(key).__name__}")
        return self._member(f"{self._folder}data/{key}")

    def _view(self, tensor: StoredTensor, data: np.ndarray) -> np.ndarray:
        """The tensor as a view of its storage's bytes, which it must lie within."""
        shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
        if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
            raise ValueError("shape, strides and offset are not whole numbers of at least 0")
        if len(shape) != len(strides) or len(shape) > _MOST_AXES:
            raise ValueError(f"a shape of {len(shape)} entries, strides of {len(strides)}")
        kind = tensor.storage.args[1].origin
        values = data.view(np.dtype(STORAGES[kind]).newbyteorder(self._byte_order))
        if kind == _BFLOAT16:  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        if not math.prod(shape):
            return np.zeros(shape, values.dtype)
        # as_strided looks wherever it is told to.
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if last >= len(values):
            raise ValueError(f"tensor of shape {shape} needs {last + 1} values, {len(values)} are")
        in_bytes = [stride * values.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(values[offset:], shape, in_bytes, writeable=False)

    def _member(self, name: str) -> zipfile.ZipInfo:
        """A member, which is as long in memory as it is in the file."""
        member = self._members[name]
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed; torch.save stores it plain")
        return member


@contextmanager
def said_of(what: str, error: type[WmPlannerError]) -> Iterator[None]:
    """Whatever goes wrong, as an error that names the file: a damaged pickle can fail anyhow."""
    try:
        yield
    except WmPlannerError:
        raise
    except Exception as cause:
        raise error(
            f"{what}: {type(cause).__name__}: {cause}; copy or download it again"
        ) from cause


def _inert(origin: str) -> type[Inert]:
    return type(origin, (Inert,), {"__slots__": (), "origin": origin})


def stored_tensor(value: Any) -> StoredTensor | None:
    """The tensor that a parameter of a model wraps, or that a value is; None: it is no tensor."""
    while isinstance(value, Inert) and value.origin in PARAMETERS:
        value = value.args[0]
    if isinstance(value, Inert) and value.origin == TENSOR:
        return StoredTensor(*value.args[:4])
    return None


def mapping(value: Any) -> dict[Any, Any]:
    """What `dict` and `collections.OrderedDict` hold."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Inert) and value.origin == ORDERED:
        return dict([*(value.args[0] if value.args else ()), *value.items])
    raise TypeError(f"{getattr(value, 'origin', type(value).__name__)} is no dictionary")
