"""One bag per episode out of a stream of messages; no ROS needed."""

from __future__ import annotations

import logging
import zlib
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wm_planner.data.layouts import DROPPED
from wm_planner.errors import DatasetError, WriteError
from wm_planner.files import allocate, writing
from wm_planner.runtime.bag_writer import BagWriter

MAX_NAME = 200  # bytes; file systems take 255, endings and numbers follow
logger = logging.getLogger(__name__)


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
        compress: bags are compressed, message by message.

    Raises:
        DatasetError: a message or a name cannot be recorded.
        WriteError: `root_dir` cannot be made, or a bag cannot be written. After a failed write the
            recorder is idle: it can start the next episode, and `go_on` with this one.
    """

    def __init__(
        self, root_dir: Path | str, max_pending_bytes: int = 32 * 2**20, compress: bool = False
    ) -> None:
        self.root_dir, self._compress = Path(root_dir), compress
        self.max_pending_bytes = max_pending_bytes
        with writing(self.root_dir):
            self.root_dir.mkdir(parents=True, exist_ok=True)
        self.fault = ""  # why the last bag could not be written; '': it could, or there is room now
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
        path = self._free_path(name)
        self._started = (name, stamp_ns)
        self._writer = self._open(path)
        self._seen.clear()
        self._counts.clear()
        self._span_ns = None
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
            except WriteError as error:
                self._writer, self.fault = None, str(error)
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
        try:
            writer.close()
        except WriteError as error:
            self.fault = str(error)
            raise
        return writer.path

    def go_on(self, stamp_ns: int, notes: Sequence[Note] = ()) -> Path | None:
        """After a fault: go on with the running episode in a bag of its own.

        Call it now and then. It returns None where there is no room yet, or no episode runs.
        """
        if not self.fault or self._writer is not None or not self._has_room():
            return None
        self.fault = ""
        return None if self._started is None else self.start(self._started[0], stamp_ns, notes)

    def drop(self, path: Path) -> Path:
        """Move a closed bag to the directory 'dropped', and return its place there.

        Raises:
            DatasetError: it cannot be moved.
        """
        target = _free(self.root_dir / DROPPED / path.name)
        try:
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        except OSError as error:
            raise DatasetError(f"{path}: cannot be moved to {target}: {error.strerror}") from error
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
        except WriteError as error:
            self._writer, self.fault = None, str(error)
            raise

    def _open(self, path: Path) -> BagWriter:
        try:
            writer = BagWriter(path, self._compress)
        except WriteError as error:
            self.fault = str(error)
            raise
        self.fault = ""
        return writer

    def _has_room(self) -> bool:
        """Whether as much as is kept aside can be written."""
        probe = self.root_dir / ".room"
        try:
            with writing(probe):
                probe.touch()
            allocate(probe, self.max_pending_bytes)
        except WriteError:
            return False
        finally:
            with suppress(OSError):
                probe.unlink()
        return True

    def _free_path(self, name: str) -> Path:
        plain = Path(name).name == name and name.isprintable()
        if name in ("", ".", "..") or not plain or len(name.encode(errors="replace")) > MAX_NAME:
            raise DatasetError(
                f"episode name {name[:40]!r}: needs a plain name without '/', "
                f"of at most {MAX_NAME} bytes"
            )
        return _free(self.root_dir / name)


def _free(path: Path) -> Path:
    """`path`, or `path`_2, _3 ... when that is taken."""
    name, number = path.name, 2
    while path.exists():
        path, number = path.with_name(f"{name}_{number}"), number + 1
    return path
