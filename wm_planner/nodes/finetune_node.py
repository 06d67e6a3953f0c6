"""Finetune node: records what really happened, one rosbag2 (MCAP) bag per episode.

It keeps the command that was sent, not the one that was planned: training on plans would teach a
robot that does not exist. Training itself is a separate process ('wm-planner train').
"""

from __future__ import annotations

import struct
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from wm_planner.errors import DatasetError
from wm_planner.ros.diagnostics import OK, array, status, values_of
from wm_planner.ros.parameters import param, read_parameters
from wm_planner.ros.qos import EVENTS, LATCHED, RECORD, recorded
from wm_planner.ros.ready import ReadyReport
from wm_planner.ros.run import run_node
from wm_planner.runtime.episode_end import EpisodeEnd
from wm_planner.runtime.recorder import EpisodeRecorder

IMAGE_TOPIC = "observation/image"
LOCKSTEP_ANSWERS = {"joint_states": "command_sent", IMAGE_TOPIC: "plan"}
_TYPES = {
    IMAGE_TOPIC: Image,
    "joint_states": JointState,
    "command_sent": JointTrajectory,
    "plan": JointTrajectory,
    "plan/imagined": Image,
    "goal/image": Image,
    "goal/joint_states": JointState,
    "/diagnostics": DiagnosticArray,
}


@dataclass(frozen=True)
class FinetuneConfig:
    """Parameters of the finetune node."""

    output: str = param("runs/bags", "directory that receives one bag per episode")
    lockstep: bool = param(False, "the simulator waits: lose no sample")


class FinetuneNode(Node):
    """Episodes come from the ``episode`` topic, or from the services start_ and end_episode."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            "finetune_node", automatically_declare_parameters_from_overrides=True, **options
        )
        self.config = read_parameters(self, FinetuneConfig)
        self._recorder = EpisodeRecorder(Path(self.config.output))
        self._events: deque[DiagnosticStatus] = deque()
        self._end = EpisodeEnd(IMAGE_TOPIC, LOCKSTEP_ANSWERS if self.config.lockstep else {})
        self._goals: dict[str, tuple[str, bytes]] = {}
        self._count = 0
        for topic, kind in _TYPES.items():
            profile = recorded(self.config.lockstep) if kind in (Image, JointState) else RECORD
            if topic.startswith("goal/"):
                profile = LATCHED
            self._subscribe(topic, kind, profile)
        self.create_subscription(DiagnosticStatus, "episode", self._on_event, EVENTS)
        self.create_service(Trigger, "~/start_episode", self._on_start)
        self.create_service(Trigger, "~/end_episode", self._on_end)
        self._status = self.create_publisher(DiagnosticArray, "/diagnostics", RECORD)
        heard = ("joint_states", "command_sent", "plan", IMAGE_TOPIC)
        self._ready = ReadyReport(self, self._status, heard)
        self.create_timer(0.1, self._on_tick)
        self.create_timer(0.5, self._flush)

    def close(self) -> None:
        """Close the running bag."""
        self._recorder.end(self._now_ns())

    def _subscribe(self, topic: str, kind: type, profile: QoSProfile) -> None:
        name = self.resolve_topic_name(topic)
        kind_name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"

        def on_message(data: bytes) -> None:
            # Every recorded type begins with its header: the stamp lies after the 4-byte
            # encapsulation header, little-endian on every machine ROS 2 supports.
            seconds, nanoseconds = struct.unpack_from("<iI", data, 4)
            stamp_ns = seconds * 10**9 + nanoseconds
            if topic.startswith("goal/"):
                self._goals[topic] = (kind_name, data)
            self._guarded(lambda: self._recorder.add(name, kind_name, data, stamp_ns))
            self._end.saw(topic, stamp_ns)

        self.create_subscription(kind, topic, on_message, profile, raw=True)

    def _on_event(self, message: DiagnosticStatus) -> None:
        self._ready.stop()
        self._events.append(message)
        self._process_events()

    def _on_tick(self) -> None:
        self._end.tick()
        self._process_events()

    def _process_events(self) -> None:
        """Handle events in order; an end waits for its episode, a start behind it too."""
        while self._events and self._is_due(self._events[0]):
            self._handle(self._events.popleft())

    def _is_due(self, message: DiagnosticStatus) -> bool:
        if message.message != "end":
            return True
        stamp_ns = int(values_of(message)["stamp_ns"])
        self._recorder.expect_end(stamp_ns)
        return self._end.is_complete(stamp_ns)

    def _handle(self, message: DiagnosticStatus) -> None:
        values = values_of(message)
        stamp_ns = int(values["stamp_ns"])
        if message.message == "start":
            if self._is_over(values["episode"], stamp_ns):
                return
            name = f"episode_{int(values['episode']):04d}"
            path = self._guarded(lambda: self._recorder.start(name, stamp_ns))
            self.get_logger().info(f"recording {path}")
        topic, kind = self.resolve_topic_name("episode"), "diagnostic_msgs/msg/DiagnosticStatus"
        data = serialize_message(message)
        self._guarded(partial(self._recorder.add, topic, kind, data, stamp_ns))
        if message.message == "end":
            path = self._guarded(lambda: self._recorder.end(stamp_ns))
            self.get_logger().info(f"closed {path}")
            told = {"end_stamp_ns": stamp_ns, "path": path}
            closed = status(f"{self.get_name()}: bag", OK, "closed", told)
            self._status.publish(array(stamp_ns, closed))

    def _is_over(self, episode: str, start_ns: int) -> bool:
        """Latched events of an episode that ended before this node came."""
        ended = any(
            later.message == "end" and values_of(later)["episode"] == episode
            for later in self._events
        )
        return ended and self._end.newest_ns < start_ns

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        stamp_ns = self._now_ns()
        values = {"episode": self._count, "stamp_ns": stamp_ns}
        self._on_event(status("episode", OK, "start", values))
        for topic, (kind, data) in self._goals.items():
            # The goal was set before: the bag must hold it all the same.
            name = self.resolve_topic_name(topic)
            self._guarded(partial(self._recorder.add, name, kind, data, stamp_ns))
        response.success = self._recorder.recording
        response.message = str(self._recorder.path)
        return response

    def _on_end(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._recorder.recording
        response.message = str(self._recorder.path)
        values = {"episode": self._count, "stamp_ns": min(self._now_ns(), self._end.newest_ns)}
        self._on_event(status("episode", OK, "end", values))
        self._count += 1
        return response

    def _flush(self) -> None:
        self._guarded(self._recorder.flush)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """A full disk ends the bag, not the robot's run."""
        try:
            return action()
        except DatasetError as error:
            self.get_logger().error(f"not recorded: {error}", throttle_duration_sec=5.0)
            return None

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run_node(FinetuneNode, args)


if __name__ == "__main__":
    sys.exit(main())
