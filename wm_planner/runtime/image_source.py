"""Images from a device, a video file or a stream."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wm_planner.errors import ImageSourceError


class ImageSource:
    """RGB images out of an opened OpenCV capture; use `open_source` to make one.

    Args:
        capture: opened capture.
        uri: what it was opened from, for messages.
        loop: start a file again at its end.
        is_file: a read without an image is the end, not a failure.
    """

    def __init__(
        self, capture: cv2.VideoCapture | _AvCapture, uri: str, loop: bool, is_file: bool
    ) -> None:
        self.uri = uri
        self._capture = capture
        self._loop = loop
        self._is_file = is_file

    def read(self) -> np.ndarray | None:
        """The next (H, W, 3) uint8 RGB image, or None at the end of a file that does not loop.

        Raises:
            ImageSourceError: the device or stream stopped.
        """
        ok, image = self._capture.read()
        if not ok and self._is_file and self._loop:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            ok, image = self._capture.read()
            if not ok:
                raise ImageSourceError(f"{self.uri}: cannot start again from the first image")
        if not ok or image is None:
            if self._is_file:
                return None
            raise ImageSourceError(f"{self.uri}: no image; is the camera or stream still there?")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Release the device or file."""
        self._capture.release()


def open_source(uri: str, loop: bool = False) -> ImageSource:
    """Open 'device:0', 'device:/dev/video2', 'file:clip.mp4', a path, or 'rtsp://...'.

    Args:
        uri: what to open.
        loop: start a video file again at its end.

    Raises:
        ImageSourceError: it does not exist or holds no readable image.
    """
    kind, _, rest = uri.partition(":")
    if kind == "device":
        return _open_device(uri, rest)
    if "://" in uri and kind != "file":
        capture = cv2.VideoCapture(uri)
        if not capture.isOpened():
            raise ImageSourceError(
                f"{uri}: cannot open the stream; check the address and the network"
            )
        return ImageSource(capture, uri, loop, is_file=False)
    path = Path(rest.removeprefix("//") if kind == "file" else uri)
    if not path.is_file():
        raise ImageSourceError(
            f"{uri}: no such file; use 'device:0', 'file:clip.mp4' or 'rtsp://host/stream'"
        )
    return ImageSource(_open_file(uri, path), uri, loop, is_file=True)


def _open_file(uri: str, path: Path) -> cv2.VideoCapture | _AvCapture:
    """By OpenCV; by PyAV where OpenCV opens a file whose codec it cannot decode, such as AV1."""
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ImageSourceError(f"{uri}: not a video that OpenCV can read")
    decodes = capture.read()[0]
    codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode(errors="replace")
    capture.release()
    if decodes:
        return cv2.VideoCapture(str(path))
    try:
        other = _AvCapture(path, uri)
    except ImportError as error:
        raise ImageSourceError(
            f"{uri}: OpenCV cannot decode its codec '{codec}'; install PyAV (pip install av), or "
            f"convert it: ffmpeg -i {path.name} -c:v libx264 converted.mp4"
        ) from error
    if not other.read()[0]:
        other.release()
        raise ImageSourceError(
            f"{uri}: no picture of its codec '{codec}' can be decoded; copy the file again"
        )
    other.set(cv2.CAP_PROP_POS_FRAMES, 0)
    return other


class _AvCapture:
    """What `ImageSource` asks of an OpenCV capture, done by PyAV."""

    def __init__(self, path: Path, uri: str) -> None:
        self._path, self._uri = path, uri
        self._open()

    def _open(self) -> None:
        import av  # here alone: OpenCV decodes what most cameras record

        from wm_planner.data.video import DEMUXERS

        # By its name, not by its content, which may name other files or addresses.
        kind = DEMUXERS.get(self._path.suffix.lower())
        try:
            self._container = av.open(str(self._path.absolute()), format=kind)
            self._frames = iter(self._container.decode(video=0))
        except (av.FFmpegError, OSError, IndexError) as error:
            raise ImageSourceError(f"{self._uri}: not a readable video ({error})") from error

    def read(self) -> tuple[bool, np.ndarray | None]:
        """(whether there is one, (H, W, 3) uint8 BGR)."""
        import av

        try:
            return True, next(self._frames).to_ndarray(format="bgr24")
        except StopIteration:
            return False, None
        except (av.FFmpegError, OSError) as error:
            raise ImageSourceError(f"{self._uri}: damaged from here on ({error})") from error

    def set(self, what: int, value: float) -> bool:
        """Begin again at the first frame."""
        self.release()
        self._open()
        return True

    def release(self) -> None:
        """Close the file."""
        self._container.close()


def _open_device(uri: str, name: str) -> ImageSource:
    path = Path(f"/dev/video{name}") if name.isdigit() else Path(name)
    if not path.exists():
        found = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        raise ImageSourceError(f"{uri}: no device {path}. Devices here: {found}.")
    capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
    if not capture.isOpened():
        raise ImageSourceError(f"{uri}: {path} is no camera, is in use, or may not be read")
    # One image of driver queue: an older one is worth nothing to a controller.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return ImageSource(capture, uri, loop=False, is_file=False)
