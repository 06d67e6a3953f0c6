"""Files that are whole or not there; text and JSON whose errors name the file and the place in it.

What is read is bounded first: a pipe, a device or a file without end is refused, not waited for.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wm_planner.errors import ConfigError, WmPlannerError, WriteError

# What has nothing to do with room on the disk.
_NOT_ALLOWED = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP),
}


@contextmanager
def writing(file: Path, size: int | None = None) -> Iterator[None]:
    """What the system says against writing in the block is said of `file`, on one line.

    Args:
        file: file or directory that is written.
        size: bytes that it will have; None: nobody knows.

    Raises:
        WriteError: in place of an OSError that belongs to `file` or to no file.
    """
    try:
        yield
    except OSError as error:
        named = None if error.filename is None else _meant(Path(os.fsdecode(error.filename)))
        if named is not None and _meant(file) not in (named, *named.parents):
            raise  # it is of another file, which is named already
        raise WriteError(cannot_write(file, error, size)) from error


def cannot_write(file: Path, error: OSError, size: int | None = None) -> str:
    """Why a file cannot be written, how many bytes are missing, and what to do."""
    said = error.strerror or next(iter(str(error).splitlines()), type(error).__name__)
    text = f"{_meant(file)}: cannot be written: {said}"
    if error.errno in _NOT_ALLOWED:
        return f"{text}; choose another place"
    free = _free_bytes(file)
    if size is not None:
        text += f": it needs {size:,} bytes"
        if free is not None and free < size:
            text += f", {size - free:,} more than are free"
    elif free is not None:
        text += f": {free:,} bytes are free"
    return f"{text}; make room there, or choose another place"


def allocate(file: Path, size: int) -> None:
    """Take `size` bytes of the disk for a file, in whole; what it holds stays.

    A memory map of a file that the disk has no room for ends the process (SIGBUS) when it is
    written; what was allocated can be written. On disks that copy what is changed (btrfs, ZFS)
    nobody can promise that.

    Raises:
        WriteError: there is no room, or it cannot be written.
    """
    with writing(file, size), file.open("ab") as stream:
        before = os.fstat(stream.fileno()).st_size
        try:
            _take_room(stream.fileno(), size)
        except OSError:
            os.truncate(file, before)  # gives back what was taken: the message says what is free
            raise


MAX_JSON = 1 << 26  # bytes; the indices of the largest data sets have a few millions


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` for a file, link or directory, which then takes its place.

    A reader finds what was there before or the whole of the new one. After an error, what was
    written is removed. A directory does not take the place of one that holds something.

    Raises:
        WriteError: it cannot be written.
    """
    part = path.with_name(f".part{os.getpid()}.{path.name}")  # its ending tells its format
    _remove(part)
    try:
        with writing(path):
            yield part
            part.replace(path)
    finally:
        _remove(part)


def write_bytes(file: Path, content: bytes | memoryview) -> None:
    """Write a file aside, onto the disk itself, and rename it; a device or pipe is written to.

    Raises:
        WriteError: it cannot be written; what was there before stays.
    """
    if file.is_symlink():
        file = file.resolve()
    if file.exists() and not file.is_file():
        with writing(file):
            file.write_bytes(content)
        return
    with written_aside(file) as part, writing(file, len(content)):
        with part.open("wb") as stream:
            _take_room(stream.fileno(), len(content))
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())


def write_text(file: Path, content: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(file, content.encode())


def write_json(file: Path, content: Any, end: str = "\n") -> None:
    """Write an object, indented, as `write_bytes` does."""
    write_text(file, json.dumps(content, indent=2) + end)


def append_line(file: Path, line: str) -> None:
    """Append a line of text, whole or not at all.

    Raises:
        WriteError: it cannot be written; the file is as it was.
    """
    with writing(file), file.open("ab", buffering=0) as stream:
        before, content = stream.tell(), (line + "\n").encode()
        try:
            while content:
                content = content[stream.write(content) :]
        except OSError:
            os.truncate(file, before)
            raise


def check_regular(
    file: Path, error: type[WmPlannerError] = ConfigError, most: int | None = None
) -> None:
    """Raises:
    WmPlannerError: of the kind `error`: there is no such file, it is a directory, a pipe or a
        device, or it has more than `most` bytes.
    """
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise error(f"{file}: no such file") from cause
    except (OSError, ValueError) as cause:  # a ValueError: a name that no file can have
        raise error(f"{file}: cannot be read: {_reason(cause)}") from cause
    if not stat.S_ISREG(found.st_mode):
        what = "is a directory" if stat.S_ISDIR(found.st_mode) else "is a pipe or a device"
        raise error(f"{file}: {what}; a file is needed")
    if most is not None and found.st_size > most:
        raise error(f"{file}: has {found.st_size} bytes; at most {most} are read")


def read_bytes(file: Path, most: int, error: type[WmPlannerError] = ConfigError) -> bytes:
    """The content of a file of at most `most` bytes.

    Raises:
        WmPlannerError: see `check_regular`; or it cannot be read.
    """
    check_regular(file, error, most)
    try:
        with file.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as cause:
        raise error(f"{file}: cannot be read: {_reason(cause)}") from cause
    if len(content) > most:  # files of /proc do not tell their size
        raise error(f"{file}: has more than {most} bytes, which is the most that is read")
    return content


def read_text(file: Path, most: int = MAX_JSON, error: type[WmPlannerError] = ConfigError) -> str:
    """The UTF-8 text of a file, without a byte order mark.

    Raises:
        WmPlannerError: see `read_bytes`; or it is not UTF-8.
    """
    try:
        return read_bytes(file, most, error).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{file}: cannot be read: {cause}") from cause


def read_json(file: Path, error: type[WmPlannerError] = ConfigError, way_out: str = "") -> Any:
    """The content of a JSON file.

    Args:
        file: to read.
        error: is raised when that is impossible.
        way_out: what to do then, for the end of the message.
    """
    try:
        text = read_text(file, error=error)
    except error as cause:
        raise error(f"{cause}{way_out and '; '}{way_out}") from cause
    return parse_json(text, str(file), error, way_out)


def parse_json(
    text: str, source: str, error: type[WmPlannerError] = ConfigError, way_out: str = ""
) -> Any:
    """The content of JSON text; `source` names it in errors, the other arguments as `read_json`.

    Two equal keys of one object are an error, and so is text that no name or path can have.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        if "\\u" in text:
            _check_writable(value)
    except (ValueError, RecursionError) as cause:
        raise error(f"{source}: not valid JSON: {cause}{way_out and '; '}{way_out}") from cause
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key '{twice}' stands more than once; remove all but one")
    return content


def _check_writable(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    if re.search("[\ud800-\udfff]", text) or "\\u0000" in text:
        raise ValueError("a character that no name or path can have")


def _reason(cause: Exception) -> str:
    return getattr(cause, "strerror", None) or str(cause)


def _meant(path: Path) -> Path:
    """The path that one given by `written_aside`, or one in it, will have."""
    own = f".part{os.getpid()}."
    return Path(*(part.removeprefix(own) for part in path.parts))


def _take_room(descriptor: int, size: int) -> None:
    if size and hasattr(os, "posix_fallocate"):  # macOS has none
        os.posix_fallocate(descriptor, 0, size)


def _free_bytes(path: Path) -> int | None:
    """Bytes that this user may still write where `path` is or will be; None: nobody says."""
    for place in (path, *path.absolute().parents):
        with suppress(OSError):
            disk = os.statvfs(place)
            return disk.f_bavail * disk.f_frsize
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # there is none, or its place cannot be written at all
            path.unlink()
