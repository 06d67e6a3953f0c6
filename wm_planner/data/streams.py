"""The streams of a bag: all but its pictures is read, and which topic has which part is found."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from wm_planner.data.alignment import tolerances
from wm_planner.data.bags import Bag, BagMessage
from wm_planner.data.clocks import Samples
from wm_planner.data.held_commands import HeldCommands, hold_commands, raw_actions
from wm_planner.data.messages import Command, command_of, joint_values
from wm_planner.data.messages import stamp_ns as header_stamp_ns
from wm_planner.data.obedience import Interval, joined, refusals
from wm_planner.data.recording_message import (
    RECORDING_TOPIC,
    Description,
    outcome_of,
    parse_description,
)
from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError, DatasetError, raised_as
from wm_planner.robot import CameraSource, Record, RobotFile, observation_topic
from wm_planner.robot_state import TOPIC as STATE_TOPIC
from wm_planner.robot_state import StateTopic
from wm_planner.tasks import get_task, resized

JOINT_TOPIC = "joint_states"
COMMAND_TOPIC = "command_sent"
EPISODE_TOPIC = "episode"

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
JOINT_TYPE = "sensor_msgs/msg/JointState"
EPISODE_TYPE = "diagnostic_msgs/msg/DiagnosticStatus"
_NOT_SEEN = ("goal/image", "plan/imagined", "goal/joint_states")


@dataclass(frozen=True)
class View:
    """Where a camera's pictures are, and what is made of them."""

    topic: str
    source: CameraSource | None  # None: the camera node has prepared them


