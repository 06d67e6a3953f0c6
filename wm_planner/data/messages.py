"""Decoding of ROS messages to plain arrays: pictures, joint values and commands.

A message may come from rclpy or from a bag that rosbags has read: only the names of its fields are
used, so this module needs neither. Every part that looks into a message does it by this module.

Legend: P = proprioception entries, A = entries of one raw action.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_planner.config import suggest
from wm_planner.embodiment import FIELDS, ActionSpace
from wm_planner.errors import ConfigError, ImageSourceError

# What a robot takes, and the field of a trajectory point that carries it.
POINT_FIELDS = {"position": "positions", "velocity": "velocities", "effort": "effort"}
DISPLACEMENT = "displacement"  # the quantity of a jog by distances: a position_delta as it stands

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
_BY_LOWER = {name.lower(): name for name in ENCODINGS}


def stamp_ns(message: Any) -> int | None:
    """Header stamp, nanoseconds; None where there is none, or nobody has filled it in."""
    header = getattr(message, "header", None)
    return None if header is None else _nanoseconds(header.stamp) or None


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


def joint_values(message: Any, entries: Sequence[str]) -> np.ndarray:
    """(P,) float64 values of a JointState; NaN where it says nothing of an entry.

    Several devices may share the topic, and an arm's joints may come in two messages.

    Args:
        message: sensor_msgs/JointState, its joints in any order.
        entries: '<joint>/<position|velocity|effort>'.
    """
    index = {joint: i for i, joint in enumerate(message.name)}
    values = np.full(len(entries), np.nan)
    for row, entry in enumerate(entries):
        joint, _, quantity = entry.rpartition("/")
        column = getattr(message, quantity) if quantity in FIELDS else ()
        if joint in index and index[joint] < len(column):
            values[row] = column[index[joint]]
    return values


def proprio_array(message: Any, entries: Sequence[str]) -> np.ndarray:
    """(P,) float32 of a JointState that holds all of `entries`, in their order.

    Raises:
        ConfigError: the message lacks a joint or the field, or a value is not finite.
    """
    values = joint_values(message, entries)
    for entry, value in zip(entries, values, strict=True):
        if np.isfinite(value):
            continue
        joint, _, quantity = entry.rpartition("/")
        if joint not in message.name:
            raise ConfigError(f"joint_states has no joint '{joint}'.{suggest(joint, message.name)}")
        column = getattr(message, quantity) if quantity in FIELDS else ()
        if list(message.name).index(joint) >= len(column):
            raise ConfigError(f"joint_states has no {quantity or 'field'} for joint '{joint}'")
        raise ConfigError(f"joint_states: {quantity} of joint '{joint}' is {value}")
    return values.astype(np.float32)


@dataclass(frozen=True)
class Command:
    """What one message tells the robot.

    Attributes:
        quantity: what the numbers are: 'position', 'velocity', 'effort' or 'displacement'.
        values: (N, A) float64, in the order of the action's names.
        offsets_ns: from when on each row is in force, nanoseconds after the message; from 0 on.
        last_ns: how long the last row of several takes, nanoseconds; 0: nobody says.
    """

    quantity: str
    values: np.ndarray
    offsets_ns: tuple[int, ...] = (0,)
    last_ns: int = 0


def command_of(
    message: Any, action: ActionSpace, names: Sequence[str] = (), carries: str = ""
) -> Command:
    """Read a Float64MultiArray, JointTrajectory, Twist, TwistStamped, JointState or JointJog.

    Joints may come in any order, and those that the action does not have are passed over.

    Args:
        message: the command.
        action: of the robot.
        names: joints of what names none itself, in its order; empty: those of the action.
        carries: quantity of a message without fields for each; empty: by the action's kind.

    Raises:
        ConfigError: another type, a joint or axis of the action is missing, or the numbers do not
            go with the names.
    """
    names, wanted = tuple(names) or action.names, carries or action.kind.removesuffix("_delta")
    if hasattr(message, "points") and hasattr(message, "joint_names"):
        return _trajectory(message, action, names, wanted)
    if hasattr(message, "twist"):
        message = message.twist
    if hasattr(message, "linear") and hasattr(message, "angular"):
        return Command("velocity", _twist(message, action)[None])
    if hasattr(message, "layout") and hasattr(message, "data"):
        return Command(wanted, _ordered(message.data, names, action, "Float64MultiArray")[None])
    if hasattr(message, "joint_names") and hasattr(message, "displacements"):
        jogs = {"velocity": message.velocities, DISPLACEMENT: message.displacements}
        first = DISPLACEMENT if action.kind == "position_delta" else "velocity"
        quantity, row = _chosen(jogs, first, "JointJog")
        return Command(quantity, _ordered(row, message.joint_names, action, "JointJog")[None])
    if hasattr(message, "name") and all(hasattr(message, field) for field in FIELDS):
        columns = {field: getattr(message, field) for field in FIELDS}
        quantity, row = _chosen(columns, wanted, "JointState")
        return Command(quantity, _ordered(row, message.name, action, "JointState")[None])
    kind = getattr(message, "__msgtype__", type(message).__name__)
    raise ConfigError(
        f"a command of type {kind} cannot be read; known are Float64MultiArray, JointTrajectory, "
        "Twist, TwistStamped, JointState and JointJog"
    )


def point_rows(message: Any, interface: str) -> list[Any]:
    """What each point of a JointTrajectory carries in the field of `interface`, as it stands."""
    return [getattr(point, POINT_FIELDS[interface]) for point in message.points]


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


_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that hold the size
_TAIL = 64  # bytes that a driver may add behind the end of a picture, beside zeros


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


def _trajectory(message: Any, action: ActionSpace, names: Sequence[str], wanted: str) -> Command:
    if not message.points:
        raise ConfigError("a JointTrajectory without points commands nothing")
    names = list(message.joint_names) or list(names)
    first = {key: getattr(message.points[0], field) for key, field in POINT_FIELDS.items()}
    quantity, _ = _chosen(first, wanted, "JointTrajectory")
    rows = point_rows(message, quantity)
    due = [_nanoseconds(point.time_from_start) for point in message.points]
    # A position is approached from the moment when the one before was due, a velocity holds from
    # its own moment on. What comes first is in force at once.
    offsets = [0, *(due[:-1] if quantity == "position" else due[1:])]
    if any(later < earlier for earlier, later in itertools.pairwise(offsets)):
        raise ConfigError(f"the points of a JointTrajectory are not in order of time: {due} ns")
    values = np.stack([_ordered(row, names, action, "JointTrajectory") for row in rows])
    last_ns = due[-1] - due[-2] if len(due) > 1 else 0
    return Command(quantity, values, tuple(offsets), last_ns)


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * 10**9 + int(time.nanosec)


def _twist(message: Any, action: ActionSpace) -> np.ndarray:
    if not action.is_twist:
        raise ConfigError(f"a twist says nothing of the joints {', '.join(action.names)}")
    parts = (name.split(".") for name in action.names)
    return np.array([getattr(getattr(message, part), axis) for part, axis in parts], float)


def _chosen(columns: dict[str, Any], wanted: str, kind: str) -> tuple[str, Any]:
    """The wanted quantity where the message has it, else the first that it has."""
    for quantity in (wanted, *columns):
        if quantity in columns and len(columns[quantity]):
            return quantity, columns[quantity]
    raise ConfigError(f"a {kind} without a value commands nothing")


def _ordered(row: Any, names: Sequence[str], action: ActionSpace, kind: str) -> np.ndarray:
    """(A,) float64 in the order of the action."""
    if len(row) != len(names):
        raise ConfigError(
            f"{kind}: {len(row)} values for the joints {', '.join(names)}, which are {len(names)}"
        )
    index = {name: i for i, name in enumerate(names)}
    missing = [name for name in action.names if name not in index]
    if missing:
        raise ConfigError(
            f"{kind}: nothing of {', '.join(missing)}; it commands {', '.join(names)}"
        )
    return np.array([row[index[name]] for name in action.names], float)
