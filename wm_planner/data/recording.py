"""One recorded bag to whole model steps, and an account of what was left out and why.

A bag explains itself by a message on the topic `recording`; bags of before name a simulated task.
What `ros2 bag record` wrote is read with the robot's file. See `alignment` for the rules of time.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_planner.data.alignment import (
    HeldCommands,
    Tolerances,
    choose_frames,
    hold_commands,
    interpolate,
    nearest,
    raw_actions,
    tolerances,
)
from wm_planner.data.bags import Bag, BagMessage
from wm_planner.data.frames import mosaic
from wm_planner.data.messages import Command, command_of, image_array, joint_values
from wm_planner.data.messages import stamp_ns as header_stamp_ns
from wm_planner.data.prepare import prepare
from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError, DatasetError, WmPlannerError
from wm_planner.robot import CameraSource, Record, RobotFile, observation_topic
from wm_planner.tasks import get_task, resized

IMAGE_TOPIC = "observation/image"
JOINT_TOPIC = "joint_states"
COMMAND_TOPIC = "command_sent"
EPISODE_TOPIC = "episode"
RECORDING_TOPIC = "recording"  # of what a bag says of itself
SCHEMA = 1  # of that message
OUTCOMES = ("success", "failure", "")

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
JOINT_TYPE = "sensor_msgs/msg/JointState"
EPISODE_TYPE = "diagnostic_msgs/msg/DiagnosticStatus"
_NOT_SEEN = ("goal/image", "plan/imagined", "goal/joint_states")
# Stamps further than this from their receipt are of another clock, not late.
CLOCK_NS = 1_000_000_000
_ROUNDS = 5  # how often frames are chosen anew because pictures could not be decoded


@dataclass(frozen=True)
class Description:
    """What a bag says of itself.

    Attributes:
        embodiment: of the robot; None: it does not say.
        checkpoint: 'name' and 'sha256' of what planned; None: nothing did.
        planner: its settings.
        version: of this package that recorded.
        cameras: topic of each camera's pictures, by its name.
        topics: names in the bag by the names that this package has for them.
        commands: 'topic', 'names' and 'carries' of the commands of others; see `messages`.
    """

    embodiment: Embodiment | None = None
    checkpoint: dict[str, Any] | None = None
    planner: dict[str, Any] | None = None
    version: str = ""
    cameras: dict[str, str] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    commands: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Account:
    """What a recording holds, in numbers.

    Attributes:
        seconds: from its first to its last sample.
        rates_hz: samples per second by stream: each camera, 'joints', 'commands'.
        holes: (count, longest in seconds) of the pauses that are longer than tolerated, by stream.
        possible: model steps while all streams were there.
        kept: model steps that are read.
        lost: model steps that are not, by what is missing there; 'ends': shorter than a step.
        notes: what was mended or passed over, in words.
        damage: what of the files could not be read, in words.
    """

    seconds: float
    rates_hz: dict[str, float]
    holes: dict[str, tuple[int, float]]
    possible: int
    kept: int
    lost: dict[str, int]
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A part of a recording without a hole: T frames, one model step apart.

    Attributes:
        images: (T, S, C * S, 3) uint8 RGB.
        proprio: (T, P) float32, physical units, at the time of the picture.
        actions: (T - 1, A) float32, physical units; A = frame_skip * size of a raw action.
        stamps_ns: (T,) int64, of the first camera's pictures.
    """

    images: np.ndarray
    proprio: np.ndarray
    actions: np.ndarray
    stamps_ns: np.ndarray


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
        return _Reader(Bag(Path(path)), embodiment, robot, frame_skip).read()


