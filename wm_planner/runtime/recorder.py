"""Write rosbag2 directories (MCAP) that survive a crash: one bag per episode, no ROS needed."""

from __future__ import annotations

import logging
import shutil
import zlib
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import TypesysError

from wm_planner.data.bags import typestore
from wm_planner.data.layouts import DROPPED
from wm_planner.errors import DatasetError
from wm_planner.runtime.checked_mcap import CheckedWriter

logger = logging.getLogger(__name__)

# Half of the second that may be lost: the message that triggers a flush may itself come late.
FLUSH_NS = 500_000_000


class BagWriter:
    """One rosbag2 directory, written from messages that are serialised (CDR) already.

    rosbags closes an MCAP chunk only after 1 MiB, which can be minutes of joint states, and
    leaves it in Python's file buffer. This writer closes the chunk and hands it to the operating
    system whenever the stamps have advanced by half a second. When stamps may stand still (a
    paused simulator), call `flush` once a second of wall time.

    Raises:
        DatasetError: the directory exists or cannot be written, here and in every method.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._connections: dict[tuple[str, str], Connection] = {}
        self._unflushed_since_ns: int | None = None
        try:
            writer = CheckedWriter(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
            writer.open()
        except (OSError, WriterError) as error:
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

    def _failed(self, error: OSError) -> DatasetError:
        """Give up without an index: what was flushed stays readable as a stream."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):
                writer.abort()
        return DatasetError(f"{self.path}: writing failed: {error}; the bag ends here")


@dataclass(frozen=True)
class Note:
    """A message.

    Attributes:
        topic: topic name.
        msgtype: 'package/msg/Name'.
        data: CDR bytes.
    """

    topic: str
    msgtype: str
    data: bytes


