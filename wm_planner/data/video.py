"""Frames of a video file, of any codec that FFmpeg decodes (H.264, AV1, ...), picked exactly.

OpenCV opens AV1 and cannot decode it everywhere, and says nothing of the times of frames. PyAV does
both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wm_planner.errors import DatasetError

if TYPE_CHECKING:
    from av.container import InputContainer

# FFmpeg chooses how to read a file by its content: a text file may name other files or addresses.
# A file is therefore read as what its name says, and as nothing else.
DEMUXERS = {
    **dict.fromkeys((".mp4", ".mov", ".m4v"), "mov"),
    **dict.fromkeys((".mkv", ".webm"), "matroska"),
    ".avi": "avi",
}
MAX_PIXELS = 2**26  # of a picture, here and in image files: 8192 x 8192
MAX_FRAMES = 10_000_000
# Frames by which a seek is repeated earlier where the keyframe that it found comes too late.
RETREATS = (0, 32, MAX_FRAMES)


class Video:
    """The index of one video; pictures are decoded when they are asked for.

    Args:
        file: read once, without decoding, for the times of its frames.

    Attributes:
        times: (N,) seconds, ascending: when each frame is shown.

    Raises:
        DatasetError: missing, damaged, without a picture, or larger than any camera's.
        ModuleNotFoundError: PyAV is not installed.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with self._opened() as container:
            stream = container.streams.video[0]
            stamps = []
            for packet in container.demux(stream):
                # What an edit list cuts away is decoded, since others build on it, but not shown.
                if packet.pts is not None and not packet.is_discard:
                    stamps.append(packet.pts)
                if len(stamps) > MAX_FRAMES:
                    raise DatasetError(f"{file}: more than {MAX_FRAMES} frames; split the video")
            self._stamps = np.unique(np.array(stamps, np.int64))
            self.times = self._stamps * float(stream.time_base or 0)
        if not len(self.times):
            raise DatasetError(f"{file}: holds no frame; copy the file again")

    def pictures(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 RGB of the frames with these numbers.

        Args:
            numbers: at least one, ascending, each below N; decoded is what lies between them, and
                what lies between the first and the keyframe before it.

        Raises:
            DatasetError: a frame cannot be decoded.
        """
        wanted = self._stamps[np.asarray(numbers)].tolist()
        for retreat in RETREATS:
            given = 0
            target = int(self._stamps[max(0, numbers[0] - retreat)])
            with self._opened() as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                container.seek(target, stream=stream, backward=True)
                for frame in container.decode(stream):
                    if frame.pts is None or frame.pts < wanted[given]:
                        continue
                    if frame.pts > wanted[given]:
                        break  # the seek came out too late, or the frame is lost
                    if frame.width * frame.height > MAX_PIXELS:  # it may change on the way
                        raise DatasetError(
                            f"{self.file}: a frame of {frame.width}x{frame.height} pixels; "
                            "convert it"
                        )
                    yield frame.to_ndarray(format="rgb24")
                    given += 1
                    if given == len(wanted):
                        return
            if given:
                break
        lost = numbers[given]
        raise DatasetError(
            f"{self.file}: frame {lost} ({self.times[lost]:.3f} s) cannot be decoded; copy the "
            "file again"
        )

    @contextmanager
    def _opened(self) -> Iterator[InputContainer]:
        import av  # here alone: whoever reads no video does without it

        demuxer = DEMUXERS.get(self.file.suffix.lower())
        if demuxer is None:
            raise DatasetError(
                f"{self.file}: videos are read from {', '.join(DEMUXERS)} files; convert it"
            )
        with (
            readable(self.file, "not a readable video", av.FFmpegError, OSError, ValueError),
            # An absolute path cannot be taken for an address ("http:...").
            av.open(os.path.abspath(self.file), format=demuxer) as container,
        ):
            if not container.streams.video:
                raise DatasetError(f"{self.file}: holds no video stream; copy the file again")
            codec = container.streams.video[0].codec_context
            if codec is None:
                raise DatasetError(
                    f"{self.file}: a video of a codec that cannot be decoded here; convert it to "
                    "H.264 or AV1, or copy the file again"
                )
            if codec.width * codec.height > MAX_PIXELS:
                raise DatasetError(
                    f"{self.file}: frames of {codec.width}x{codec.height} pixels are larger than "
                    f"{MAX_PIXELS} pixels; convert it"
                )
            yield container


@contextmanager
def readable(file: Path, what: str, *causes: type[Exception]) -> Iterator[None]:
    """Errors of these kinds in the block become one that says what is wrong and what to do.

    Raises:
        DatasetError: in place of `causes`; `what` says of the file what it is not.
    """
    try:
        yield
    except causes as error:
        raise DatasetError(f"{file}: {what} ({reason(error)}); {advice(file)}") from error


def reason(error: Exception) -> str:
    """What a library says of a file, on one line."""
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def one_line(text: str) -> str:
    """Text out of a file, for an error message: without line breaks and the like."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def advice(file: Path) -> str:
    """What to do about a file that cannot be read, for the end of an error message."""
    try:
        with file.open("rb") as stream:
            if stream.read(32).startswith(b"version https://git-lfs"):
                return "it is a Git LFS pointer: run 'git lfs pull' in the data set's folder"
    except OSError:
        return "the file is missing: download the data set again"
    return "copy or download the file again"
