"""Parquet files that others wrote: bounded, and every error names the file and the column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wm_planner.data.video import one_line, readable
from wm_planner.errors import DatasetError

# A file's size says nothing of what it expands to. These bounds are far above any real data set.
MAX_ROWS = 10_000_000  # of a parquet file, and frames of an episode
MAX_VALUES = 2**28  # of a column
MAX_BYTES = 2**33  # of a column, uncompressed
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@contextmanager
def open_parquet(file: Path) -> Iterator[pq.ParquetFile]:
    """An opened and bounded parquet file; what the library finds wrong with it is raised as ours.

    Raises:
        DatasetError: missing, damaged, or absurdly large.
    """
    with readable_parquet(file), pq.ParquetFile(file) as parquet:
        if parquet.metadata.num_rows > MAX_ROWS:
            raise DatasetError(
                f"{file}: {parquet.metadata.num_rows} rows, at most {MAX_ROWS} are read; split it"
            )
        yield parquet


def readable_parquet(file: Path) -> AbstractContextManager[None]:
    """Errors of pyarrow in the block become one that names the file."""
    causes = (pa.ArrowException, OSError, ValueError, LookupError, MemoryError)
    return readable(file, "not a readable parquet file", *causes)


def read_table(file: Path, columns: Sequence[str], groups: Sequence[int] | None = None) -> pa.Table:
    """Columns of a parquet file, of all its row groups or of some.

    Raises:
        DatasetError: damaged, a column is missing, or one would expand to more than the bounds.
    """
    with open_parquet(file) as parquet:
        missing = [name for name in columns if name not in parquet.schema_arrow.names]
        if missing:
            raise DatasetError(
                f"{file}: no column '{missing[0]}'; it has "
                f"{one_line(', '.join(parquet.schema_arrow.names))}. info.json and the data must "
                "be of one data set"
            )
        groups = range(parquet.metadata.num_row_groups) if groups is None else groups
        _check_sizes(file, parquet, columns, groups)
        return parquet.read_row_groups(list(groups), columns=list(columns))


def _check_sizes(
    file: Path, parquet: pq.ParquetFile, columns: Sequence[str], groups: Sequence[int]
) -> None:
    paths = [parquet.schema.column(index).path for index in range(len(parquet.schema))]
    wanted = {
        index: path
        for index, path in enumerate(paths)
        if any(path == name or path.startswith(f"{name}.") for name in columns)
    }
    sizes = dict.fromkeys(wanted.values(), (0, 0))
    for group in groups:
        # Asking a damaged column for its size ends the process inside of pyarrow. Reading a row of
        # it finds the damage too, and raises an error.
        next(parquet.iter_batches(1, row_groups=[group], columns=list(columns)), None)
        for index, path in wanted.items():
            column = parquet.metadata.row_group(group).column(index)
            values, size = sizes[path]
            sizes[path] = values + column.num_values, size + column.total_uncompressed_size
            if sizes[path][0] > MAX_VALUES or sizes[path][1] > MAX_BYTES:
                raise DatasetError(
                    f"{file}: column '{path}' holds {sizes[path][0]} values in {sizes[path][1]} "
                    f"bytes; at most {MAX_VALUES} and {MAX_BYTES} are read. Split the file"
                )


def read_rows(file: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """As `read_table`: a mapping for each row."""
    table = read_table(file, columns)
    with readable_parquet(file):
        result: list[dict[str, Any]] = table.to_pylist()
        return result


def read_numbers(file: Path, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """(N, size) numbers of each column, as they are stored, of lists or of plain numbers.

    Args:
        file: to read.
        sizes: entries of a row, by the column's name.

    Raises:
        DatasetError: see `read_table`; or no numbers, one is missing, or a row has another size.
    """
    table = read_table(file, list(sizes))
    return {name: _numbers(table, name, size, str(file)) for name, size in sizes.items()}


def _numbers(table: pa.Table, name: str, size: int, where: str) -> np.ndarray:
    column = table.column(name).combine_chunks()
    rows = len(column)
    if isinstance(column, pa.ChunkedArray):  # older versions of pyarrow combine to one chunk
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    while any(is_kind(column.type) for is_kind in _LISTS):
        if column.null_count:
            raise DatasetError(f"{where}: column '{name}' has an empty row; record it again")
        lengths = pc.unique(pc.list_value_length(column)).to_pylist()
        if len(lengths) > 1:
            raise DatasetError(
                f"{where}: column '{name}' has rows of {sorted(lengths)} entries each"
            )
        column = column.flatten()
    kind = column.type
    numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    if not numeric or column.null_count:
        what = f"{column.null_count} empty values" if numeric else f"values of type {kind}"
        raise DatasetError(f"{where}: column '{name}' holds {what}, expected numbers")
    if len(column) != rows * size:
        found = len(column) // max(rows, 1)
        raise DatasetError(
            f"{where}: column '{name}' has rows of {found} entries, info.json says {size}"
        )
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(rows, size)
