"""The messages of rosbag2 recordings, complete or damaged, without ROS.

MCAP and SQLite files, compressed or not, split or not, with metadata.yaml or without. What is
whole is read; what is not is said in `Bag.damage`.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import struct
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO
from urllib.parse import quote

import yaml
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.summary import Summary
from mcap.writer import MCAP0_MAGIC
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from wm_planner.data.layouts import BAG_ENDINGS, BAG_METADATA, DROPPED
from wm_planner.errors import DatasetError

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_RECORD_HEAD = 9  # bytes of opcode and length before the content of an MCAP record


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Message types of ROS 2 Jazzy; those used here are the same in Humble to Rolling."""
    return get_typestore(Stores.ROS2_JAZZY)


@dataclass(frozen=True)
class BagMessage:
    """One message of a bag.

    Attributes:
        topic: topic name as recorded.
        msgtype: 'package/msg/Name'.
        stamp_ns: time of recording.
        data: CDR bytes.
        definition: of the type, as the bag holds it; empty: it holds none.
    """

    topic: str
    msgtype: str
    stamp_ns: int
    data: bytes
    definition: str = ""

    def decode(self) -> Any:
        """The message as a rosbags dataclass with the fields of the ROS message.

        Raises:
            DatasetError: the type is not known, or the bytes are no such message.
        """
        try:
            store = typestore()
            if self.msgtype not in store.types:
                store = _extended(self.msgtype, self.definition)
            return store.deserialize_cdr(self.data, self.msgtype)
        except Exception as error:  # rosbags lets out whatever damaged bytes bring about
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise DatasetError(
                f"topic {self.topic}: a message of type {self.msgtype} cannot be decoded ({reason})"
            ) from error


@lru_cache(maxsize=16)
def _extended(msgtype: str, definition: str) -> Typestore:
    """The known types and one that a bag defines."""
    if not definition:
        raise KeyError(f"the bag holds no definition of {msgtype}")
    store = get_typestore(Stores.ROS2_JAZZY)
    idl = definition.lstrip().startswith(("=", "module")) and "module " in definition
    kinds = get_types_from_idl(definition) if idl else get_types_from_msg(definition, msgtype)
    store.register({name: kind for name, kind in kinds.items() if name not in store.types})
    return store


