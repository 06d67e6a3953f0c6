"""Tensors and plain values out of ``.pth`` and ``.pkl`` files; nothing in them is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.errors import DatasetError
from wm_planner.files import read_bytes
from wm_planner.torch_file import (
    MOST_BYTES,
    ORDERED,
    PARAMETERS,
    STORAGES,
    TENSOR,
    Archive,
    Inert,
    InertUnpickler,
    StoredTensor,
    mapping,
    said_of,
    stored_tensor,
)

_MOST_ITEMS = 10**6  # of a file's containers; a shared one counts as often as it is referred to
_OF_PICKLES = {
    *(ORDERED, "_codecs.encode", "numpy.ndarray", "numpy.dtype"),
    *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
}
_OF_TENSORS = _OF_PICKLES | {TENSOR, *PARAMETERS, *STORAGES}


def load_pth(file: Path) -> Any:
    """What `torch.save` wrote: a tensor, or numbers and tensors in lists, tuples and dicts.

    Returns:
        Tensors as read-only memory-mapped arrays, so that a frame is read when it is looked at
        (bfloat16 as float32, in memory); the containers as they were.

    Raises:
        DatasetError: missing, truncated, of the format before torch 1.6, or holding something
            else; names the file and what it asked for.
    """
    archive = Archive(file, DatasetError)
    return _plain(archive.pickled, file, _OF_TENSORS, archive.mapped)


def load_pickle(file: Path) -> Any:
    """What `pickle.dump` wrote: numbers, text and numpy arrays in plain containers.

    Raises:
        DatasetError: missing, truncated, or holding something else.
    """
    data = read_bytes(file, MOST_BYTES, DatasetError)
    return _plain(data, file, _OF_PICKLES, _no_tensor)


class _Plain:
    """Values in the place of their records; what is shared is read once and stays shared."""

    def __init__(self, tensor: Callable[[StoredTensor], np.ndarray]) -> None:
        self._tensor = tensor
        self._known: dict[int, tuple[Any, int]] = {}  # by id: the value, and the items in it

    def __call__(self, record: Any) -> Any:
        return self._read(record)[0]

    def _read(self, record: Any) -> tuple[Any, int]:
        if isinstance(record, type):
            raise ValueError(f"the name {getattr(record, 'origin', record)} as a value")
        if not isinstance(record, Inert | list | tuple | dict):
            return record, 1
        if id(record) not in self._known:
            self._known[id(record)] = self._container(record)
        return self._known[id(record)]

    def _container(self, record: Any) -> tuple[Any, int]:
        if isinstance(record, Inert) and record.origin != ORDERED:
            return self._value(record), 1
        is_dict = not isinstance(record, list | tuple)
        pairs = mapping(record).items() if is_dict else enumerate(record)
        read = [(self(key), *self._read(item)) for key, item in pairs]
        count = 1 + sum(items for _, _, items in read)
        if count > _MOST_ITEMS:
            raise ValueError(f"containers within containers, of more than {_MOST_ITEMS} items")
        if is_dict:
            return {key: item for key, item, _ in read}, count
        return type(record)(item for _, item, _ in read), count

    def _value(self, record: Inert) -> Any:
        tensor = stored_tensor(record)
        if tensor is not None:
            return self._tensor(tensor)
        what = record.origin.rpartition(".")[2]
        if what == "encode":
            text, encoding = record.args
            if encoding != "latin1":
                raise ValueError("text that is not encoded as latin1")
            return text.encode("latin1")
        if what == "scalar":
            kind, data = record.args
            return np.frombuffer(self(data), _dtype(kind))[0]
        if what == "_reconstruct":
            _, shape, kind, is_fortran, data = record.state
        elif what == "_frombuffer":
            data, kind, shape, order = record.args
            is_fortran = order == "F"
        else:
            raise ValueError(f"a {record.origin} where a value belongs")
        array = np.frombuffer(self(data), _dtype(kind))
        return array.reshape(shape, order="F" if is_fortran else "C")


def _plain(
    data: bytes,
    file: Path,
    known: set[str],
    tensor: Callable[[StoredTensor], np.ndarray],
) -> Any:
    def check(name: str) -> None:
        if name not in known:
            raise DatasetError(
                f"{file}: asks for {name}; only tensors, arrays, numbers, text and plain "
                "containers are read, and nothing in the file is run"
            )

    with said_of(f"{file}: damaged", DatasetError):
        return _Plain(tensor)(InertUnpickler(data, check).load())


def _no_tensor(_: StoredTensor) -> np.ndarray:
    raise ValueError("a tensor outside of torch.save's format")


def _dtype(record: Any) -> np.dtype:
    """A dtype of plain numbers."""
    code = record.args[0]
    dtype = np.dtype(code if isinstance(code, str) else "V")
    if record.origin != "numpy.dtype" or dtype.kind not in "biuf":
        raise ValueError(f"array of {dtype}; only numbers are read")
    is_big = record.state is not None and record.state[1] == ">"
    result: np.dtype = dtype.newbyteorder(">" if is_big else "<")
    return result
