"""Messages of an MCAP file, whole or damaged.

What has a checksum is checked before it is given out. With an index, damage costs no more than its
chunk. Without one, or with a damaged one, the file is read from its beginning; behind a damaged
record the next whole chunk is looked for.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, ChunkIndex, McapRecord, Message, Schema
from mcap.stream_reader import breakup_chunk
from mcap.summary import Summary
from mcap.writer import MCAP0_MAGIC

_DAMAGE = (McapError, struct.error, EOFError, ValueError, KeyError, MemoryError, OverflowError)
_HEAD = struct.Struct("<BQ")  # opcode and length before the content of a record
_FOOTER = struct.Struct("<BQQQI")
_DATA_END = struct.Struct("<BQI")
_LARGEST = 2**32  # bytes of a chunk; a damaged size must not be allocated
_LAST_STANDARD, _FIRST_PRIVATE = 0x0F, 0x80  # opcodes between them mean nothing
# Opcode, length, first and last time, size, checksum, compression, length of the records.
_CHUNK = re.compile(
    rb"\x06(.{8}).{16}.{8}.{4}(\x00{4}|\x03\x00{3}lz4|\x04\x00{3}zstd)(.{8})", re.DOTALL
)


class McapFile:
    """An opened file.

    Args:
        stream: to read, seekable.
        name: of the file, for what is said of it.
        note: hears, in words, what could not be read.
    """

    def __init__(self, stream: BinaryIO, name: str, note: Callable[[str], None]) -> None:
        self._stream, self._name, self._note = stream, name, note
        self._size = stream.seek(0, os.SEEK_END)
        self._lost = 0  # messages of an unknown channel

    def messages(self) -> Iterator[tuple[Schema, Channel, Message]]:
        """In the order of time; where there is no index, in that of the file."""
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        for record in self._records():
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                channel = channels.get(record.channel_id)
                schema = None if channel is None else schemas.get(channel.schema_id)
                if channel is None or schema is None or record.log_time >= 2**63:
                    self._lost += 1
                else:
                    yield schema, channel, record
        if self._lost:
            self._note(f"{self._name}: {self._lost} messages of an unknown topic or time are lost")

    def _records(self) -> Iterator[McapRecord]:
        summary = self._summary()
        if summary is None:
            yield from self._in_order_of_the_file()
            return
        yield from summary.schemas.values()
        yield from summary.channels.values()
        for index in sorted(summary.chunk_indexes, key=lambda index: index.message_start_time):
            records = self._chunk(index.chunk_start_offset, index.chunk_length, index)
            # The order of time; a record that is no message comes before all.
            records.sort(key=lambda r: r.log_time if isinstance(r, Message) else -1)
            yield from records

    # The index ----------------------------------------------------------------------------

    def _summary(self) -> Summary | None:
        """None where there is none, or a damaged one."""
        if not self._ends_well():
            self._note(f"{self._name}: cut off at {self._size} bytes")
            return None
        try:
            start, checksum = self._footer()
            if not start:
                return None
            if checksum and checksum != self._crc(start, self._size - len(MCAP0_MAGIC) - 4):
                raise ValueError("checksum")
            self._stream.seek(0)
            reader = SeekingReader(self._stream, record_size_limit=self._size)
            summary = reader.get_summary()
        except _DAMAGE:
            self._note(f"{self._name}: its index is damaged")
            return None
        return summary if summary is not None and summary.chunk_indexes else None

    def _ends_well(self) -> bool:
        """True when the file has its closing magic, hence a footer."""
        self._stream.seek(max(0, self._size - len(MCAP0_MAGIC)))
        return self._stream.read() == MCAP0_MAGIC

    def _footer(self) -> tuple[int, int]:
        """Where the summary starts (0: there is none), and its checksum (0: it has none).

        Raises:
            ValueError: it is damaged.
        """
        place = self._size - len(MCAP0_MAGIC) - _FOOTER.size
        opcode, length, start, _, checksum = _FOOTER.unpack(self._bytes(place, _FOOTER.size))
        if opcode != Opcode.FOOTER or length != _FOOTER.size - _HEAD.size or start > place:
            raise ValueError("footer")
        return start, checksum

    def _data_fits(self) -> bool:
        """Whether the checksum of all data fits, or there is none."""
        if not self._ends_well():
            return True  # it has not been written
        try:
            start, _ = self._footer()
            place = (start or self._size - len(MCAP0_MAGIC) - _FOOTER.size) - _DATA_END.size
            opcode, _, checksum = _DATA_END.unpack(self._bytes(place, _DATA_END.size))
            return opcode == Opcode.DATA_END and checksum in (0, self._crc(0, place))
        except _DAMAGE:
            return False

    # Chunks and records -------------------------------------------------------------------

    def _chunk(self, place: int, length: int, index: ChunkIndex | None = None) -> list[McapRecord]:
        """Records of the chunk whose record lies there; [] where it is damaged."""
        try:
            if length > self._size:
                raise ValueError("length")
            content = self._bytes(place, length)
            opcode, rest = _HEAD.unpack_from(content)
            if opcode != Opcode.CHUNK or rest != length - _HEAD.size:
                raise ValueError("it does not begin as a chunk does")
            chunk = Chunk.read(ReadDataStream(BytesIO(content[_HEAD.size :])))
            _check_size(chunk)
            return breakup_chunk(chunk, validate_crc=True)
        except Exception as error:  # each decompressor has errors of its own
            said = str(error) or type(error).__name__
            lost = "" if index is None else f"; what was recorded is lost: {_span(index)}"
            self._note(f"{self._name}: the chunk at byte {place} is damaged ({said}){lost}")
            return []

    def _in_order_of_the_file(self) -> Iterator[McapRecord]:
        place, chunked, fits = len(MCAP0_MAGIC), False, None
        if self._bytes(0, place) != MCAP0_MAGIC[: self._size]:
            self._note(f"{self._name}: does not begin as an MCAP file does")
        while place + _HEAD.size <= self._size:
            opcode, length = _HEAD.unpack(self._bytes(place, _HEAD.size))
            end = place + _HEAD.size + length
            if opcode in (Opcode.DATA_END, Opcode.FOOTER) and end <= self._size:
                return
            known = opcode == Opcode.CHUNK or 0 < opcode <= _LAST_STANDARD
            if end > self._size or not (known or opcode >= _FIRST_PRIVATE):
                found = self._next_chunk(place + 1)
                if found is not None or self._ends_well():  # else it is cut off, as was said
                    lost = "its end" if found is None else f"byte {found}"
                    self._note(f"{self._name}: damaged from byte {place} to {lost}")
                if found is None:
                    return
                place = found
                continue
            if opcode == Opcode.CHUNK:
                chunked = True
                yield from self._chunk(place, end - place)
            elif opcode == Opcode.MESSAGE and not chunked:
                fits = self._data_fits() if fits is None else fits
                if fits:
                    yield Message.read(ReadDataStream(BytesIO(self._content(place, end))), length)
                else:
                    self._note(f"{self._name}: its checksum does not fit; messages of it are lost")
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL) and not chunked:
                kind = Schema if opcode == Opcode.SCHEMA else Channel
                try:
                    yield kind.read(ReadDataStream(BytesIO(self._content(place, end))))
                except _DAMAGE:
                    self._note(f"{self._name}: the record at byte {place} is damaged")
            elif opcode == Opcode.MESSAGE or opcode >= _FIRST_PRIVATE:
                self._note(f"{self._name}: the record at byte {place} is of no known kind")
            place = end

    def _next_chunk(self, place: int) -> int | None:
        """Where the next whole chunk begins, from `place` on."""
        with mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for found in _CHUNK.finditer(content, place):
                length, records = (int.from_bytes(found[i], "little") for i in (1, 3))
                end = found.end() + records
                if found.start() + _HEAD.size + length == end <= self._size:
                    return found.start()
        return None

    def _content(self, place: int, end: int) -> bytes:
        return self._bytes(place + _HEAD.size, end - place - _HEAD.size)

    def _bytes(self, place: int, length: int) -> bytes:
        self._stream.seek(place)
        return self._stream.read(length)

    def _crc(self, start: int, end: int) -> int:
        checksum = 0
        self._stream.seek(start)
        while start < end:
            part = self._stream.read(min(2**20, end - start))
            if not part:
                raise EOFError
            checksum, start = zlib.crc32(part, checksum), start + len(part)
        return checksum


def _check_size(chunk: Chunk) -> None:
    """Raises:
    ValueError: the chunk does not say how large it becomes, or becomes another size.
    """
    size = chunk.uncompressed_size
    if size > _LARGEST:
        raise ValueError(f"{size} bytes")
    if chunk.compression == "zstd":
        said = zstandard.frame_content_size(chunk.data)
        if said not in (-1, size):
            raise ValueError(f"{said} bytes, {size} were expected")


def _span(index: ChunkIndex) -> str:
    """The time of a chunk, for people."""
    start_ns, end_ns = index.message_start_time, index.message_end_time
    return f"{(end_ns - start_ns) * 1e-9:.2f} s from stamp {start_ns * 1e-9:.3f} on"