def recorded_embodiment(path: Path | str) -> Embodiment:
    """The robot that a bag says it is of; of old bags, that of their simulated task.

    Raises:
        DatasetError: it says nothing, or the task is not installed.
    """
    with _naming(Path(path)):
        return _Reader(Bag(Path(path)), None, None, None).body


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors name the bag."""
    try:
        yield
    except WmPlannerError as error:
        text = str(error)
        raise DatasetError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def outcome_of(values: Mapping[str, str]) -> str:
    """'success', 'failure' or '': the outcome, or what a simulator says of `success`.

    An outcome of another name is none: an episode must not go on because of it.
    """
    outcome = values.get("outcome", "")
    if outcome in OUTCOMES and outcome:
        return outcome
    return {"true": "success", "false": "failure"}.get(values.get("success", ""), "")


def parse_description(text: str) -> Description:
    """The message on the topic `recording`.

    Raises:
        DatasetError: it is no such message, or of a newer version of this package.
        ConfigError: its embodiment cannot be used.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise DatasetError(f"topic {RECORDING_TOPIC}: not valid JSON: {error}") from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        got = values.get("schema") if isinstance(values, dict) else values
        raise DatasetError(f"topic {RECORDING_TOPIC}: schema {got!r}, expected {SCHEMA}")
    given = values.get("embodiment")
    embodiment = None if given is None else Embodiment.from_json(given, RECORDING_TOPIC)
    parts: dict[str, Any] = {}
    for key in ("checkpoint", "planner", "cameras", "topics", "commands"):
        part = values.get(key)
        if part is not None and not isinstance(part, dict):
            raise DatasetError(f"topic {RECORDING_TOPIC}: {key}: expected a mapping, got {part!r}")
        parts[key] = part
    for key in ("cameras", "topics"):
        parts[key] = {str(name): str(topic) for name, topic in (parts[key] or {}).items()}
    parts["commands"] = parts["commands"] or {}
    return Description(embodiment, version=str(values.get("version", "")), **parts)


class _Samples:
    """Samples of one topic as they come; those without a stamp have that of their receipt."""

    def __init__(self) -> None:
        self.headers_ns: list[int] = []  # 0: none
        self.receipts_ns: list[int] = []
        self.values: list[Any] = []

    def add(self, header_ns: int | None, receipt_ns: int, value: Any = None) -> None:
        self.headers_ns.append(header_ns or 0)
        self.receipts_ns.append(receipt_ns)
        self.values.append(value)

    def __len__(self) -> int:
        return len(self.receipts_ns)


@dataclass(frozen=True)
class _View:
    """Where a camera's pictures are, and what is made of them."""

    topic: str
    source: CameraSource | None  # None: the camera node has prepared them


