"""A node that watches a run: one line per replan, and the numbers and pictures for its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from wm_planner.cli.filmed import EpisodeFilm, Ring
from wm_planner.cli.run_record import RunRecord
from wm_planner.ros.base import NodeBase
from wm_planner.ros.conversions import image_array, to_ns
from wm_planner.ros.diagnostics import values_of
from wm_planner.ros.qos import COMMAND, EVENTS, LATCHED, RELIABLE
from wm_planner.ros.ready import ReadyReport


class MonitorNode(NodeBase):
    """Subscribes what a `RunRecord` wants to know.

    Args:
        report: takes one line of text.
        make_film: see `RunRecord`.
        options: of `rclpy.node.Node`, for example ``context``.
    """

    def __init__(
        self,
        report: Callable[[str], None],
        make_film: Callable[[], EpisodeFilm] = EpisodeFilm,
        **options: Any,
    ) -> None:
        super().__init__("monitor", None, **options)
        self.record = RunRecord(make_film)
        self._report = report
        self._progress: Mapping[str, str] = {}
        # In causal order: of several messages that wait, the executor serves the first listed
        # subscription first, so that a plan is seen before the command that follows from it.
        self.create_subscription(DiagnosticStatus, "episode", self._on_episode, EVENTS)
        self.create_subscription(Image, "goal/image", self._on_goal, LATCHED)
        self.hear_diagnostics(self._on_diagnostics)
        self.create_subscription(Image, "observation/image", self._on_image, RELIABLE)
        self.create_subscription(Image, "plan/imagined", self._on_imagined, RELIABLE)
        self.create_subscription(JointTrajectory, "plan", self._on_plan, COMMAND)
        self.create_subscription(JointTrajectory, "command_sent", self._on_command, RELIABLE)
        heard = ("goal/image", "observation/image", "plan/imagined", "plan", "command_sent")
        self._ready = ReadyReport(self, self._status, heard)

    def _on_episode(self, message: DiagnosticStatus) -> None:
        self._ready.stop()
        values = values_of(message)
        episode = int(values["episode"])
        if message.message == "start":
            ring = values.get("ring")  # x, y and radius, of tasks that can draw it
            seen = None if ring is None else Ring(*map(float, ring.split()))
            self.record.start_episode(episode, int(values["stamp_ns"]), seen)
            return
        success, steps = values["success"] == "true", int(values["num_steps"])
        distance = float(values["distance"])
        if self.record.end_episode(episode, success, steps, distance):
            result = "goal reached" if success else "goal not reached"
            self._report(f"episode {episode}: {result}, {steps} steps, distance {distance:.3f}")

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "bridge_node: step":
                self._on_progress(values_of(status))
            elif status.name == "planner_node: plan":
                self._on_replan(status)

    def _on_progress(self, values: Mapping[str, str]) -> None:
        self._progress = values
        self.record.add_distance(int(values["stamp_ns"]), float(values["distance"]))

    def _on_replan(self, status: DiagnosticStatus) -> None:
        values = values_of(status)
        if "plan_seconds" not in values:
            self._report(f"no plan: {status.message}")
            return
        seconds = float(values["plan_seconds"])
        self.record.add_replan(int(values["stamp_ns"]), seconds)
        episode, step = (self._progress.get(key, "?") for key in ("episode", "step"))
        distance = float(self._progress.get("distance", "nan"))
        self._report(
            f"episode {episode}  step {step:>3}  distance {distance:8.3f}  "
            f"cost {float(values['cost']):9.4f}  replan {1000 * seconds:6.0f} ms"
        )

    def _on_goal(self, message: Image) -> None:
        if message.height:  # height 0 clears the goal
            self.record.add_goal(to_ns(message.header.stamp), image_array(message))

    def _on_image(self, message: Image) -> None:
        now_s = time.monotonic()
        self.record.add_image(to_ns(message.header.stamp), image_array(message), now_s)

    def _on_imagined(self, message: Image) -> None:
        self.record.add_imagined(to_ns(message.header.stamp), image_array(message))

    def _on_plan(self, message: JointTrajectory) -> None:
        self.record.add_plan(to_ns(message.header.stamp), time.monotonic())

    def _on_command(self, message: JointTrajectory) -> None:
        self.record.add_command(to_ns(message.header.stamp), time.monotonic())