class Streams:
    """Reads a bag once, all but its pictures.

    Args:
        bag: to read.
        embodiment: of the robot; None: as the robot file or the bag says.
        robot: names topics, crops and tolerances of a bag that does not explain itself.
        frame_skip: raw actions per model step; None: the embodiment's.

    Attributes:
        body: the robot.
        limits: tolerances.
        description, events, outcome: what the bag says of itself.
        any_size: pictures may have another size than the embodiment's.
        notes: what was mended or passed over.

    Raises:
        DatasetError: the bag does not say of which robot it is, and nothing else does.
    """

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
        record = self.record
        self.limits = tolerances(
            self.body, record.image_tolerance_s, record.joint_gap_s, record.command_hold_s
        )
        self.images: dict[str, Samples] = {}
        self.joints: dict[str, Samples] = {}
        self.joint_names: dict[str, list[str]] = {}
        self.commands: dict[str, Samples] = {}
        self.command_errors: dict[str, list[str]] = {}
        self._obeyed: dict[str, list[tuple[int, bool]]] = {}  # by topic: receipt, and whether
        self._states: dict[str, StateTopic] = (
            {} if robot is None else {state.topic: state for state in robot.state}
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
        elif name == STATE_TOPIC and message.msgtype == EPISODE_TYPE:
            obeyed = int(message.decode().level) == 0
            self._obeyed.setdefault(message.topic, []).append((message.stamp_ns, obeyed))

    # All messages once --------------------------------------------------------------------

    def collect(self) -> None:
        """Read them.

        Raises:
            DatasetError: the bag is of another robot than the file's.
        """
        undecoded = 0
        for message in self.bag.messages():
            topic = message.topic
            if _fits(topic, _NOT_SEEN):
                continue
            try:
                if message.msgtype in IMAGE_TYPES:
                    samples = self.images.setdefault(topic, Samples())
                    samples.add(_stamp_of_bytes(message.data), message.stamp_ns)
                elif _fits(topic, self._command_names()):
                    self._add_command(message)
                elif state := self._state_of(message):
                    good = state.is_good(state.value(message.decode()))
                    self._obeyed.setdefault(topic, []).append((message.stamp_ns, good))
                elif message.msgtype == JOINT_TYPE:
                    self._add_joints(message)
                else:
                    self._hear(message)
            except (DatasetError, ConfigError) as error:
                if message.topic.rpartition("/")[2] == RECORDING_TOPIC:
                    raise
                undecoded += 1
                if undecoded == 1:
                    self.bag.damage.append(str(error))
        if undecoded > 1:
            self.bag.damage.append(f"{undecoded} messages cannot be decoded")
        recorded = self.description.embodiment
        if self.robot is not None and recorded is not None:
            difference = self.robot.embodiment.difference(recorded)
            if difference is not None:
                raise DatasetError(
                    f"was recorded with '{recorded.name}', which is not the robot of the file, "
                    f"'{self.robot.name}': {difference}"
                )

    def _state_of(self, message: BagMessage) -> StateTopic | None:
        for topic, state in self._states.items():
            if _fits(message.topic, [topic]) and message.msgtype == state.type:
                return state
        return None

    def disobeyed(self, command_topic: str, stamps_ns: np.ndarray) -> list[Interval]:
        """When the robot did not execute the commands of a topic, (K,) stamps, by what it said."""
        found = []
        for topic, samples in self._obeyed.items():
            ages = [s.max_age_s for name, s in self._states.items() if _fits(topic, [name])]
            age_ns = None if not ages or ages[0] is None else round(ages[0] * 1e9)
            found += refusals(samples, self.body.dt_ns, age_ns)
        for topic in self._states:
            if STATE_TOPIC in {name.rpartition("/")[2] for name in self._obeyed}:
                break  # the recorder knew
            if not any(_fits(name, [topic]) for name in self._obeyed):
                self.notes.append(
                    f"topic {topic} was not recorded: nobody knows when the robot did not obey"
                )
        receipts_ns = np.array(self.commands[command_topic].receipts_ns, np.int64)
        offset_ns = int(np.median(stamps_ns - receipts_ns))  # from the recorder's clock
        return joined((begin + offset_ns, end + offset_ns) for begin, end in found)

    def _add_joints(self, message: BagMessage) -> None:
        decoded, topic = message.decode(), message.topic
        known = self.joint_names.setdefault(topic, [])
        known += [name for name in decoded.name if name not in known]
        values = joint_values(decoded, self.body.proprio)
        samples = self.joints.setdefault(topic, Samples())
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
        samples = self.commands.setdefault(topic, Samples())
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

    def views(self) -> dict[str, View]:
        """Of each camera that was recorded.

        Raises:
            DatasetError: one that is needed was not.
        """
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

    def _view(self, camera: str) -> View | None:
        source = None if self.robot is None else self.robot.cameras.get(camera)
        if source is not None and source.topic:
            topic = _find(self.images, [source.topic, f"{source.topic}/compressed"])
            if topic is not None:
                return View(topic, source)
        topic = _find(self.images, [self._prepared_topic(camera)])
        if topic is not None:
            return View(topic, None)
        needed = [c.name for c in self.body.cameras if not c.optional]
        if needed == [camera] and len(self.images) == 1:
            (topic,) = self.images
            self.notes.append(f"pictures of camera {camera} are taken from topic {topic}")
            return View(topic, source)
        return None

    def joint_topics(self) -> list[str]:
        """The topic that carries the proprioception; or several that do so together.

        Raises:
            DatasetError: nothing does, or two robots do.
        """
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

    def command_topic(self) -> str:
        """The topic of what the robot was told.

        Raises:
            DatasetError: none carries the robot's action.
        """
        heard = [topic for topic, samples in self.commands.items() if len(samples)]
        topic = next(filter(None, (_find(heard, [name]) for name in self._command_names())), None)
        if topic is not None:
            errors = self.command_errors.get(topic, [])
            if errors:
                self.notes.append(
                    f"{len(errors)} messages on topic {topic} were passed over ({errors[0]})"
                )
            if others := sorted({*heard} - {topic}):
                self.notes.append(
                    f"commands are taken from topic {topic}, not from {', '.join(others)}"
                )
            return topic
        for topic, errors in self.command_errors.items():
            raise DatasetError(f"topic {topic}: {errors[0]}")
        names = ", ".join(self._command_names())
        raise DatasetError(
            f"topic {names} has no messages; was it recorded? A robot file names the topic of "
            "others' commands by record: {commands: ...}"
        )

    def operator_topic(self, topic: str) -> str | None:
        """Where an operator commanded the robot while commands on `topic` were silent, if so."""
        if not _fits(topic, [self.description.topics.get(COMMAND_TOPIC, COMMAND_TOPIC)]):
            return None
        name = str(self.description.commands.get("topic", ""))
        found = _find([t for t, samples in self.commands.items() if len(samples)], [name])
        return None if not name or found == topic else found

    # Their values -------------------------------------------------------------------------

    def joint_streams(self, stamps: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(K,) stamps and (K, 1) values of each entry of the proprioception."""
        streams = []
        all_ns = np.concatenate(list(stamps.values()))
        rows = np.concatenate([np.stack(self.joints[topic].values) for topic in stamps])
        for column in rows.T:
            known = np.isfinite(column)
            own, index = np.unique(all_ns[known], return_index=True)
            streams.append((own, column[known][index][:, None]))
        return streams

    def held(self, topic: str, stamps_ns: np.ndarray) -> HeldCommands:
        """What the commands on a topic, (K,) stamps, told the robot at any time.

        Raises:
            DatasetError: they are not the robot's action.
        """
        samples: list[tuple[int, Command]] = list(
            zip(stamps_ns.tolist(), self.commands[topic].values, strict=True)
        )
        own = self.description.topics.get(COMMAND_TOPIC, COMMAND_TOPIC)
        raw = _fits(topic, [own])
        held = hold_commands(samples, self.body.dt_ns, self.limits.command_hold_ns, raw)
        with raised_as(DatasetError, ConfigError, before=f"topic {topic}: "):
            raw_actions(held, self.body, 0, self.body.model_dt_ns)  # can it be the robot's at all?
        return held


def _stamp_of_bytes(data: bytes) -> int:
    """Header stamp of a CDR message that begins with its header, without decoding the rest.

    Raises:
        DatasetError: it is shorter.
    """
    if len(data) < 12:
        raise DatasetError(f"a picture of {len(data)} bytes cannot be decoded")
    order = "<" if data[1] & 1 else ">"  # the encapsulation says so
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
    return int(seconds * 10**9 + nanoseconds)


def is_goal_picture(message: BagMessage) -> bool:
    """Whether it shows where the robot was sent to."""
    return message.msgtype in IMAGE_TYPES and _fits(message.topic, ("goal/image",))


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