class _Reader:
    """Reads one bag in two passes: first all but the pictures, then those that are wanted."""

    def __init__(
        self,
        bag: Bag,
        embodiment: Embodiment | None,
        robot: RobotFile | None,
        frame_skip: int | None,
    ) -> None:
        self.bag = bag
        self.robot = robot
        self.record = Record() if robot is None else robot.record
        self.notes: list[str] = []
        self.description = Description()
        self.events: dict[str, str] = {}
        self.outcome = ""
        self.any_size = embodiment is not None  # of pictures: the embodiment was not recorded
        if embodiment is None:
            embodiment = self._embodiment() if robot is None else robot.embodiment
        self.body = resized(embodiment, None, frame_skip) if frame_skip else embodiment
        self.limits: Tolerances = tolerances(
            self.body,
            self.record.image_tolerance_s,
            self.record.joint_gap_s,
            self.record.command_hold_s,
        )
        self.images: dict[str, _Samples] = {}
        self.joints: dict[str, _Samples] = {}
        self.joint_names: dict[str, list[str]] = {}
        self.commands: dict[str, _Samples] = {}
        self.command_errors: dict[str, list[str]] = {}

    def read(self) -> Recording:
        """See `read_recording`."""
        self._collect()
        self._check_robot()
        views = self._views()
        joint_topics = self._joint_topics()
        command_topic = self._command_topic()
        used = {
            **{f"camera {name}": self.images[view.topic] for name, view in views.items()},
            **{f"joints on {topic}": self.joints[topic] for topic in joint_topics},
            "commands": self.commands[command_topic],
        }
        stamps = dict(zip(used, self._timeline(used), strict=True))
        cameras = {name: stamps[f"camera {name}"] for name in views}
        joints = self._joint_streams({t: stamps[f"joints on {t}"] for t in joint_topics})
        held = self._held(command_topic, stamps["commands"])
        aligned = _Aligner(self.body, self.limits, cameras, joints, held)
        pictures = self._pictures(aligned, views)
        first = min(int(s[0]) for s in stamps.values())
        last = max(int(s[-1]) for s in stamps.values())
        account = aligned.account((last - first) * 1e-9, stamps, self.notes, self.bag.damage)
        if not account.kept:
            raise DatasetError(f"no model step is whole: {_shown(account, self.body)}")
        body, pieces = self._built(aligned, pictures)
        return Recording(
            self.bag.path,
            body,
            self.description,
            self.outcome,
            self.events,
            first,
            pieces,
            account,
        )

    # What the bag is of -------------------------------------------------------------------

    def _embodiment(self) -> Embodiment:
        """Of the first message that says it."""
        for message in self.bag.messages():
            self._hear(message)
            if self.description.embodiment is not None:
                return self.description.embodiment
            if "task" in self.events:
                self.any_size = True
                return get_task(self.events["task"]).embodiment
        raise DatasetError(
            f"nothing in it says of which robot it is (no embodiment on topic "
            f"'{RECORDING_TOPIC}', no task on topic '{EPISODE_TOPIC}'); give the robot's file by "
            "--robot"
        )

    def _hear(self, message: BagMessage) -> None:
        """What is said of the episode as a whole."""
        name = message.topic.rpartition("/")[2]
        if name == RECORDING_TOPIC and message.msgtype == "std_msgs/msg/String":
            self.description = parse_description(message.decode().data)
        elif name == EPISODE_TOPIC and message.msgtype == EPISODE_TYPE:
            event = message.decode()
            values = {item.key: item.value for item in event.values}
            self.events.update(values)
            if event.message == "end":
                self.outcome = outcome_of(values)

    def _check_robot(self) -> None:
        recorded = self.description.embodiment
        if self.robot is None or recorded is None:
            return
        difference = self.robot.embodiment.difference(recorded)
        if difference is not None:
            raise DatasetError(
                f"was recorded with '{recorded.name}', which is not the robot of the file, "
                f"'{self.robot.name}': {difference}"
            )

    # First pass ---------------------------------------------------------------------------

    def _collect(self) -> None:
        undecoded = 0
        for message in self.bag.messages():
            topic = message.topic
            if _fits(topic, _NOT_SEEN):
                continue
            try:
                if message.msgtype in IMAGE_TYPES:
                    samples = self.images.setdefault(topic, _Samples())
                    samples.add(_stamp_of_bytes(message.data), message.stamp_ns)
                elif _fits(topic, self._command_names()):
                    self._add_command(message)
                elif message.msgtype == JOINT_TYPE:
                    self._add_joints(message)
                else:
                    self._hear(message)
            except DatasetError as error:
                if message.topic.rpartition("/")[2] == RECORDING_TOPIC:
                    raise
                undecoded += 1
                if undecoded == 1:
                    self.bag.damage.append(str(error))
        if undecoded > 1:
            self.bag.damage.append(f"{undecoded} messages cannot be decoded")

    def _add_joints(self, message: BagMessage) -> None:
        decoded, topic = message.decode(), message.topic
        known = self.joint_names.setdefault(topic, [])
        known += [name for name in decoded.name if name not in known]
        values = joint_values(decoded, self.body.proprio)
        samples = self.joints.setdefault(topic, _Samples())
        if np.isfinite(values).any():  # else of another device
            samples.add(header_stamp_ns(decoded), message.stamp_ns, values)

    def _command_names(self) -> list[str]:
        """Topics of commands, those first that are taken first."""
        names = [self.description.topics.get(COMMAND_TOPIC, COMMAND_TOPIC)]
        if self.robot is not None:
            names += [self.robot.record.commands, self.robot.command.topic]
        names.append(str(self.description.commands.get("topic", "")))
        return [name for name in names if name.strip("/")]

    def _add_command(self, message: BagMessage) -> None:
        decoded, topic = message.decode(), message.topic
        samples = self.commands.setdefault(topic, _Samples())
        told = self.description.commands
        names = self.record.names or tuple(told.get("names") or ())
        carries = str(told.get("carries", ""))
        if self.robot is not None and self.robot.sends_positions:
            carries = "position"
        try:
            command = command_of(decoded, self.body.action, names, carries)
        except ConfigError as error:
            self.command_errors.setdefault(topic, []).append(str(error))
            return
        if not np.isfinite(command.values).all():
            self.command_errors.setdefault(topic, []).append("a value is not finite")
            return
        samples.add(header_stamp_ns(decoded), message.stamp_ns, command)

    # Which topic has which part -----------------------------------------------------------

    def _views(self) -> dict[str, _View]:
        views = {}
        for camera in self.body.cameras:
            view = self._view(camera.name)
            if view is not None:
                views[camera.name] = view
            elif camera.optional:
                self.notes.append(f"camera {camera.name} was not recorded: black")
            else:
                there = ", ".join(sorted(self.images)) or "none"
                raise DatasetError(
                    f"topic {self._prepared_topic(camera.name)} has no pictures of camera "
                    f"'{camera.name}'; topics with pictures: {there}"
                )
        return views

    def _prepared_topic(self, camera: str) -> str:
        return self.description.cameras.get(camera) or observation_topic(self.body, camera)

    def _view(self, camera: str) -> _View | None:
        source = None if self.robot is None else self.robot.cameras.get(camera)
        if source is not None and source.topic:
            topic = _find(self.images, [source.topic, f"{source.topic}/compressed"])
            if topic is not None:
                return _View(topic, source)
        topic = _find(self.images, [self._prepared_topic(camera)])
        if topic is not None:
            return _View(topic, None)
        needed = [c.name for c in self.body.cameras if not c.optional]
        if needed == [camera] and len(self.images) == 1:
            (topic,) = self.images
            self.notes.append(f"pictures of camera {camera} are taken from topic {topic}")
            return _View(topic, source)
        return None

    def _joint_topics(self) -> list[str]:
        """The topic that carries the proprioception; or several that do so together."""
        wanted = self.description.topics.get(JOINT_TOPIC, JOINT_TOPIC)
        if self.robot is not None:
            wanted = self.robot.joint_states
        carried = {
            topic: np.isfinite(np.stack(samples.values)).any(axis=0)
            for topic, samples in self.joints.items()
            if len(samples)
        }
        whole = [topic for topic, has in carried.items() if has.all()]
        if len(whole) > 1:
            exact = [topic for topic in whole if topic.strip("/") == wanted.strip("/")]
            if not exact:
                raise DatasetError(
                    f"topics {' and '.join(sorted(whole))}: an episode has one robot, and each "
                    "of them holds its joints; give a robot file that names its topics"
                )
            whole = exact
        if whole:
            if not _fits(whole[0], [wanted]):
                self.notes.append(f"joint states are taken from topic {whole[0]}")
            return whole
        together = np.sum([*carried.values(), np.zeros(len(self.body.proprio))], axis=0)
        if np.all(together == 1):
            self.notes.append(f"joint states are taken from topics {', '.join(sorted(carried))}")
            return sorted(carried)
        if not self.joints:
            raise DatasetError(f"topic {wanted} has no messages; was it recorded?")
        entry = self.body.proprio[int(np.argmin(together))]
        joint, _, quantity = entry.rpartition("/")
        names = sorted({name for known in self.joint_names.values() for name in known})
        raise DatasetError(
            f"topic {wanted}: no {quantity} of joint '{joint}'; joints there: {', '.join(names)}"
            + ("" if joint in names or self.robot else "; give the robot's file by --robot")
        )

    def _command_topic(self) -> str:
        for name in self._command_names():
            topic = _find({t: s for t, s in self.commands.items() if len(s)}, [name])
            if topic is None:
                continue
            errors = self.command_errors.get(topic, [])
            if errors:
                self.notes.append(
                    f"{len(errors)} messages on topic {topic} were passed over ({errors[0]})"
                )
            others = [t for t, s in self.commands.items() if t != topic and len(s)]
            if others:
                self.notes.append(
                    f"commands are taken from topic {topic}, not from {', '.join(sorted(others))}"
                )
            return topic
        for topic, errors in self.command_errors.items():
            raise DatasetError(f"topic {topic}: {errors[0]}")
        names = ", ".join(self._command_names())
        raise DatasetError(
            f"topic {names} has no messages; was it recorded? A robot file names the topic of "
            "others' commands by record: {commands: ...}"
        )

    # Time ---------------------------------------------------------------------------------

    def _timeline(self, used: dict[str, _Samples]) -> Iterator[np.ndarray]:
        """(K,) stamps of each stream on one clock, and its samples in their order.

        Header stamps are trusted while all streams have them and agree. Else everything is told in
        the time of receipt, and a clock that is off is moved by what it is off at least.
        """
        stamps = {name: np.array(s.headers_ns, np.int64) for name, s in used.items()}
        receipts = {name: np.array(s.receipts_ns, np.int64) for name, s in used.items()}
        late = {}
        for name, own in stamps.items():
            there = own != 0
            if there.any():
                late[name] = receipts[name][there] - own[there]
        medians = [float(np.median(values)) for values in late.values()]
        spread = max(medians) - min(medians) if medians else 0.0
        agree = all((own != 0).all() for own in stamps.values()) and spread <= CLOCK_NS
        for name, heard in receipts.items():
            own = stamps[name]
            order = np.argsort(heard, kind="stable")
            if not agree and name in late:
                own = np.where(own != 0, own + self._moved(name, late[name]), heard)
            elif name not in late:
                own = heard
            back = np.diff(own[order])
            if len(back) and back.min() < -CLOCK_NS:
                at = (heard[order][1:][back.argmin()] - heard.min()) * 1e-9
                raise DatasetError(
                    f"{name}: stamps jump back by {-back.min() * 1e-9:.1f} s, {at:.1f} s after the "
                    "beginning; keep one episode in a bag"
                )
            if name not in late and name != "commands":  # most of which have none by their type
                self.notes.append(f"{name}: without stamps; the time of receipt is taken")
            yield own

    def _moved(self, name: str, late_ns: np.ndarray) -> int:
        """By how much a stream's stamps are moved to the clock of the recorder."""
        if abs(float(np.median(late_ns))) <= CLOCK_NS:
            return 0
        drift_ns = float(np.ptp(np.percentile(late_ns, [5, 95])))
        if drift_ns > CLOCK_NS / 2:
            raise DatasetError(
                f"{name}: its clock runs at another speed than the recorder's "
                f"({drift_ns * 1e-9:.1f} s apart in the end); give every message a stamp of one "
                "clock"
            )
        moved = int(late_ns.min())
        self.notes.append(f"{name}: stamps are of another clock; moved by {moved * 1e-9:.2f} s")
        return moved

    def _joint_streams(self, stamps: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(K,) stamps and (K, 1) values of each entry of the proprioception."""
        streams = []
        all_ns = np.concatenate(list(stamps.values()))
        rows = np.concatenate([np.stack(self.joints[topic].values) for topic in stamps])
        for column in rows.T:
            known = np.isfinite(column)
            own, index = np.unique(all_ns[known], return_index=True)
            streams.append((own, column[known][index][:, None]))
        return streams

    def _held(self, topic: str, stamps_ns: np.ndarray) -> HeldCommands:
        samples: list[tuple[int, Command]] = list(
            zip(stamps_ns.tolist(), self.commands[topic].values, strict=True)
        )
        own = self.description.topics.get(COMMAND_TOPIC, COMMAND_TOPIC)
        raw = _fits(topic, [own])
        held = hold_commands(samples, self.body.dt_ns, self.limits.command_hold_ns, raw)
        try:  # can it be the robot's action at all?
            raw_actions(held, self.body, 0, self.body.model_dt_ns)
        except ConfigError as error:
            raise DatasetError(f"topic {topic}: {error}") from error
        return held

    # Second pass --------------------------------------------------------------------------

    def _pictures(
        self, aligned: _Aligner, views: dict[str, _View]
    ) -> dict[tuple[str, int], np.ndarray]:
        """Prepared pictures by camera and number of the message on its topic."""
        pictures: dict[tuple[str, int], np.ndarray] = {}
        failures: list[str] = []
        sizes: dict[str, tuple[int, ...]] = {}
        for _ in range(_ROUNDS):
            aligned.choose()
            missing = aligned.wanted() - set(pictures)
            bad = set()
            for name, number, message in self._picture_messages(views, missing):
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
                pictures[name, number] = self._prepared(name, image, views[name])
            if not bad:
                break
            if not pictures:
                raise DatasetError(failures[0])
            aligned.forget(bad)
        else:
            raise DatasetError(f"{len(failures)} pictures cannot be read: {failures[0]}")
        if failures:
            self.notes.append(f"{len(failures)} pictures were passed over ({failures[0]})")
        return pictures

    def _picture_messages(
        self, views: dict[str, _View], wanted: set[tuple[str, int]]
    ) -> Iterator[tuple[str, int, BagMessage]]:
        if not wanted:
            return
        names = {view.topic: name for name, view in views.items()}
        count = dict.fromkeys(names, -1)
        for message in self.bag.messages(set(names)):
            if message.msgtype not in IMAGE_TYPES:
                continue
            count[message.topic] += 1
            key = names[message.topic], count[message.topic]
            if key in wanted:
                yield (*key, message)

    def _prepared(self, name: str, image: np.ndarray, view: _View) -> np.ndarray:
        if view.source is not None:
            return prepare(image, view.source.crop, view.source.size)
        height, width = image.shape[:2]
        size = self.body.image_size
        if height != width or (size != height and not self.any_size):
            raise DatasetError(
                f"topic {view.topic}: pictures of {width}x{height} pixels, the robot's camera "
                f"'{name}' has {size}x{size}"
            )
        return np.ascontiguousarray(image)

    def _built(
        self, aligned: _Aligner, pictures: dict[tuple[str, int], np.ndarray]
    ) -> tuple[Embodiment, tuple[Piece, ...]]:
        names = [camera.name for camera in self.body.cameras]
        size = next(iter(pictures.values())).shape[0]
        pieces = []
        for chain in aligned.pieces:
            images = []
            for frame in chain:
                numbers = aligned.numbers(frame)
                shown = [pictures.get((n, numbers[n])) if n in numbers else None for n in names]
                images.append(mosaic(shown, size))
            pieces.append(
                Piece(
                    np.stack(images),
                    aligned.proprio[chain].astype(np.float32),
                    aligned.actions(chain),
                    aligned.stamps_ns[chain],
                )
            )
        return resized(self.body, size), tuple(pieces)


class _Aligner:
    """Frames, and which of them are a model step apart; see `alignment`.

    Args:
        body: the robot.
        limits: tolerances.
        cameras: (K,) stamps of each camera's pictures, in the order of the messages.
        joints: (K,) stamps and (K, 1) values of each entry of the proprioception.
        held: commands.
    """

    def __init__(
        self,
        body: Embodiment,
        limits: Tolerances,
        cameras: dict[str, np.ndarray],
        joints: list[tuple[np.ndarray, np.ndarray]],
        held: HeldCommands,
    ) -> None:
        self.body, self.limits, self.held, self.joints = body, limits, held, joints
        self.cameras = {}
        for name, stamps in cameras.items():
            ordered, numbers = np.unique(stamps, return_index=True)
            self.cameras[name] = ordered, numbers
        self.required = [c.name for c in body.cameras if not c.optional]
        self.reference = self.required[0]
        self.pieces: list[list[int]] = []
        self._prepare()

    def _prepare(self) -> None:
        """Frames whose partners and joints are known."""
        stamps = self.cameras[self.reference][0]
        gap_ns, end_ns = self.limits.joint_gap_ns, self.body.dt_ns // 2
        felt = np.concatenate(
            [
                interpolate(own, values, stamps, gap_ns, end_ns, entry in self.body.angles)
                for entry, (own, values) in zip(self.body.proprio, self.joints, strict=True)
            ],
            axis=1,
        )
        good = np.isfinite(felt).all(axis=1)
        for name in self.required[1:]:
            others = self.cameras[name][0]
            partner = [nearest(others, int(s), self.limits.image_ns) for s in stamps]
            good &= np.array([index is not None for index in partner])
        self.frames = np.flatnonzero(good)  # indices of the reference camera's pictures
        self.stamps_ns = stamps[self.frames]
        self.proprio = felt[self.frames]

    def _step_ns(self, camera: str) -> int:
        return self.limits.step_of(self.cameras[camera][0], self.body.dt_ns)

    def forget(self, bad: Iterable[tuple[str, int]]) -> None:
        """Pictures that cannot be decoded, by camera and number of the message."""
        for name, number in bad:
            stamps, numbers = self.cameras[name]
            keep = numbers != number
            self.cameras[name] = stamps[keep], numbers[keep]
        self._prepare()

    def choose(self) -> None:
        """Find `pieces`: lists of indices of frames, a model step apart."""

        def is_step(start: int, end: int) -> bool:
            return bool(np.isfinite(self._actions(start, end)).all())

        self.pieces = choose_frames(
            self.stamps_ns, self.body.model_dt_ns, self._step_ns(self.reference), is_step
        )

    def numbers(self, frame: int) -> dict[str, int]:
        """Number of the message on its topic, of each camera that has a picture of this frame."""
        at_ns = int(self.stamps_ns[frame])
        found = {}
        for name, (stamps, numbers) in self.cameras.items():
            index = nearest(stamps, at_ns, self.limits.image_ns)
            if index is not None:
                found[name] = int(numbers[index])
        return found

    def wanted(self) -> set[tuple[str, int]]:
        """Pictures of all pieces, by camera and number of the message."""
        frames = {frame for chain in self.pieces for frame in chain}
        return {pair for frame in frames for pair in self.numbers(frame).items()}

    def actions(self, chain: Sequence[int]) -> np.ndarray:
        """(T - 1, frame_skip * A) float32."""
        steps = [self._actions(a, b) for a, b in zip(chain, chain[1:], strict=False)]
        return np.stack(steps).reshape(len(steps), -1).astype(np.float32)

    def _actions(self, start: int, end: int) -> np.ndarray:
        first, last = int(self.stamps_ns[start]), int(self.stamps_ns[end])
        return raw_actions(self.held, self.body, first, last)

    # The account --------------------------------------------------------------------------

    def account(
        self,
        seconds: float,
        stamps: dict[str, np.ndarray],
        notes: Sequence[str],
        damage: Sequence[str],
    ) -> Account:
        """What was read and what was not."""
        step = self.body.model_dt_ns
        unknown: dict[str, list[tuple[int, int]]] = {}
        holes: dict[str, tuple[int, float]] = {}
        firsts, lasts = [int(self.held.stamps_ns[0])], [int(self.held.ends_ns.max())]
        for name in self.required:
            own = self.cameras[name][0]
            if not len(own):
                raise DatasetError(f"camera {name}: none of its pictures can be decoded")
            far = self._step_ns(name)
            firsts.append(int(own[0]))
            lasts.append(int(own[-1]))
            period = np.median(np.diff(own)) if len(own) > 1 else 0
            pauses = _pauses(own, max(2 * far, int(1.5 * period)))
            unknown[f"camera {name}"] = [(a + far, b - far) for a, b in pauses]
            holes[name] = _hole(pauses)
        pauses = []
        for own, _ in self.joints:
            firsts.append(int(own[0]) - self.body.dt_ns // 2)
            lasts.append(int(own[-1]) + self.body.dt_ns // 2)
            pauses += _pauses(own, self.limits.joint_gap_ns)
        pauses = sorted(set(pauses))
        unknown["joints"], holes["joints"] = pauses, _hole(pauses)
        ends, follow = self.held.ends_ns[:-1], self.held.stamps_ns[1:]
        pauses = [(a, b) for a, b in zip(ends.tolist(), follow.tolist(), strict=True) if b > a]
        unknown["commands"], holes["commands"] = pauses, _hole(pauses)
        start, end = max(firsts), min(lasts)
        kept = sum(len(chain) - 1 for chain in self.pieces)
        possible = max(kept, (end - start) // step)
        lost = _shared_out(possible - kept, self._losses(start, end, unknown))
        rates = {}
        for name, (own, _) in self.cameras.items():
            rates[name] = _rate(own)
        rates["joints"] = min(_rate(own) for own, _ in self.joints)
        rates["commands"] = _rate(np.unique(stamps["commands"]))
        return Account(
            round(seconds, 2),
            rates,
            {name: hole for name, hole in holes.items() if hole[0]},
            int(possible),
            kept,
            lost,
            tuple(notes),
            tuple(damage),
        )

    def _losses(
        self, start: int, end: int, unknown: dict[str, list[tuple[int, int]]]
    ) -> dict[str, float]:
        """Time that is not read, by what is missing the longest in each stretch of it."""
        losses: dict[str, float] = {}
        spans = [(int(self.stamps_ns[c[0]]), int(self.stamps_ns[c[-1]])) for c in self.pieces]
        bounds = [start, *[moment for span in spans for moment in span], end]
        for begin, stop in zip(bounds[::2], bounds[1::2], strict=True):
            if stop <= begin:
                continue
            missing = {
                name: sum(max(0, min(b, stop) - max(a, begin)) for a, b in intervals)
                for name, intervals in unknown.items()
            }
            name = max(missing, key=lambda key: missing[key])
            name = name if missing[name] else "ends"
            losses[name] = losses.get(name, 0.0) + (stop - begin)
        return losses


def _pauses(stamps_ns: np.ndarray, longer_than_ns: int) -> list[tuple[int, int]]:
    index = np.flatnonzero(np.diff(stamps_ns) > longer_than_ns)
    return [(int(stamps_ns[i]), int(stamps_ns[i + 1])) for i in index]


def _hole(pauses: Sequence[tuple[int, int]]) -> tuple[int, float]:
    return len(pauses), round(max((b - a for a, b in pauses), default=0) * 1e-9, 3)


def _rate(stamps_ns: np.ndarray) -> float:
    span = int(stamps_ns[-1] - stamps_ns[0]) if len(stamps_ns) else 0
    return round((len(stamps_ns) - 1) / (span * 1e-9), 1) if span else 0.0


def _shared_out(count: int, parts: dict[str, float]) -> dict[str, int]:
    """`count` whole ones, in proportion to the parts."""
    total = sum(parts.values())
    if not count or not total:
        return {"ends": count} if count else {}
    exact = {name: count * part / total for name, part in parts.items()}
    whole = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in by_rest[: count - sum(whole.values())]:
        whole[name] += 1
    return {name: number for name, number in whole.items() if number}


def _shown(account: Account, body: Embodiment) -> str:
    rates = ", ".join(f"{name} {rate:g} Hz" for name, rate in account.rates_hz.items())
    holes = ", ".join(f"{count} in {name}" for name, (count, _) in account.holes.items())
    return (
        f"{account.seconds:g} s with {rates}; a model step takes {body.model_dt_s:g} s; holes: "
        f"{holes or 'none'}"
    )


def _stamp_of_bytes(data: bytes) -> int:
    """Header stamp of a CDR message that begins with its header, without decoding the rest.

    Raises:
        DatasetError: it is shorter.
    """
    if len(data) < 12:
        raise DatasetError(f"a picture of {len(data)} bytes cannot be decoded")
    order = "<" if data[1] & 1 else ">"  # the encapsulation says so
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
    return seconds * 10**9 + nanoseconds


def _fits(topic: str, names: Iterable[str]) -> bool:
    """Whether a topic is one of these, in any namespace."""
    return any(f"/{topic.strip('/')}".endswith(f"/{name.strip('/')}") for name in names)


def _find(topics: Iterable[str], names: Sequence[str]) -> str | None:
    """The topic of one of these names, the first names first; or, in a namespace, the only one.

    Raises:
        DatasetError: several namespaces have it.
    """
    topics = list(topics)
    for name in names:
        for topic in topics:
            if topic.strip("/") == name.strip("/"):
                return topic
    for name in names:
        found = sorted(topic for topic in topics if _fits(topic, [name]))
        if len(found) > 1:
            raise DatasetError(
                f"topics {' and '.join(found)}: an episode has one robot; give a robot file that "
                "names its topics"
            )
        if found:
            return found[0]
    return None
