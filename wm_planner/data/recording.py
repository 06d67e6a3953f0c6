"""One recorded bag to whole model steps, and an account of what was left out and why.

A bag explains itself by a message on the topic `recording`; bags of before name a simulated task.
What `ros2 bag record` wrote is read with the robot's file. See `alignment` for the rules of time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm_planner.data.account import Account, account_of
from wm_planner.data.aligner import Aligner
from wm_planner.data.bags import Bag, BagMessage
from wm_planner.data.clocks import on_one_clock
from wm_planner.data.frames import mosaic
from wm_planner.data.held_commands import taken_over
from wm_planner.data.image_message import image_array
from wm_planner.data.prepare import prepare
from wm_planner.data.recording_message import Description
from wm_planner.data.streams import IMAGE_TYPES, Streams, View
from wm_planner.embodiment import Embodiment
from wm_planner.errors import DatasetError, WmPlannerError
from wm_planner.robot import RobotFile
from wm_planner.tasks import resized

_ROUNDS = 5  # how often frames are chosen anew because pictures could not be decoded


@dataclass(frozen=True)
class Piece:
    """A part of a recording without a hole: T frames, one model step apart.

    Attributes:
        images: (T, S, C * S, 3) uint8 RGB.
        proprio: (T, P) float32, physical units, at the time of the picture.
        actions: (T - 1, A) float32, physical units; A = frame_skip * size of a raw action.
        stamps_ns: (T,) int64, of the first camera's pictures.
        operator: (T - 1,) float32, share of each step in which an operator drove; else we did.
    """

    images: np.ndarray
    proprio: np.ndarray
    actions: np.ndarray
    stamps_ns: np.ndarray
    operator: np.ndarray


@dataclass(frozen=True)
class Recording:
    """One bag.

    Attributes:
        path: of the bag.
        embodiment: of the robot.
        description: what the bag says of itself.
        outcome: 'success', 'failure', or '' when nobody said.
        events: values of its episode events (seed, ...), as text.
        start_ns: stamp of the first sample.
        pieces: what is read of it.
        account: what is not, and why.
    """

    path: Path
    embodiment: Embodiment
    description: Description
    outcome: str
    events: dict[str, str]
    start_ns: int
    pieces: tuple[Piece, ...]
    account: Account


def read_recording(
    path: Path | str,
    embodiment: Embodiment | None = None,
    robot: RobotFile | None = None,
    frame_skip: int | None = None,
) -> Recording:
    """Read one bag.

    Args:
        path: a rosbag2 directory, or a single file of one.
        embodiment: of the robot; None: as the robot file or the bag says.
        robot: names the topics, crops and tolerances of a bag that does not explain itself.
        frame_skip: raw actions per model step; None: the embodiment's.

    Raises:
        DatasetError: it cannot be used at all; names the bag, and what is missing. What is missing
            here and there is left out instead, and stands in the account.
    """
    with _naming(Path(path)):
        return _read(Streams(Bag(Path(path)), embodiment, robot, frame_skip))


def recorded_embodiment(path: Path | str) -> Embodiment:
    """The robot that a bag says it is of; of old bags, that of their simulated task.

    Raises:
        DatasetError: it says nothing, or the task is not installed.
    """
    with _naming(Path(path)):
        return Streams(Bag(Path(path)), None, None, None).body


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors name the bag."""
    try:
        yield
    except WmPlannerError as error:
        text = str(error)
        raise DatasetError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _read(streams: Streams) -> Recording:
    """All but the pictures first, then those pictures that are wanted."""
    streams.collect()
    views = streams.views()
    joint_topics = streams.joint_topics()
    command_topic = streams.command_topic()
    used = {
        **{f"camera {name}": streams.images[view.topic] for name, view in views.items()},
        **{f"joints on {topic}": streams.joints[topic] for topic in joint_topics},
        "commands": streams.commands[command_topic],
    }
    operator_topic = streams.operator_topic(command_topic)
    if operator_topic is not None:
        used["operator"] = streams.commands[operator_topic]
    stamps = dict(zip(used, on_one_clock(used, streams.notes), strict=True))
    cameras = {name: stamps[f"camera {name}"] for name in views}
    joints = streams.joint_streams({t: stamps[f"joints on {t}"] for t in joint_topics})
    held = streams.held(command_topic, stamps["commands"])
    driven: list[tuple[int, int]] = []
    if operator_topic is not None:
        others = streams.held(operator_topic, stamps["operator"])
        if {held.quantity, others.quantity} <= {"", streams.body.action.kind}:
            held, driven = taken_over(held, others, streams.body.dt_ns)
        else:
            streams.notes.append(
                f"commands on topic {operator_topic} carry a {others.quantity}, not the robot's "
                "action: what an operator drove is left out"
            )
    disobeyed = streams.disobeyed(command_topic, stamps["commands"])
    held = held.without(disobeyed)
    if not len(held.stamps_ns):
        raise DatasetError("the robot did not execute any command, by what it said of itself")
    aligner = Aligner(streams.body, streams.limits, cameras, joints, held, disobeyed)
    pictures = _pictures(streams, aligner, views)
    first = min(int(s[0]) for s in stamps.values())
    last = max(int(s[-1]) for s in stamps.values())
    seconds, damage = (last - first) * 1e-9, streams.bag.damage
    account = account_of(aligner, seconds, stamps, streams.notes, damage)
    if not account.kept:
        raise DatasetError(f"no model step is whole: {account.shown(streams.body.model_dt_s)}")
    body, pieces = _built(streams.body, aligner, pictures, driven)
    return Recording(
        streams.bag.path,
        body,
        streams.description,
        streams.outcome,
        streams.events,
        first,
        pieces,
        account,
    )


