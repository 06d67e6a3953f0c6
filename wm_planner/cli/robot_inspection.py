"""Listening to all that a robot file names, and what was found there, part by part."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from wm_planner.cli.robot_findings import (
    Party,
    camera_lines,
    command_lines,
    joint_lines,
    limit_lines,
    wanted_joints,
)
from wm_planner.cli.robot_report import (
    Heard,
    Line,
    clock_lines,
    fine,
    note,
    rate_lines,
    row_of,
    wrong,
)
from wm_planner.cli.robot_session import NAME
from wm_planner.cli.robot_space import space_lines, state_lines
from wm_planner.errors import ConfigError, ImageSourceError
from wm_planner.robot import DESCRIPTION, CameraSource, RobotFile
from wm_planner.robot_state import StateTopic
from wm_planner.ros.command_topics import command_type, type_on_graph
from wm_planner.ros.conversions import image_array
from wm_planner.ros.robot_state import StateWatch
from wm_planner.ros.robot_view import PICTURES
from wm_planner.runtime.image_source import open_source

LOOK_S = 0.1  # between two looks for topics that have appeared

JOINTS = {"sensor_msgs/msg/JointState": JointState}


@dataclass
class Section:
    """Part of the report.

    Attributes:
        title: line above it.
        lines: findings.
        row: of the table of topics.
    """

    title: str
    lines: list[Line]
    row: tuple[str, ...] | None = None


@dataclass
class Watched:
    """A topic that is listened to.

    Attributes:
        topic: its name.
        kinds: message types that will do.
        heard: by what tells messages of one topic apart: the joints' names.
        newest: message bytes of each.
        kind: message type, once it is known and will do.
    """

    topic: str
    kinds: Mapping[str, type]
    heard: dict[tuple[str, ...], Heard] = field(default_factory=dict)
    newest: dict[tuple[str, ...], bytes] = field(default_factory=dict)
    kind: str = ""

    def messages(self) -> list[Any]:
        """The newest message of each."""
        return [deserialize_message(data, self.kinds[self.kind]) for data in self.newest.values()]


class Inspection:
    """Listens to all that a robot file names.

    Args:
        node: to listen with.
        robot: the file.
    """

    def __init__(self, node: Node, robot: RobotFile) -> None:
        self._node, self._robot = node, robot
        self._joints = Watched(robot.joint_states, JOINTS)
        self._cameras = {
            name: Watched(source.topic, PICTURES)
            for name, source in robot.cameras.items()
            if source.source == "topic"
        }
        self._description: str | None = None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        topic = robot.topics.get(DESCRIPTION, DESCRIPTION)
        node.create_subscription(String, topic, self._on_description, latched)
        self._states = {state.topic: _watch(node, state) for state in robot.state}
        node.create_timer(LOOK_S, self._look_for_all)

    def hears_all(self) -> bool:
        """Whether all that the robot must publish has been heard."""
        watched = [self._joints, *self._cameras.values()]
        states = [watch for watch in self._states.values() if isinstance(watch, StateWatch)]
        described = not self._robot.needs_description or self._description is not None
        described &= not any(watch.why_not() for watch in states)
        return described and all(topic.heard for topic in watched)

    def begin(self) -> None:
        """What was heard until now came while partners were still being found."""
        for topic in [self._joints, *self._cameras.values()]:
            topic.heard.clear()
            topic.newest.clear()

    def sections(self) -> list[Section]:
        """The report."""
        robot = self._robot
        cameras = [
            self._camera_section(name, source, self._cameras.get(name))
            for name, source in robot.cameras.items()
        ]
        positions = {
            name: value
            for message in (self._joints.messages() if self._joints.heard else [])
            for name, value in zip(message.name, message.position, strict=False)
        }
        return [
            self._joint_section(),
            *cameras,
            self._command_section(),
            self._record_section(),
            Section("limits", list(limit_lines(robot, self._description, positions))),
            Section("free space", list(space_lines(robot, self._description, positions))),
            Section("robot's state", list(state_lines(robot, self._disobeys()))),
        ]

    def _disobeys(self) -> dict[str, str]:
        """By topic of the robot's state, why it does not execute commands."""
        return {
            topic: watch if isinstance(watch, str) else watch.why_not()
            for topic, watch in self._states.items()
        }

    def _on_description(self, message: String) -> None:
        self._description = message.data

    def _look_for_all(self) -> None:
        """Subscribe to what has appeared."""
        for topic in [self._joints, *self._cameras.values()]:
            self._look(topic)
        for watch in self._states.values():
            if isinstance(watch, StateWatch):
                watch.look()

    def _look(self, watched: Watched) -> None:
        if watched.kind:
            return
        for party in self._parties(watched.topic, self._node.get_publishers_info_by_topic):
            if party.kind not in watched.kinds:
                continue
            watched.kind = party.kind

            def on_message(data: bytes, info: dict[str, int]) -> None:
                self._on_message(watched, data, info)

            # A driver may publish best effort: a reliable subscription would never match it.
            profile = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
            callback: Any = on_message  # rclpy's annotation knows only those without `info`
            kind = watched.kinds[watched.kind]
            self._node.create_subscription(kind, watched.topic, callback, profile, raw=True)
            return

    def _on_message(self, watched: Watched, data: bytes, info: dict[str, int]) -> None:
        seconds, nanoseconds = struct.unpack_from("<iI", data, 4)  # the header comes first
        names: tuple[str, ...] = ()
        if watched is self._joints:
            names = tuple(deserialize_message(data, JointState).name)
        received_ns = info.get("received_timestamp") or self._node.get_clock().now().nanoseconds
        heard = watched.heard.setdefault(names, Heard())
        heard.add(seconds * 10**9 + nanoseconds, received_ns)
        watched.newest[names] = data

    def _parties(self, topic: str, ask: Callable[[str], Any]) -> list[Party]:
        """Publishers or subscribers of a topic, without this command."""
        found = []
        for info in ask(self._node.resolve_topic_name(topic)):
            name = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            if info.node_name != NAME:
                found.append(Party(name, info.topic_type))
        return found

    def _absent(self, watched: Watched, optional: bool = False) -> list[Line]:
        """Why nothing was heard of a topic."""
        self._look(watched)  # what appeared last is not of a wrong type
        parties = self._parties(watched.topic, self._node.get_publishers_info_by_topic)
        wanted = " or ".join(watched.kinds)
        if watched.kind:
            names = ", ".join(party.name for party in parties) or "its publisher"
            text = f"no message came, although {names} publishes it: is the device on?"
        elif parties:
            kinds = ", ".join(sorted({party.kind for party in parties}))
            text = f"{watched.topic} is of type {kinds}, expected {wanted}"
        else:
            there = dict(self._node.get_topic_names_and_types())
            near = sorted(t for t, kinds in there.items() if set(kinds) & set(watched.kinds))
            hint = f"topics of that type: {', '.join(near)}" if near else "no topic has that type"
            text = f"nobody publishes {watched.topic} ({wanted}); {hint}"
        return [note(f"{text} (optional)") if optional else wrong(text)]

    def _arm(self) -> Heard:
        """Messages that hold most of the arm's joints."""
        wanted = set(wanted_joints(self._robot))
        best = max(self._joints.heard, key=lambda names: len(wanted & set(names)), default=None)
        return Heard() if best is None else self._joints.heard[best]

    def _joint_section(self) -> Section:
        robot, heard = self._robot, self._arm()
        lines = self._absent(self._joints)
        if self._joints.heard:
            lines = list(joint_lines(robot, self._joints.messages()))
            lines += clock_lines(heard, robot.stale_after_s)
            why = f"a control period of {robot.control_dt_s:g} s"
            hole_s = robot.record.joint_gap_s or max(0.1, 2 * robot.control_dt_s)
            lines += rate_lines(heard, 1 / robot.control_dt_s, why, hole_s)
        row = row_of(robot.joint_states, self._joints.kind or "-", heard)
        return Section(f"joints  {robot.joint_states}", lines, row)

    def _camera_section(self, name: str, source: CameraSource, watched: Watched | None) -> Section:
        robot, title = self._robot, f"camera {name}  {source.topic or source.source}"
        if watched is None:
            return Section(title, _device_lines(source))
        heard = watched.heard.get((), Heard())
        lines = self._absent(watched, source.optional)
        if heard.count:
            (message,) = watched.messages()
            encoding = getattr(message, "encoding", "") or getattr(message, "format", "")
            try:
                lines = list(camera_lines(source, image_array(message), encoding))
            except ImageSourceError as error:
                lines = [wrong(str(error))]
            step_s = robot.embodiment.model_dt_s
            lines += clock_lines(heard, robot.stale_after_s)
            lines += rate_lines(heard, 1 / step_s, f"a model step of {step_s:g} s", step_s / 2)
        return Section(title, lines, row_of(source.topic, watched.kind or "-", heard))

    def _command_section(self) -> Section:
        topic, node = self._robot.command.topic, self._node
        lines = command_lines(
            self._robot,
            self._parties(topic, node.get_subscriptions_info_by_topic),
            self._parties(topic, node.get_publishers_info_by_topic),
            dict(node.get_topic_names_and_types()),
        )
        return Section(f"command  {topic}", list(lines))

    def _record_section(self) -> Section:
        topic = self._robot.record.commands
        if not topic:
            why = "nothing to record of what others drive with: write record: {commands: TOPIC}"
            return Section("record", [note(f"{why}; 'explore' and 'run' need none")])
        title = f"record  {topic}"
        try:
            kind = type_on_graph(self._node, self._node.resolve_topic_name(topic))
            if kind is None:
                return Section(title, [note("nobody publishes it now; drive, then look again")])
            command_type(kind)
        except ConfigError as error:
            return Section(title, [wrong(str(error))])
        return Section(title, [fine(f"commands of others are recorded as {kind}")])


def _watch(node: Node, state: StateTopic) -> StateWatch | str:
    """Of one topic; or why there is none."""
    try:
        return StateWatch(node, [state])
    except ConfigError as error:
        return str(error)


def _device_lines(source: CameraSource) -> list[Line]:
    """Whether a device, file or URL gives pictures."""
    try:
        with closing(open_source(source.source)) as capture:
            picture = capture.read()
    except ImageSourceError as error:
        return [note(str(error)) if source.optional else wrong(str(error))]
    if picture is None:
        return [wrong(f"{source.source} has no picture in it")]
    return list(camera_lines(source, picture, ""))
