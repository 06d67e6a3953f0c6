"""A rosbag2 directory (MCAP) that survives a crash and whose damage is seen; no ROS needed."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from contextlib import suppress
from pathlib import Path

from mcap.writer import MCAP0_MAGIC
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys import TypesysError

from wm_planner.data.bags import typestore
from wm_planner.errors import DatasetError, WriteError
from wm_planner.files import cannot_write, writing

# Half of the second that may be lost: the message that triggers a flush may itself come late.
FLUSH_NS = 500_000_000
_CHECKSUM = struct.Struct("<I")
_CHUNK_CHECKSUM_AT = 9 + 3 * 8  # behind the record's head, both times and the size
_FOOTER_BYTES = 9 + 20


class _CheckedMcap(McapWriter):
    """Each chunk and the index get their CRC-32, which the format has fields for."""

    def close_chunk(self) -> None:
        checksum, start = zlib.crc32(self.chunk.bio.getbuffer()), self.bio.tell()
        super().close_chunk()
        end = self.bio.tell()
        self.bio.seek(start + _CHUNK_CHECKSUM_AT)
        self.bio.write(_CHECKSUM.pack(checksum))
        self.bio.seek(end)

    def close(self, version: int, metadata: str) -> None:
        super().close(version, metadata)
        with self.path.open("r+b") as file:
            file.seek(-_FOOTER_BYTES - len(MCAP0_MAGIC), os.SEEK_END)
            footer = file.read(_FOOTER_BYTES - _CHECKSUM.size)
            place = file.tell()
            (start,) = struct.unpack_from("<Q", footer, 9)
            file.seek(start)
            checksum = zlib.crc32(file.read(place - start))
            file.seek(place)
            file.write(_CHECKSUM.pack(checksum))


class _CheckedWriter(Writer):
    """Writes bags whose damage is seen when they are read."""

    STORAGE_PLUGINS = {StoragePlugin.MCAP: _CheckedMcap}  # noqa: RUF012 - as the library has it


class BagWriter:
    """One rosbag2 directory, written from messages that are serialised (CDR) already.

    rosbags closes an MCAP chunk only after 1 MiB, which can be minutes of joint states, and
    leaves it in Python's file buffer. This writer closes the chunk and hands it to the operating
    system whenever the stamps have advanced by half a second. When stamps may stand still (a
    paused simulator), call `flush` once a second of wall time.

    Args:
        path: of the bag.
        compress: each message is packed by zstd, as rosbag2's mode 'message' does it.

    Raises:
        DatasetError: the directory exists, or holds what cannot be recorded, here and in every
            method.
        WriteError: it cannot be written. What was flushed before stays readable; a bag of which
            nothing was is removed.
    """

    def __init__(self, path: Path | str, compress: bool = False) -> None:
        self.path = Path(path)
        self._connections: dict[tuple[str, str], Connection] = {}
        self._unflushed_since_ns: int | None = None
        self._kept = False  # something of it is on the disk
        try:
            with writing(self.path):
                writer = _CheckedWriter(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
                if compress:
                    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
                writer.open()
        except WriterError as error:
            raise DatasetError(f"{self.path}: cannot create the bag: {error}") from error
        self._writer: Writer | None = writer

    def write(self, topic: str, msgtype: str, data: bytes, stamp_ns: int) -> None:
        """Append one message.

        Args:
            topic: topic name.
            msgtype: 'package/msg/Name'.
            data: CDR bytes, as rclpy.serialization.serialize_message gives them.
            stamp_ns: time of the message.
        """
        writer = self._open_writer()
        connection = self._connections.get((topic, msgtype))
        if connection is None:
            connection = self._connect(writer, topic, msgtype)
        try:
            writer.write(connection, stamp_ns, data)
        except OSError as error:
            raise self._failed(error) from error
        if self._unflushed_since_ns is None:
            self._unflushed_since_ns = stamp_ns
        # abs: a clock that moved backwards must not postpone the flush.
        if abs(stamp_ns - self._unflushed_since_ns) >= FLUSH_NS:
            self.flush()

    def flush(self) -> None:
        """Make everything written so far readable after a kill."""
        storage = self._open_writer().storage
        assert storage is not None
        try:
            if self._unflushed_since_ns is not None:
                storage.close_chunk()  # type: ignore[attr-defined]
            storage.bio.flush()  # type: ignore[attr-defined]
        except OSError as error:
            raise self._failed(error) from error
        self._kept = self._kept or self._unflushed_since_ns is not None
        self._unflushed_since_ns = None

    def close(self) -> None:
        """Write the index and metadata.yaml. A second call does nothing."""
        if self._writer is None:
            return
        try:
            self._writer.close()
        except OSError as error:
            raise self._failed(error) from error
        self._writer = None

    def _connect(self, writer: Writer, topic: str, msgtype: str) -> Connection:
        try:
            connection = writer.add_connection(topic, msgtype, typestore=typestore())
        except (TypesysError, WriterError) as error:
            raise DatasetError(
                f"{self.path}: topic {topic}: message type {msgtype} cannot be recorded: {error}"
            ) from error
        self._connections[topic, msgtype] = connection
        return connection

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise DatasetError(f"{self.path}: the bag is closed")
        return self._writer

    def _failed(self, error: OSError) -> WriteError:
        """Give up without an index: what was flushed stays readable as a stream."""
        writer, self._writer = self._writer, None
        text = cannot_write(self.path, error)
        if writer is not None:
            with suppress(OSError):
                writer.abort()
        if self._kept:
            return WriteError(f"{text}. The bag ends here, what was recorded before is kept")
        shutil.rmtree(self.path, ignore_errors=True)
        return WriteError(f"{text}. Nothing was recorded")
