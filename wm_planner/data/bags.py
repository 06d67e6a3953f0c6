"""Read recorded rosbag2 bags, complete or cut off by a crash, without ROS."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import MCAP0_MAGIC
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.errors import ReaderError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from wm_planner.data.frames import Stream
from wm_planner.embodiment import Embodiment
from wm_planner.errors import DatasetError
from wm_planner.types import Episode

IMAGE_TOPIC = "observation/image"
JOINT_TOPIC = "joint_states"
COMMAND_TOPIC = "command_sent"
EPISODE_TOPIC = "episode"
TYPES = {
    IMAGE_TOPIC: "sensor_msgs/msg/Image",
    JOINT_TOPIC: "sensor_msgs/msg/JointState",
    COMMAND_TOPIC: "trajectory_msgs/msg/JointTrajectory",
    EPISODE_TOPIC: "diagnostic_msgs/msg/DiagnosticStatus",
}


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
    """

    topic: str
    msgtype: str
    stamp_ns: int
    data: bytes

    def decode(self) -> Any:
        """The message as a rosbags dataclass with the fields of the ROS message."""
        return typestore().deserialize_cdr(self.data, self.msgtype)


def is_complete(bag_dir: Path | str) -> bool:
    """False when the recorder was killed, or a copy cut off: metadata or the index is missing."""
    bag_dir = Path(bag_dir)
    files = bag_dir.glob("*.mcap")
    return (bag_dir / "metadata.yaml").is_file() and all(_ends_well(file) for file in files)


def read_messages(bag_dir: Path | str) -> Iterator[BagMessage]:
    """All messages of a bag, in the order of time (in a cut-off bag: of recording).

    Raises:
        DatasetError: no bag there, or it cannot be read.
    """
    bag_dir = Path(bag_dir)
    if is_complete(bag_dir):
        try:
            with Reader(bag_dir) as reader:
                for connection, stamp_ns, data in reader.messages():
                    yield BagMessage(connection.topic, connection.msgtype, stamp_ns, bytes(data))
        except (ReaderError, OSError) as error:
            raise DatasetError(f"{bag_dir}: the bag cannot be read: {error}") from error
        return
    files = sorted(bag_dir.glob("*.mcap"))
    if not files:
        raise DatasetError(f"{bag_dir}: no bag here (neither metadata.yaml nor an .mcap file)")
    for file in files:
        yield from _stream(file)


def read_episode(bag_dir: Path | str, embodiment: Embodiment) -> Episode:
    """One recorded episode, aligned by header stamps to one row per control period.

    Row i lies at stamp_0 + i * dt, where stamp_0 is the first command; its action is the command
    sent nearest to it. Images may be rarer than rows: `images` then has one entry per recorded
    image and `info["image_rows"]` (an int array) says to which rows they belong; with an image in
    every row it is 0 .. T.

    `info` also holds source, task, stamp_ns (row 0), truncated, and `episode`: the values of the
    last episode event (seed, success, ...), as text.

    Raises:
        DatasetError: a topic, joint or control period is missing; names bag and topic.
    """
    bag_dir = Path(bag_dir)
    images: Stream[np.ndarray] = Stream()
    proprio: Stream[np.ndarray] = Stream()
    commands: Stream[np.ndarray] = Stream()
    events: dict[str, str] = {}
    names: dict[str, str] = {}
    for message in read_messages(bag_dir):
        topic = _known(message.topic)
        if topic is None:
            continue
        where = f"{bag_dir}: topic {message.topic}"
        if names.setdefault(topic, message.topic) != message.topic:
            raise DatasetError(f"{where}: and {names[topic]}: an episode has one robot")
        if message.msgtype != TYPES[topic]:
            raise DatasetError(f"{where}: holds {message.msgtype}, expected {TYPES[topic]}")
        decoded = message.decode()
        if topic == IMAGE_TOPIC:
            images.insert(stamp_ns(decoded), image_array(decoded, where))
        elif topic == JOINT_TOPIC:
            proprio.insert(stamp_ns(decoded), _proprio(decoded, embodiment, where))
        elif topic == COMMAND_TOPIC:
            commands.insert(stamp_ns(decoded), _command(decoded, embodiment, where))
        else:
            events.update({item.key: item.value for item in decoded.values})
    for topic, stream in (
        (IMAGE_TOPIC, images),
        (JOINT_TOPIC, proprio),
        (COMMAND_TOPIC, commands),
    ):
        if not len(stream):
            raise DatasetError(f"{bag_dir}: topic {topic} has no messages; was it recorded?")
    return _align(bag_dir, embodiment, images, proprio, commands, events)