class EpisodeRecorder:
    """One bag per episode out of a stream of messages.

    Topics arrive in no particular order, so the newest messages are kept aside all the time and
    `start` writes those from its stamp on. Call `end` a moment after the event that ended the
    episode: messages of other topics may still be on their way.

    A message that is published again (same topic, stamp and content) is written once.

    Args:
        root_dir: directory that receives the bags; made when missing.
        max_pending_bytes: bound of what is kept aside; the oldest go first.

    Raises:
        DatasetError: `root_dir` cannot be made, or a bag cannot be written. After a failed write
            the recorder is idle and can start the next episode.
    """

    def __init__(self, root_dir: Path | str, max_pending_bytes: int = 32 * 2**20) -> None:
        self.root_dir = Path(root_dir)
        self.max_pending_bytes = max_pending_bytes
        try:
            self.root_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(f"{self.root_dir}: cannot make the directory: {error}") from error
        self._pending: deque[tuple[int, Note]] = deque()  # by stamp
        self._pending_bytes = 0
        self._writer: BagWriter | None = None
        self._seen: set[tuple[str, int, int]] = set()
        self._started: tuple[str, int] | None = None
        self._last_ns: int | None = None
        self._counts: Counter[str] = Counter()
        self._span_ns: tuple[int, int] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Messages by topic in the bag being written, or else in the last one."""
        return dict(self._counts)

    @property
    def seconds(self) -> float:
        """From the first to the last message of the bag being written, or else of the last one."""
        return 0.0 if self._span_ns is None else (self._span_ns[1] - self._span_ns[0]) * 1e-9

    @property
    def recording(self) -> bool:
        """True between `start` and `end`."""
        return self._writer is not None

    @property
    def path(self) -> Path | None:
        """The bag being written, or None."""
        return None if self._writer is None else self._writer.path

    def start(self, name: str, stamp_ns: int, notes: Sequence[Note] = ()) -> Path:
        """Open the bag `name` (a free number is appended when taken) and return its path.

        It begins with `notes`, which happen when the episode does. A repeated start of the running
        episode does nothing; another one ends the running first.
        """
        if self._writer is not None:
            if self._started == (name, stamp_ns):
                return self._writer.path
            logger.warning("%s: no end of the episode was seen", self._writer.path)
            self.end(stamp_ns - 1)
        self._writer = BagWriter(self._free_path(name))
        self._started = (name, stamp_ns)
        self._seen.clear()
        self._counts.clear()
        self._span_ns = None
        path = self._writer.path
        for note in notes:
            self._write(stamp_ns, note)
        for message_ns, message in sorted(self._pending, key=lambda pending: pending[0]):
            if message_ns >= stamp_ns:
                self._write(message_ns, message)
        return path

    def add(self, topic: str, msgtype: str, data: bytes, stamp_ns: int) -> None:
        """Take one message: into the open bag, and aside for an episode about to start."""
        message = Note(topic, msgtype, data)
        self._pending.append((stamp_ns, message))
        self._pending_bytes += len(data)
        while self._pending_bytes > self.max_pending_bytes:
            self._pending_bytes -= len(self._pending.popleft()[1].data)
        if self._writer is not None:
            self._write(stamp_ns, message)

    def expect_end(self, stamp_ns: int) -> None:
        """Later messages belong to no or the next episode; `end` follows when all have come."""
        self._last_ns = stamp_ns

    def flush(self) -> None:
        """Make the open bag safe against a kill; call it once a second of wall time."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except DatasetError:
                self._writer = None
                raise

    def end(self, stamp_ns: int) -> Path | None:
        """Close the bag and return its path; None when no episode was running.

        Messages up to `stamp_ns` will not be written to a later bag.
        """
        writer, self._writer = self._writer, None
        self._started = self._last_ns = None
        self._pending = deque(pending for pending in self._pending if pending[0] > stamp_ns)
        self._pending_bytes = sum(len(message.data) for _, message in self._pending)
        if writer is None:
            return None
        writer.close()
        return writer.path

    def drop(self, path: Path) -> Path:
        """Move a closed bag to the directory 'dropped', and return its place there.

        Raises:
            DatasetError: it cannot be moved.
        """
        target = _free(self.root_dir / DROPPED / path.name)
        try:
            target.parent.mkdir(exist_ok=True)
            shutil.move(path, target)
        except OSError as error:
            raise DatasetError(f"{path}: cannot be moved to {target}: {error}") from error
        return target

    def free_number(self) -> int:
        """The first number from which on no bag here is called 'episode_<number>'."""
        taken = [-1]
        for directory in (self.root_dir, self.root_dir / DROPPED):
            for path in directory.glob("episode_*"):
                number = path.name.split("_")[1]
                if number.isdecimal():
                    taken.append(int(number))
        return max(taken) + 1

    def _write(self, stamp_ns: int, message: Note) -> None:
        # The content counts too: two nodes may report on /diagnostics at the same stamp.
        key = (message.topic, stamp_ns, zlib.crc32(message.data))
        early = self._started is not None and stamp_ns < self._started[1]
        late = self._last_ns is not None and stamp_ns > self._last_ns
        if self._writer is None or key in self._seen or early or late:
            return
        self._seen.add(key)
        first, last = self._span_ns or (stamp_ns, stamp_ns)
        self._span_ns = (min(first, stamp_ns), max(last, stamp_ns))
        self._counts[message.topic] += 1
        try:
            self._writer.write(message.topic, message.msgtype, message.data, stamp_ns)
        except DatasetError:
            with suppress(DatasetError):
                self._writer.close()
            self._writer = None
            raise

    def _free_path(self, name: str) -> Path:
        plain = Path(name).name == name and name.isprintable() and len(name) <= 200
        if name in ("", ".", "..") or not plain:
            raise DatasetError(
                f"episode name {name[:40]!r}: needs a plain name without '/', "
                "of at most 200 letters"
            )
        return _free(self.root_dir / name)


def _free(path: Path) -> Path:
    """`path`, or `path`_2, _3 ... when that is taken."""
    name, number = path.name, 2
    while path.exists():
        path, number = path.with_name(f"{name}_{number}"), number + 1
    return path