def _pictures(
    streams: Streams, aligner: Aligner, views: dict[str, View]
) -> dict[tuple[str, int], np.ndarray]:
    """Prepared pictures by camera and number of the message on its topic."""
    pictures: dict[tuple[str, int], np.ndarray] = {}
    failures: list[str] = []
    sizes: dict[str, tuple[int, ...]] = {}
    for _ in range(_ROUNDS):
        aligner.choose()
        missing = aligner.wanted() - set(pictures)
        bad = set()
        for name, number, message in _picture_messages(streams, views, missing):
            try:
                image = image_array(message.decode())
            except WmPlannerError as error:
                bad.add((name, number))
                failures.append(f"camera {name}: {error}")
                continue
            if sizes.setdefault(name, image.shape) != image.shape:
                raise DatasetError(
                    f"topic {views[name].topic}: the image size changes from "
                    f"{sizes[name][1]}x{sizes[name][0]} to {image.shape[1]}x{image.shape[0]}"
                )
            pictures[name, number] = _prepared(streams, name, image, views[name])
        if not bad:
            break
        if not pictures:
            raise DatasetError(failures[0])
        aligner.forget(bad)
    else:
        raise DatasetError(f"{len(failures)} pictures cannot be read: {failures[0]}")
    if failures:
        streams.notes.append(f"{len(failures)} pictures were passed over ({failures[0]})")
    return pictures


def _picture_messages(
    streams: Streams, views: dict[str, View], wanted: set[tuple[str, int]]
) -> Iterator[tuple[str, int, BagMessage]]:
    if not wanted:
        return
    names = {view.topic: name for name, view in views.items()}
    count = dict.fromkeys(names, -1)
    for message in streams.bag.messages(set(names)):
        if message.msgtype not in IMAGE_TYPES:
            continue
        count[message.topic] += 1
        key = names[message.topic], count[message.topic]
        if key in wanted:
            yield (*key, message)


def _prepared(streams: Streams, name: str, image: np.ndarray, view: View) -> np.ndarray:
    if view.source is not None:
        return prepare(image, view.source.crop, view.source.size)
    height, width = image.shape[:2]
    size = streams.body.image_size
    if height != width or (size != height and not streams.any_size):
        raise DatasetError(
            f"topic {view.topic}: pictures of {width}x{height} pixels, the robot's camera "
            f"'{name}' has {size}x{size}"
        )
    return np.ascontiguousarray(image)


def _built(
    body: Embodiment,
    aligner: Aligner,
    pictures: dict[tuple[str, int], np.ndarray],
    driven: Sequence[tuple[int, int]],
) -> tuple[Embodiment, tuple[Piece, ...]]:
    names = [camera.name for camera in body.cameras]
    size = next(iter(pictures.values())).shape[0]
    pieces = []
    for chain in aligner.pieces:
        images = []
        for frame in chain:
            numbers = aligner.numbers(frame)
            shown = [pictures.get((n, numbers[n])) if n in numbers else None for n in names]
            images.append(mosaic(shown, size))
        pieces.append(
            Piece(
                np.stack(images),
                aligner.proprio[chain].astype(np.float32),
                aligner.actions(chain),
                aligner.stamps_ns[chain],
                _shares(aligner.stamps_ns[chain], driven),
            )
        )
    return resized(body, size), tuple(pieces)


def _shares(stamps_ns: np.ndarray, driven: Sequence[tuple[int, int]]) -> np.ndarray:
    """(T - 1,) share of the time from stamp to stamp that lies in the intervals."""
    begins, ends = stamps_ns[:-1], stamps_ns[1:]
    within = np.zeros(len(begins))
    for begin, end in driven:
        within += np.clip(np.minimum(ends, end) - np.maximum(begins, begin), 0, None)
    shares: np.ndarray = (within / np.maximum(ends - begins, 1)).astype(np.float32)
    return shares
