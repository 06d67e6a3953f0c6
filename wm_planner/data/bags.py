"""The messages of rosbag2 recordings, complete or damaged, without ROS.

MCAP and SQLite files, compressed or not, split or not, with metadata.yaml or without. What is
whole is read; what is not is said in `Bag.damage`.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import yaml
import zstandard
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from wm_planner.data.layouts import BAG_ENDINGS, BAG_METADATA, DROPPED
from wm_planner.data.mcap_file import McapFile
from wm_planner.data.sqlite_file import sqlite_messages
from wm_planner.errors import DatasetError

_LARGEST = 2**30  # bytes of a message that was compressed alone
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


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
        self._checked: frozenset[str] = frozenset()  # files looked through for damage

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
            DatasetError: there is no bag, or no room to unpack it.
        """
        for file in self.files():
            try:
                plain = self._decompressed(file)
                read = self._mcap if plain.suffix == ".mcap" else self._sqlite
                yield from read(plain, file.name, topics)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise DatasetError(
                        f"{file}: cannot be unpacked into {gettempdir()}: {error.strerror}; set "
                        "TMPDIR to a folder with more room"
                    ) from error
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
            content = yaml.load(file.read_text(), getattr(yaml, "CBaseLoader", yaml.BaseLoader))
            paths = content["rosbag2_bagfile_information"]["relative_file_paths"]
            return [PurePath(path).name for path in paths]
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, RecursionError) as error:
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
        with file.open("rb") as stream:
            for schema, channel, message in McapFile(stream, name, self._note).messages():
                if channel.message_encoding != "cdr":
                    self._note(
                        f"{name}: topic {channel.topic} has the encoding "
                        f"'{channel.message_encoding}', not cdr"
                    )
                elif topics is None or channel.topic in topics:
                    text = schema.data.decode(errors="replace")
                    data = _unzipped(message.data)
                    yield BagMessage(channel.topic, schema.name, message.log_time, data, text)

    def _sqlite(
        self, file: Path, name: str, topics: Collection[str] | None
    ) -> Iterator[BagMessage]:
        first, self._checked = name not in self._checked, self._checked | {name}
        for row in sqlite_messages(file, name, topics, self._note, first):
            data = _unzipped(row.data)
            yield BagMessage(row.topic, row.msgtype, row.stamp_ns, data, row.definition)


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
        if zstandard.frame_content_size(data) > _LARGEST:
            return b""
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError:
        return b""  # its decoding fails, and is named
