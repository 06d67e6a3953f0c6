"""Decoding of picture messages to RGB, raw and compressed.

A message may come from rclpy or from a bag that rosbags has read: only the names of its fields are
used, so this module needs neither.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from wm_planner.config import suggest
from wm_planner.errors import ImageSourceError

# Interleaved encodings: channels, bytes per channel, and how they become RGB: a tuple of channels,
# or the name of a conversion of OpenCV. What has no order of its own (8UC3, 16UC3) has that of
# OpenCV, as cv_bridge writes it. 'yuv422' is UYVY by the definition of sensor_msgs.
_GREY, _RGB, _BGR = (0, 0, 0), (0, 1, 2), (2, 1, 0)
_INTERLEAVED: dict[str, tuple[int, int, Any]] = {
    "rgb8": (3, 1, _RGB),
    "rgba8": (4, 1, _RGB),
    **dict.fromkeys(("bgr8", "8UC3"), (3, 1, _BGR)),
    **dict.fromkeys(("bgra8", "8UC4"), (4, 1, _BGR)),
    **dict.fromkeys(("mono8", "8UC1"), (1, 1, _GREY)),
    "rgb16": (3, 2, _RGB),
    "rgba16": (4, 2, _RGB),
    **dict.fromkeys(("bgr16", "16UC3"), (3, 2, _BGR)),
    "bgra16": (4, 2, _BGR),
    **dict.fromkeys(("mono16", "16UC1"), (1, 2, _GREY)),
    **dict.fromkeys(("yuv422", "uyvy"), (2, 1, "COLOR_YUV2RGB_UYVY")),
    **dict.fromkeys(("yuv422_yuy2", "yuyv", "yuy2"), (2, 1, "COLOR_YUV2RGB_YUYV")),
    **{
        f"bayer_{order}{8 * size}": (1, size, f"COLOR_Bayer{order.upper()}2RGB")
        for order in ("rggb", "bggr", "gbrg", "grbg")
        for size in (1, 2)
    },
}
# A plane of brightness, and below it a plane of colour whose two channels are side by side.
_PLANAR = {
    "nv12": "COLOR_YUV2RGB_NV12",
    "nv21": "COLOR_YUV2RGB_NV21",
    "nv24": "COLOR_YUV2RGB_NV12",
}
MAX_PIXELS = 64 * 2**20  # of a picture: 8192 x 8192
ENCODINGS = (*_INTERLEAVED, *_PLANAR)
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_TAIL = 64  # bytes that a driver may add behind the end of a picture, beside zeros
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that hold the size
_BY_LOWER = {name.lower(): name for name in ENCODINGS}


def image_array(message: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a sensor_msgs/Image or CompressedImage.

    'rgb8' and 'rgba8' are views of the message's bytes. Of 16 bits the upper 8 are taken.

    Raises:
        ImageSourceError: the encoding is not known, the bytes are not such a picture, or it has
            more than `MAX_PIXELS`.
    """
    if not hasattr(message, "encoding"):
        return _decompressed(message)
    encoding = _BY_LOWER.get(str(message.encoding).lower())
    if encoding is None:
        return _bridged(message)
    if int(message.height) < 1 or int(message.width) < 1:
        raise ImageSourceError(
            f"image of {message.width} x {message.height} '{encoding}' has no pixels"
        )
    _check_pixels(int(message.width), int(message.height))
    return _planar(message, encoding) if encoding in _PLANAR else _plain(message, encoding)


def _plain(message: Any, encoding: str) -> np.ndarray:
    channels, size, conversion = _INTERLEAVED[encoding]
    height, width = int(message.height), int(message.width)
    rows = _bytes(message, encoding, height, channels * size)
    if size == 2:
        order = ">u2" if message.is_bigendian else "<u2"
        rows = np.ascontiguousarray(rows).view(order)
    pixels = rows.reshape(height, width, channels)
    if not isinstance(conversion, tuple):
        pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
        pixels = _converted(message, pixels[:, :, 0] if channels == 1 else pixels, conversion)
    elif conversion == _GREY:
        pixels = np.repeat(pixels, 3, axis=2)
    else:
        pixels = pixels[:, :, :3] if conversion == _RGB else pixels[:, :, list(conversion)]
    return (pixels >> 8).astype(np.uint8) if size == 2 else pixels


