"""Finetune node: records what really happened, one rosbag2 (MCAP) bag per episode.

It keeps the command that was sent, not the one that was planned: training on plans would teach a
robot that does not exist. Training itself is a separate process ('wm-planner train').
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from wm_planner.data.recording_message import RECORDING_TOPIC
from wm_planner.errors import ConfigError, DatasetError, WriteError
from wm_planner.nodes.finetune_config import FinetuneConfig
from wm_planner.robot_state import TOPIC
from wm_planner.ros.base import NodeBase
from wm_planner.ros.command_topics import CommandTopic
from wm_planner.ros.diagnostics import ERROR, OK, WARN, array, status, values_of
from wm_planner.ros.qos import EVENTS, LATCHED, RECORD, recorded
from wm_planner.ros.ready import ReadyReport
from wm_planner.ros.robot_state import StateRecord
from wm_planner.ros.run import run_node
from wm_planner.runtime.disk_budget import GB, DiskBudget, note_episode
from wm_planner.runtime.episode_end import EpisodeEnd
from wm_planner.runtime.episode_events import EpisodeClock, EpisodeEvent, parse_event
from wm_planner.runtime.recorder import EpisodeRecorder, Note

IMAGINED = "plan/imagined"
COMMANDS = "commands"  # name of the topic on which others command the robot
_STAMP_BYTES = 4 + 8  # of a message: the encapsulation and the stamp, which differ each time
LATE_S = 1.0  # a camera whose last picture is older than this has no say in when an episode ends
_TYPES = {
    "joint_states": JointState,
    "command_sent": JointTrajectory,
    "plan": JointTrajectory,
    IMAGINED: Image,
    "goal/image": Image,
    "goal/joint_states": JointState,
    "/diagnostics": DiagnosticArray,
}


class FinetuneNode(NodeBase):
    """Episodes come from the topic ``episode``, or from the node's services."""

    def __init__(self, **options: Any) -> None:
        super().__init__("finetune_node", FinetuneConfig, **options)
        config = self.config
        self._recorder = EpisodeRecorder(Path(config.output), compress=config.compress)
        self._budget = DiskBudget(Path(config.output), round(config.budget_gb * GB))
        self._episode_clock = EpisodeClock(simulated=config.lockstep)
        self._events: deque[tuple[EpisodeEvent, DiagnosticStatus]] = deque()
        images = list(config.cameras.values())
        answers = {"joint_states": "command_sent", images[0]: "plan"} if config.lockstep else {}
        self._end = EpisodeEnd(images[0], answers)
        self._goals: dict[str, Note] = {}
        self._names: dict[str, str] = {}  # of the topics in a bag -> of this package
        self._count = 0
        self._next_name = ""
        self._manual: EpisodeEvent | None = None
        self._dropping = False
        self._plans_with: dict[str, str] | None = None
        self._last_bag: Path | None = None
        self._disk_failed = False
        for topic, kind in {**dict.fromkeys(images, Image), **_TYPES}.items():
            if topic == IMAGINED and not config.imagined:
                continue
            profile = recorded(config.lockstep) if kind in (Image, JointState) else RECORD
            if topic.startswith("goal/"):
                profile = LATCHED
            self._subscribe(topic, kind, profile, topic)
        self._commands = CommandTopic(
            self, config.commands, config.commands_type, partial(self._subscribe, name=COMMANDS)
        )
        self.hear_diagnostics(self._on_told)
        self._robot = StateRecord(self, config.states, self._on_robot_state)
        self.create_subscription(DiagnosticStatus, "episode", self._on_event, EVENTS)
        self.create_subscription(String, "~/episode_name", self._on_name, LATCHED)
        services: dict[str, Callable[..., Trigger.Response]] = {
            "start_episode": self._on_start,
            "end_episode": partial(self._on_end, ""),
            "success": partial(self._on_end, "success"),
            "failure": partial(self._on_end, "failure"),
            "drop": self._on_drop,
        }
        for service, answer in services.items():
            self.create_service(Trigger, f"~/{service}", answer)
        self._progress = self.create_publisher(DiagnosticArray, "~/status", 10)
        heard = ["joint_states", *images]
        if config.checkpoint or config.lockstep:
            heard += ["command_sent", "plan"]
        self._ready = ReadyReport(self, self._status, heard, lambda: self._commands.heard)
        self.create_timer(0.1, self._on_tick)
        self.create_timer(0.5, self._on_half_second)
        self._look_for_commands()

    def close(self) -> None:
        """Close the running bag."""
        self._recorder.end(self._now_ns())

    # Messages ------------------------------------------------------------------------------

    def _subscribe(self, topic: str, kind: type, profile: QoSProfile, name: str) -> Subscription:
        """Record `topic`, which this package calls `name`."""
        resolved, kind_name = self.resolve_topic_name(topic), _type_name(kind)
        self._names[resolved] = name
        sample = name == "joint_states" or name in self.config.cameras.values()

        def on_message(data: bytes, info: dict[str, int]) -> None:
            stamp_ns = None
            if hasattr(kind, "header"):
                # The stamp lies after the 4-byte encapsulation header, little-endian on every
                # machine ROS 2 supports.
                seconds, nanoseconds = struct.unpack_from("<iI", data, 4)
                stamp_ns = seconds * 10**9 + nanoseconds
            if name.startswith("goal/"):
                self._goals[name] = Note(resolved, kind_name, data)
            log_ns = self._episode_clock.log_ns(stamp_ns, self._received_ns(info), sample)
            if log_ns is not None:
                self._recorded(lambda: self._recorder.add(resolved, kind_name, data, log_ns))
                self._end.saw(name, log_ns)

        callback: Any = on_message  # rclpy's annotation knows only those without `info`
        return self.create_subscription(kind, topic, callback, profile, raw=True)

    def _on_told(self, message: DiagnosticArray) -> None:
        """Which checkpoint plans now: it may be exchanged while the planner runs."""
        for told in message.status:
            if told.name == "planner_node: checkpoint":
                values = values_of(told)
                self._plans_with = {"name": values["checkpoint"], "sha256": values["sha256"]}

    def _on_robot_state(self, message: DiagnosticStatus) -> None:
        """Whether the robot executes its commands, as the bag keeps it."""
        log_ns = self._episode_clock.log_ns(None, self._now_ns(), False)
        if log_ns is not None:
            topic, kind = self.resolve_topic_name(TOPIC), _type_name(DiagnosticStatus)
            data = serialize_message(message)
            self._recorded(lambda: self._recorder.add(topic, kind, data, log_ns))

    def _received_ns(self, info: dict[str, int]) -> int:
        """When the middleware received a message: this node may have been held up since."""
        now_ns, received_ns = self._now_ns(), info.get("received_timestamp", 0)
        return received_ns if 0 <= now_ns - received_ns < 60 * 10**9 else now_ns

    def _heading(self) -> Note:
        """What a bag begins with: of which robot it is, and who drove it."""
        # A robot file may have remapped the topics.
        topics = {name: topic for topic, name in self._names.items()}
        about = self.config.recording(topics, self._plans_with)
        data = serialize_message(String(data=json.dumps(about)))
        return Note(self.resolve_topic_name(RECORDING_TOPIC), _type_name(String), data)

    # Episodes ------------------------------------------------------------------------------

    def _on_event(self, message: DiagnosticStatus) -> None:
        """An event of the topic; one that cannot be read must not end the recorder."""
        self._ready.stop()
        try:
            values = values_of(message)
            event = parse_event(message.message, values)
        except DatasetError as error:
            self.get_logger().error(f"ignored: {error}")
            return
        if event.kind == "end" and "outcome" not in values:
            told = [*message.values, KeyValue(key="outcome", value=event.outcome)]
            message = DiagnosticStatus(
                level=message.level, name=message.name, message=message.message, values=told
            )
        self._events.append((event, message))
        self._process_events()

    def _on_tick(self) -> None:
        self._end.tick()
        self._process_events()

    def _process_events(self) -> None:
        """Handle events in order; an end waits for its episode, a start behind it too."""
        while self._events and self._is_due(self._events[0][0]):
            self._handle(*self._events.popleft())

    def _is_due(self, event: EpisodeEvent) -> bool:
        if event.kind != "end" or not self._recorder.recording:
            return True
        self._recorder.expect_end(event.stamp_ns)
        return self._end.is_complete(event.stamp_ns)

    def _handle(self, event: EpisodeEvent, message: DiagnosticStatus) -> None:
        stamp_ns = event.stamp_ns
        if event.kind == "start":
            if self._is_over(event):
                return
            notes = [self._heading()]
            path = self._recorded(lambda: self._recorder.start(event.name, stamp_ns, notes))
            if path is not None:
                self.get_logger().info(f"recording {path}")
        topic, data = self.resolve_topic_name("episode"), serialize_message(message)
        kind = _type_name(DiagnosticStatus)
        self._recorded(partial(self._recorder.add, topic, kind, data, stamp_ns))
        if event.kind == "end":
            self._close_bag(event)

    def _close_bag(self, event: EpisodeEvent) -> None:
        path = self._recorded(lambda: self._recorder.end(event.stamp_ns))
        self._last_bag, dropping = path, self._dropping
        self._dropping = False
        if path is None:
            return
        if dropping:
            self._drop_last()
            return
        goal = self._goals.get("goal/image")
        digest = "" if goal is None else f"{zlib.crc32(goal.data[_STAMP_BYTES:]):08x}"
        note_episode(path, event.outcome, digest)
        self.get_logger().info(f"closed {path}")
        for removed in self._budget.make_room(path):
            self.get_logger().warning(f"removed {removed}: the directory has used up its budget")
        self._tell("closed", event.stamp_ns, path, event.outcome)

    def _drop_last(self) -> Path | None:
        """Move the last closed bag out of the way."""
        path, self._last_bag = self._last_bag, None
        if path is None:
            return None
        target = self._recorded(lambda: self._recorder.drop(path))
        if target is not None:
            self.get_logger().info(f"dropped {path}: it lies in {target}")
            self._tell("dropped", self._episode_clock.now_ns(self._now_ns()), target, "")
        return target

    def _tell(self, what: str, stamp_ns: int, path: Path, outcome: str) -> None:
        told = {"end_stamp_ns": stamp_ns, "path": path, "outcome": outcome, **self._counted()}
        closed = status(f"{self.get_name()}: bag", OK, what, told)
        self._status.publish(array(stamp_ns, closed))

    def _counted(self) -> dict[str, Any]:
        """Seconds and messages by topic of the bag being written, or else of the last one."""
        counts = self._recorder.counts
        named = {f"count {name}": counts.get(topic, 0) for topic, name in self._names.items()}
        return {"seconds": self._recorder.seconds, **named}

    def _is_over(self, event: EpisodeEvent) -> bool:
        """Latched events of an episode that ended before this node came."""
        ended = any(
            later.kind == "end" and later.episode == event.episode for later, _ in self._events
        )
        return ended and self._end.newest_ns < event.stamp_ns

    # Services ------------------------------------------------------------------------------

    def _on_name(self, message: String) -> None:
        self._next_name = message.data

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._manual is not None or (self._recorder.recording and not self._events):
            fault = self._recorder.fault
            response.message = f"{self._recorder.path} is being recorded; end it first"
            if fault:
                response.message = f"an episode runs that is not recorded ({fault}); end it first"
            return response
        stamp_ns = self._episode_clock.now_ns(self._now_ns())
        self._count = max(self._count, self._recorder.free_number())
        values: dict[str, Any] = {"episode": self._count, "stamp_ns": stamp_ns}
        if self._next_name:
            values["name"], self._next_name = self._next_name, ""
        message = status("episode", OK, "start", values)
        self._manual = parse_event("start", values_of(message))
        self._count += 1
        self._on_event(message)
        for note in self._goals.values():
            # The goal was set before: the bag must hold it all the same.
            add = partial(self._recorder.add, note.topic, note.msgtype, note.data, stamp_ns)
            self._recorded(add)
        waits = bool(self._events)
        response.success = waits or self._recorder.recording
        response.message = str(self._manual.name if waits else self._recorder.path)
        if not response.success:
            self._manual = None
            response.message = self._recorder.fault or "no bag was opened; see the recorder's log"
        return response

    def _on_end(
        self, outcome: str, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if self._manual is None:
            response.message = "no episode is being recorded; call start_episode first"
            return response
        response.success = self._recorder.recording or bool(self._events)
        response.message = str(self._recorder.path)
        if not response.success:
            response.message = f"the end is not recorded: {self._recorder.fault}"
        self._end_manual(outcome)
        return response

    def _end_manual(self, outcome: str) -> None:
        """End the episode that a service began."""
        assert self._manual is not None
        now_ns = self._episode_clock.now_ns(self._now_ns())
        newest_ns = self._end.newest_ns
        # The last picture ends it; a camera that is silent does not.
        end_ns = newest_ns if now_ns - newest_ns <= LATE_S * 1e9 else now_ns
        values = {
            "episode": self._manual.episode,
            "name": self._manual.name,
            "stamp_ns": max(min(now_ns, end_ns), self._manual.stamp_ns),
            "outcome": outcome,
        }
        self._manual = None
        self._on_event(status("episode", OK, "end", values))

    def _on_drop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        if self._manual is not None or any(event.kind == "end" for event, _ in self._events):
            self._dropping, response.message = True, f"{self._recorder.path} is dropped"
            if self._manual is not None:
                self._end_manual("")
        else:
            path = self._last_bag
            target = self._drop_last()
            response.success = target is not None
            response.message = f"{path} is dropped: it lies in {target}"
            if target is None:
                response.message = "there is no episode to drop"
        return response

    # The rest ------------------------------------------------------------------------------

    def _on_half_second(self) -> None:
        self._recorded(self._recorder.flush)
        self._watch_disk()
        self._look_for_commands()
        if self._recorder.recording:
            told = {"path": self._recorder.path, **self._counted()}
            running = status(f"{self.get_name()}: recording", OK, "recording", told)
            self._progress.publish(array(self._now_ns(), running))

    def _watch_disk(self) -> None:
        """Say that bags cannot be written; go on with the episode when they can be again."""
        stamp_ns = self._episode_clock.now_ns(self._now_ns())
        path = self._recorded(lambda: self._recorder.go_on(stamp_ns, [self._heading()]))
        if path is not None:
            self.get_logger().info(f"the recording goes on in {path}")
        fault = self._recorder.fault
        warning = self._budget.warning()
        if fault or warning or self._disk_failed:
            level, said = (ERROR, f"not recorded: {fault}") if fault else (OK, "bags are written")
            if warning and not fault:
                level, said = WARN, warning
            told = status(f"{self.get_name()}: disk", level, said, {"output": self.config.output})
            self._status.publish(array(self._now_ns(), told))
        self._disk_failed = bool(fault or warning)

    def _look_for_commands(self) -> None:
        try:
            self._commands.look()
        except ConfigError as error:
            self.get_logger().error(f"commands: {error}", throttle_duration_sec=10.0)

    def _recorded(self, action: Callable[[], Any]) -> Any:
        """A full disk ends the bag, not the robot's run."""
        try:
            return action()
        except (DatasetError, WriteError) as error:
            self.get_logger().error(f"not recorded: {error}", throttle_duration_sec=5.0)
            return None

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def _type_name(kind: type) -> str:
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def main(args: list[str] | None = None) -> None:
    """Entry point."""
    run_node(FinetuneNode, args)


if __name__ == "__main__":
    main()
