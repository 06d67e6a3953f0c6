"""Messages of a SQLite file of rosbag2, whole or damaged.

Such a file has no checksums: damage of its structure is seen, altered values are not.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote

_TOPICS = "SELECT id, name, type FROM topics"
_DEFINITIONS = "SELECT topic_type, encoded_message_definition FROM message_definitions"
_DAMAGE = (sqlite3.Error, TypeError, ValueError, OverflowError, MemoryError)


class Row(NamedTuple):
    """A message: its topic, type, definition of the type ('' without one), stamp and bytes."""

    topic: str
    msgtype: str
    definition: str
    stamp_ns: int
    data: bytes


def sqlite_messages(
    file: Path,
    name: str,
    topics: Collection[str] | None,
    note: Callable[[str], None],
    check: bool = True,
) -> Iterator[Row]:
    """Messages of some topics or of all, in the order of time.

    Args:
        file: to read; it stays as it is.
        name: of the file, for what is said of it.
        topics: None for all.
        note: hears, in words, what could not be read.
        check: look through the whole file for damage before.
    """
    log = file.with_name(file.name + "-wal")
    with TemporaryDirectory(prefix="wm_planner_bag_") as folder:
        if log.is_file() and log.stat().st_size:
            # The recorder was killed: its last messages lie in the log. SQLite joins them, but
            # writes when it does.
            note(f"{name}: the recorder was killed")
            file = Path(shutil.copy(file, folder))
            shutil.copy(log, folder)
            address = f"file:{quote(str(file))}"
        else:
            address = f"file:{quote(str(file.absolute()))}?mode=ro&immutable=1"
        cut = _is_cut(file)
        if cut:
            note(f"{name}: cut off at {file.stat().st_size} bytes")
        try:
            connection = sqlite3.connect(address, uri=True)
        except sqlite3.Error as error:
            note(f"{name}: cannot be opened ({error})")
            return
        with closing(connection):
            connection.text_factory = lambda text: text.decode(errors="replace")
            if check and not cut:
                _check(connection, name, note)
            yield from _whole_rows(connection, name, topics, note)


def _is_cut(file: Path) -> bool:
    """Whether the file has less pages than it says; SQLite itself may take the rest for zeros."""
    with file.open("rb") as stream:
        head = stream.read(32)
    if len(head) < 32:
        return True
    (size,), (count,) = struct.unpack_from(">H", head, 16), struct.unpack_from(">I", head, 28)
    expected: int = (65536 if size == 1 else size) * count
    return file.stat().st_size < expected


def _check(connection: sqlite3.Connection, name: str, note: Callable[[str], None]) -> None:
    try:
        ((said,),) = connection.execute("PRAGMA integrity_check(1)")
    except _DAMAGE as error:
        said = str(error)
    if said != "ok":
        said = " ".join(str(said).split())
        note(f"{name}: damaged ({said}); it has no checksums: values may be altered")


def _whole_rows(
    connection: sqlite3.Connection,
    name: str,
    topics: Collection[str] | None,
    note: Callable[[str], None],
) -> Iterator[Row]:
    given: set[int] = set()
    bad = 0
    # By its index of time; where that is damaged, what is left of the table.
    for order in ("timestamp, id", "id"):
        try:
            for number, row in _rows(connection, topics, order):
                if number in given:
                    continue
                given.add(number)
                if isinstance(row, Row):
                    yield row
                else:
                    bad += 1
            break
        except _DAMAGE as error:
            note(f"{name}: damaged, read up to there ({error})")
    if bad:
        note(f"{name}: {bad} rows are no messages")


def _rows(
    connection: sqlite3.Connection, topics: Collection[str] | None, order: str
) -> Iterator[tuple[int, Row | None]]:
    """Numbers of rows with what they hold; None where that is no message."""
    known = {number: (name, kind) for number, name, kind in connection.execute(_TOPICS)}
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    held = "message_definitions" in tables
    definitions: dict[Any, Any] = dict(connection.execute(_DEFINITIONS)) if held else {}
    wanted = [number for number, (name, _) in known.items() if topics is None or name in topics]
    marks = ",".join("?" * len(wanted))
    query = f"SELECT id, topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks})"
    for number, topic, stamp, data in connection.execute(f"{query} ORDER BY {order}", wanted):
        name, kind = known.get(topic, (None, None))
        row = Row(name, kind, definitions.get(kind, ""), stamp, data)
        types = (str, str, str, int, bytes)
        whole = all(isinstance(x, kind) for x, kind in zip(row, types, strict=True))
        yield number, row if whole else None