def _planar(message: Any, encoding: str) -> np.ndarray:
    height, width = int(message.height), int(message.width)
    # Rows of a step each, of both planes.
    count = 3 * height if encoding == "nv24" else height + (height + 1) // 2
    rows = _bytes(message, encoding, count, 1)
    if encoding == "nv24":  # colour for every pixel: every second one is enough, as in nv12
        step = int(message.step) or width
        colour = np.frombuffer(message.data, np.uint8)[height * step : 3 * height * step]
        colour = colour.reshape(height, 2 * step)[::2, : 2 * width].reshape(-1, width, 2)[:, ::2]
        rows = np.concatenate([rows[:height], colour.reshape(-1, width)])
    return _converted(message, np.ascontiguousarray(rows), _PLANAR[encoding])


def _converted(message: Any, pixels: np.ndarray, conversion: str) -> np.ndarray:
    import cv2  # where it is needed: rgb8 and bgr8 do without it

    try:
        return cv2.cvtColor(pixels, getattr(cv2, conversion))
    except cv2.error as error:  # for example an odd width where pixels share their colour
        raise ImageSourceError(
            f"image of {message.width} x {message.height} '{message.encoding}' cannot be "
            f"converted: {error.err}"
        ) from error


def _bytes(message: Any, encoding: str, rows: int, size: int) -> np.ndarray:
    """(rows, width * size) uint8, without the padding at the end of each row."""
    needed = int(message.width) * size
    step = int(message.step) or needed  # some drivers leave it at 0
    data = np.frombuffer(message.data, np.uint8)
    if step < needed or data.size < rows * step:
        raise ImageSourceError(
            f"image of {message.width} x {message.height} '{encoding}' needs {rows} rows of "
            f"{needed} bytes, got step {message.step} and {data.size} bytes"
        )
    return data[: rows * step].reshape(rows, step)[:, :needed]


def _decompressed(message: Any) -> np.ndarray:
    import cv2

    _check_compressed(message)
    _check_pixels(*_compressed_size(message.data))
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(message.data, np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None:
        raise ImageSourceError(
            f"compressed image of format '{message.format}' ({len(message.data)} bytes) cannot be "
            "decoded"
        )
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _check_compressed(message: Any) -> None:
    """A look at both ends: a picture that was cut off must not pass as half a grey one."""
    data = np.frombuffer(message.data, np.uint8).tobytes()
    if not data.startswith((_JPEG, _PNG)):
        raise ImageSourceError(
            f"compressed image of format '{message.format}' is not supported: it is neither JPEG "
            "nor PNG"
        )
    end = b"\xff\xd9" if data.startswith(_JPEG) else b"IEND"
    if end not in data.rstrip(b"\0")[-_TAIL:]:
        raise ImageSourceError(
            f"compressed image of format '{message.format}' is cut off ({len(data)} bytes)"
        )


def _check_pixels(width: int, height: int) -> None:
    pixels = width * height
    if pixels > MAX_PIXELS:
        raise ImageSourceError(
            f"image of {width} x {height} has {pixels} pixels, at most {MAX_PIXELS} are read"
        )


def _compressed_size(data: Any) -> tuple[int, int]:
    """Width and height that a JPEG or PNG says it has: a short one may fill the memory."""
    data = memoryview(data).cast("B")
    if bytes(data[:2]) != _JPEG:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    at = 2
    while at + 9 <= min(len(data), 2**20) and data[at] == 0xFF:  # the size comes before the pixels
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1  # padding
        elif marker in _JPEG_FRAMES:
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            return width, height
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, 0


def _bridged(message: Any) -> np.ndarray:
    """By cv_bridge, which knows encodings that are not known here, where it is installed."""
    try:
        bridge = importlib.import_module("cv_bridge")
    except ImportError:
        raise ImageSourceError(
            f"image encoding '{message.encoding}' is not supported."
            f"{suggest(message.encoding, ENCODINGS)}"
        ) from None
    try:
        picture = bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
    except Exception as error:  # its errors have no common class
        raise ImageSourceError(
            f"image encoding '{message.encoding}' is not supported, nor by cv_bridge: {error}"
        ) from error
    return np.ascontiguousarray(picture, np.uint8)