@dataclass
class Bag:
    """One recording.

    Attributes:
        path: its directory, or its only file.
        damage: what could not be read, in words. It grows while messages are read.
    """

    path: Path
    damage: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        self._unpacked: TemporaryDirectory[str] | None = None  # removed with this object
        self._plain: dict[Path, Path] = {}

    def files(self) -> list[Path]:
        """Its files in the order of recording.

        Raises:
            DatasetError: there is none.
        """
        if self.path.is_file():
            return [self.path]
        found = {file.name: file for file in _bag_files(self.path)}
        named = self._named_files()
        for name in named:
            if name not in found:
                self._note(f"{name}: named in {BAG_METADATA}, but missing")
        if not found:
            raise DatasetError(
                f"{self.path}: no bag here (no file of {', '.join(BAG_ENDINGS)} in it)"
            )
        order = {name: number for number, name in enumerate(named)}
        return sorted(
            found.values(), key=lambda file: (order.get(file.name, len(order)), _natural(file.name))
        )

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """All messages, or those of some topics, in the order of time; where a file has no index,
        in that of recording.

        Raises:
            DatasetError: there is no bag.
        """
        for file in self.files():
            plain = self._decompressed(file)
            read = self._mcap if plain.suffix == ".mcap" else self._sqlite
            try:
                yield from read(plain, file.name, topics)
            except OSError as error:
                self._note(f"{file.name}: cannot be read ({error})")

    def _named_files(self) -> list[str]:
        """Names that metadata.yaml gives; nothing where it is missing or damaged."""
        file = self.path / BAG_METADATA
        if not file.is_file():
            self._note(
                f"{BAG_METADATA} is missing: the recorder was killed, or the copy is not whole"
            )
            return []
        try:
            content = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            paths = content["rosbag2_bagfile_information"]["relative_file_paths"]
            return [PurePath(path).name for path in paths]
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
            self._note(f"{BAG_METADATA} cannot be used ({type(error).__name__})")
            return []

    def _note(self, text: str) -> None:
        if text not in self.damage:
            self.damage.append(text)

    def _decompressed(self, file: Path) -> Path:
        """The file, or a plain copy of one that is compressed as a whole."""
        if not file.name.endswith(".zstd"):
            return file
        if file not in self._plain:
            if self._unpacked is None:
                self._unpacked = TemporaryDirectory(prefix="wm_planner_bag_")
            target = Path(self._unpacked.name) / file.stem
            with file.open("rb") as packed, target.open("wb") as out:
                reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
                try:
                    shutil.copyfileobj(reader, out)
                except zstandard.ZstdError as error:
                    self._note(f"{file.name}: damaged ({error})")
            self._plain[file] = target
        return self._plain[file]

    def _mcap(self, file: Path, name: str, topics: Collection[str] | None) -> Iterator[BagMessage]:
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        with file.open("rb") as stream:
            for record in self._mcap_records(stream, name):
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    channels[record.id] = record
                elif isinstance(record, Message):
                    channel = channels.get(record.channel_id)
                    schema = None if channel is None else schemas.get(channel.schema_id)
                    if channel is None or schema is None or record.log_time >= 2**63:
                        self._note(f"{name}: a message of an unknown channel or time was left out")
                    elif channel.message_encoding != "cdr":
                        self._note(
                            f"{name}: topic {channel.topic} has the encoding "
                            f"'{channel.message_encoding}', not cdr"
                        )
                    elif topics is None or channel.topic in topics:
                        yield BagMessage(
                            channel.topic,
                            schema.name,
                            record.log_time,
                            _unzipped(record.data),
                            schema.data.decode(errors="replace"),
                        )

    def _mcap_records(self, stream: BinaryIO, name: str) -> Iterator[McapRecord]:
        """By the index where the file has one, so that damage costs no more than its chunk."""
        size = stream.seek(0, os.SEEK_END)
        summary = self._summary(stream, name, size)
        count = 0
        for record in self._mcap_chunks(stream, name, size, summary):
            if not isinstance(record, Chunk):
                yield record
                continue
            count += 1
            try:
                records = breakup_chunk(record, validate_crc=True)
            except Exception as error:  # each decompressor has errors of its own
                self._note(f"{name}: chunk {count} is damaged ({error or type(error).__name__})")
                continue
            if summary is not None:  # a message of a damaged file has no better time than its place
                records.sort(key=lambda r: r.log_time if isinstance(r, Message) else -1)
            yield from records

    def _summary(self, stream: BinaryIO, name: str, size: int) -> Summary | None:
        """The index of a file; None where it has none, or is damaged."""
        if not _ends_well(stream, size):
            self._note(f"{name}: cut off at {size} bytes")
            return None
        stream.seek(0)
        try:
            summary = SeekingReader(stream, record_size_limit=size).get_summary()
        except _DAMAGE:  # the file is read from its beginning
            self._note(f"{name}: its index is damaged")
            return None
        return summary if summary is not None and summary.chunk_indexes else None

    def _mcap_chunks(
        self, stream: BinaryIO, name: str, size: int, summary: Summary | None
    ) -> Iterator[McapRecord]:
        if summary is not None:
            yield from summary.schemas.values()
            yield from summary.channels.values()
            for index in sorted(summary.chunk_indexes, key=lambda index: index.message_start_time):
                try:
                    stream.seek(index.chunk_start_offset + _RECORD_HEAD)
                    yield Chunk.read(ReadDataStream(stream))
                except _DAMAGE:
                    self._note(f"{name}: the chunk at byte {index.chunk_start_offset} is damaged")
            return
        stream.seek(0)
        try:
            yield from StreamReader(stream, emit_chunks=True, record_size_limit=size).records
        except _DAMAGE as error:
            if _ends_well(stream, size):  # a file that was cut off is named already
                self._note(f"{name}: damaged from byte {stream.tell()} on ({error})")

    def _sqlite(
        self, file: Path, name: str, topics: Collection[str] | None
    ) -> Iterator[BagMessage]:
        log = file.with_name(file.name + "-wal")
        with TemporaryDirectory(prefix="wm_planner_bag_") as folder:
            if log.is_file() and log.stat().st_size:
                # The recorder was killed: its last messages lie in the log. SQLite joins them,
                # but writes when it does.
                self._note(f"{name}: the recorder was killed")
                file = Path(shutil.copy(file, folder))
                shutil.copy(log, folder)
                address = f"file:{quote(str(file))}"
            else:
                address = f"file:{quote(str(file.absolute()))}?mode=ro&immutable=1"
            try:
                connection = sqlite3.connect(address, uri=True)
            except sqlite3.Error as error:
                self._note(f"{name}: cannot be opened ({error})")
                return
            with closing(connection):
                try:
                    yield from _rows(connection, topics)
                except (sqlite3.Error, TypeError, ValueError) as error:
                    self._note(f"{name}: damaged, read up to there ({error})")


