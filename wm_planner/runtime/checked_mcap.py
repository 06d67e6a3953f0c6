"""The MCAP storage of rosbags, with the checksums that it leaves out."""

from __future__ import annotations

import os
import struct
import zlib

from mcap.writer import MCAP0_MAGIC
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter

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


class CheckedWriter(Writer):
    """Writes bags whose damage is seen when they are read."""

    STORAGE_PLUGINS = {StoragePlugin.MCAP: _CheckedMcap}  # noqa: RUF012 - as the library has it