def _align(
    bag_dir: Path,
    embodiment: Embodiment,
    images: Stream[np.ndarray],
    proprio: Stream[np.ndarray],
    commands: Stream[np.ndarray],
    events: dict[str, str],
) -> Episode:
    dt_ns = round(embodiment.control_dt_s * 1e9)
    start_ns = commands.stamps_ns[0]
    num_actions = round((commands.stamps_ns[-1] - start_ns) / dt_ns) + 1
    # The state after the last action may be missing where a recording was cut off.
    while num_actions and proprio.nearest(start_ns + num_actions * dt_ns, dt_ns // 2) is None:
        num_actions -= 1
    if not num_actions:
        raise DatasetError(
            f"{bag_dir}: topic {JOINT_TOPIC} holds no sample after any of the commands"
        )
    rows_ns = [start_ns + i * dt_ns for i in range(num_actions + 1)]
    # A whole period: joint states and ticks may lie anywhere between the rows, one may be lost.
    felt = _rows(bag_dir, JOINT_TOPIC, proprio, rows_ns, dt_ns)
    sent = _rows(bag_dir, COMMAND_TOPIC, commands, rows_ns[:-1], dt_ns)
    seen = [(row, images.nearest(stamp, dt_ns // 2)) for row, stamp in enumerate(rows_ns)]
    pairs = [(row, index) for row, index in seen if index is not None]
    if not pairs:
        raise DatasetError(f"{bag_dir}: topic {IMAGE_TOPIC} has no image while commands were sent")
    if len({images.values[index].shape for _, index in pairs}) > 1:
        raise DatasetError(f"{bag_dir}: topic {IMAGE_TOPIC}: the image size changes")
    return Episode(
        images=np.stack([images.values[index] for _, index in pairs]),
        proprio=felt,
        actions=sent,
        info={
            "source": str(bag_dir),
            "task": embodiment.name,
            "stamp_ns": start_ns,
            "truncated": not is_complete(bag_dir),
            "image_rows": np.array([row for row, _ in pairs]),
            "episode": events,
        },
    )


def _rows(
    bag_dir: Path, topic: str, stream: Stream[np.ndarray], rows_ns: list[int], tolerance_ns: int
) -> np.ndarray:
    values = []
    for row_ns in rows_ns:
        index = stream.nearest(row_ns, tolerance_ns)
        if index is None:
            raise DatasetError(
                f"{bag_dir}: topic {topic} has a gap at stamp {row_ns} ns "
                f"({(row_ns - rows_ns[0]) * 1e-9:.2f} s after the first command)"
            )
        values.append(stream.values[index])
    return np.stack(values)


def stamp_ns(message: Any) -> int:
    """Header stamp of a decoded message, nanoseconds."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def image_array(message: Any, where: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a decoded sensor_msgs/Image; `where` names it in errors."""
    if message.encoding not in ("rgb8", "bgr8"):
        raise DatasetError(f"{where}: encoding '{message.encoding}', expected rgb8 or bgr8")
    height, width, step = int(message.height), int(message.width), int(message.step)
    if step < 3 * width or len(message.data) < height * step:
        raise DatasetError(
            f"{where}: {len(message.data)} bytes for {width}x{height} with step {step}"
        )
    rows = np.frombuffer(message.data, np.uint8, height * step).reshape(height, step)
    image = rows[:, : 3 * width].reshape(height, width, 3)
    return np.ascontiguousarray(image[..., ::-1] if message.encoding == "bgr8" else image)


def _proprio(message: Any, embodiment: Embodiment, where: str) -> np.ndarray:
    values = []
    for name in embodiment.proprio:
        joint, _, quantity = name.partition("/")
        samples = getattr(message, quantity)
        index = message.name.index(joint) if joint in message.name else None
        if index is None or index >= len(samples):
            raise DatasetError(
                f"{where}: no {quantity} of joint '{joint}'; joints: {', '.join(message.name)}"
            )
        values.append(samples[index])
    return np.array(values, dtype=np.float32)


def _command(message: Any, embodiment: Embodiment, where: str) -> np.ndarray:
    if len(message.points) != 1:
        raise DatasetError(f"{where}: expected one point per command, got {len(message.points)}")
    point = message.points[0]
    values = next((v for v in (point.velocities, point.positions, point.effort) if len(v)), ())
    names = list(message.joint_names) or list(embodiment.action.names)
    if sorted(names) != sorted(embodiment.action.names) or len(values) != len(names):
        raise DatasetError(
            f"{where}: {len(values)} values for joints {', '.join(names)}; {embodiment.name} "
            f"takes {', '.join(embodiment.action.names)}"
        )
    return np.array(
        [values[names.index(name)] for name in embodiment.action.names], dtype=np.float32
    )


def _known(topic: str) -> str | None:
    """The name in `TYPES` of a topic recorded in any namespace, or None."""
    if topic.endswith("goal/joint_states"):
        return None
    return next((n for n in TYPES if topic.strip("/") == n or topic.endswith("/" + n)), None)


def _ends_well(file: Path) -> bool:
    """True when an MCAP file has its closing magic, hence its index."""
    with file.open("rb") as stream:
        stream.seek(-min(8, file.stat().st_size), os.SEEK_END)
        return stream.read() == MCAP0_MAGIC


def _stream(file: Path) -> Iterator[BagMessage]:
    """Messages of an MCAP file without index, up to where it was cut off."""
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    with file.open("rb") as stream:
        try:
            for record in StreamReader(stream).records:
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    channels[record.id] = record
                elif isinstance(record, Message):
                    channel = channels[record.channel_id]
                    msgtype = schemas[channel.schema_id].name
                    yield BagMessage(channel.topic, msgtype, record.log_time, record.data)
        except (McapError, struct.error, EOFError, ValueError, KeyError):
            return  # The cut-off end; all that was flushed has been given.