_DAMAGE = (McapError, struct.error, EOFError, ValueError, KeyError, MemoryError, OverflowError)
_TOPICS = "SELECT id, name, type FROM topics"
_DEFINITIONS = "SELECT topic_type, encoded_message_definition FROM message_definitions"


def _rows(connection: sqlite3.Connection, topics: Collection[str] | None) -> Iterator[BagMessage]:
    known = {number: (name, kind) for number, name, kind in connection.execute(_TOPICS)}
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    held = "message_definitions" in tables
    definitions = dict(connection.execute(_DEFINITIONS)) if held else {}
    wanted = [number for number, (name, _) in known.items() if topics is None or name in topics]
    marks = ",".join("?" * len(wanted))
    query = f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks})"
    for number, stamp, data in connection.execute(f"{query} ORDER BY timestamp, id", wanted):
        name, kind = known[number]
        yield BagMessage(name, kind, int(stamp), _unzipped(data), definitions.get(kind, ""))


def bags_in(path: Path) -> list[Path]:
    """The bags at a path, by name: itself, those in it, or files that are a recording each."""
    if path.is_file() or (path / BAG_METADATA).is_file():
        return [path]
    files = _bag_files(path)
    names = {re.sub(r"_\d+$", "", file.name.partition(".")[0]) for file in files}
    if len(names) == 1:  # the parts of one recording
        return [path]
    folders = [p for p in path.iterdir() if p.is_dir() and p.name != DROPPED]
    inside = [p for p in folders if (p / BAG_METADATA).is_file() or _bag_files(p)]
    return sorted([*files, *inside], key=lambda p: _natural(p.name))


def _bag_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = [f for f in folder.iterdir() if f.name.endswith(BAG_ENDINGS) and f.is_file()]
    names = {file.name for file in files}
    return [f for f in files if not (f.name.endswith(".zstd") and f.stem in names)]


def _natural(name: str) -> list[Any]:
    """Sorts part_10 behind part_9."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def _unzipped(data: bytes) -> bytes:
    """A message that was compressed alone; CDR never begins with these bytes."""
    if not data.startswith(_ZSTD_MAGIC):
        return data
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError:
        return b""  # its decoding fails, and is named


def _ends_well(stream: BinaryIO, size: int) -> bool:
    """True when an MCAP file has its closing magic, hence its index."""
    stream.seek(max(0, size - len(MCAP0_MAGIC)))
    return stream.read() == MCAP0_MAGIC
