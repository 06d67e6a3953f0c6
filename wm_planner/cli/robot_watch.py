"""What a command sees of a robot on its way to a goal: distances, replans, limits, pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from wm_planner.cli.filmed import EpisodeFilm
from wm_planner.cli.planned_cuts import PlannedCuts
from wm_planner.data.prepare import prepare
from wm_planner.errors import ImageSourceError
from wm_planner.robot import CameraSource, RobotFile
from wm_planner.ros.base import NodeBase
from wm_planner.ros.command_topics import type_on_graph
from wm_planner.ros.conversions import (
    image_array,
    image_message,
    joint_state_message,
    to_ns,
)
from wm_planner.ros.diagnostics import ERROR, values_of
from wm_planner.ros.qos import LATCHED, RECORD, SENSOR
from wm_planner.ros.robot_view import PICTURES, View
from wm_planner.runtime.arrival import Arrival, proprio_distance
from wm_planner.runtime.safety import Reason

NO_IMAGE = np.zeros((0, 0, 3), np.uint8)  # clears a goal
PLANNER, INPUTS = "planner_node: plan", "planner_node: inputs"
CONTROLLER = "controller_node: command"
REFUSALS = tuple(reason.value for reason in Reason if reason.refused)


@dataclass
class Newest:
    """The newest numbers, NaN before the first.

    Attributes:
        proprio, picture: distances to the goal.
        cost: of the plan.
        plan_seconds: that it took.
    """

    proprio: float = math.nan
    picture: float = math.nan
    cost: float = math.nan
    plan_seconds: list[float] = field(default_factory=list)


class Watch:
    """Sets the goal, and watches what becomes of it.

    Args:
        node: to listen and publish with.
        robot: that is watched.
        picture: (S, C * S, 3) uint8 of the goal.
        proprio: (P,) of the goal, or None.
        arrival: is told of every distance.
        film: is shown everything; or None.
        report: takes one line of text.

    Attributes:
        newest: distances and cost.
        planned_cuts: what limits would change of the plans.
        accepted: the planner knows the goal.
        telling: the robot is on its way: each replan is reported, and the film runs.
        lacking: why there is no plan, as the planner says; empty: there is.
        controller: why its newest command is what it is.
        controller_active: it may move the robot.
        judged: somebody else tells the film the distance.
    """

    def __init__(
        self,
        node: NodeBase,
        robot: RobotFile,
        picture: np.ndarray,
        proprio: np.ndarray | None,
        arrival: Arrival,
        film: EpisodeFilm | None,
        report: Callable[[str], None],
    ) -> None:
        self._node, self._robot, self._body = node, robot, robot.embodiment
        self._arrival, self._film, self._report = arrival, film, report
        self.newest = Newest()
        self.accepted = self.telling = self.judged = False
        self.controller = self._wrong = ""
        self.controller_active = False
        self.lacking = ""
        self._goal_ns: int | None = None
        self._sharper = False
        self._begin_s = time.monotonic()
        self.view = View(node, self._body, robot.joint_states, self._on_picture, self._on_proprio)
        self.planned_cuts = PlannedCuts(node, robot, lambda: self.view.proprio, report)
        self._goal_image = node.create_publisher(Image, "goal/image", LATCHED)
        self._goal_state = node.create_publisher(JointState, "goal/joint_states", LATCHED)
        node.create_subscription(Header, "goal/accepted", self._on_accepted, LATCHED)
        node.hear_diagnostics(self._on_diagnostics)
        node.create_subscription(JointTrajectory, "plan", self._on_plan, RECORD)
        if film is not None:
            node.create_subscription(Image, "plan/imagined", self._on_imagined, RECORD)
        self.aim(picture, proprio)

    @property
    def seconds(self) -> float:
        """Since the goal was set."""
        return time.monotonic() - self._begin_s

    @property
    def planned(self) -> bool:
        """Whether there was a plan for the goal as it is set now."""
        return bool(self.newest.plan_seconds)

    def aim(self, picture: np.ndarray, proprio: np.ndarray | None) -> None:
        """Another goal; `set_goal` sends it."""
        self._picture, self._proprio = picture, proprio
        if self._film is not None:
            self._film.add_goal(picture[:, : picture.shape[0]])

    def set_goal(self) -> None:
        """Send the goal, as a new one: what belongs to an older one is forgotten."""
        stamp_ns = self._node.get_clock().now().nanoseconds
        self._arrival.clear()
        self.newest, self.accepted, self._goal_ns = Newest(), False, stamp_ns
        self.planned_cuts.forget()
        self._begin_s = time.monotonic()
        if self._proprio is not None:
            state = joint_state_message(self._proprio, self._body.proprio, stamp_ns)
            self._goal_state.publish(state)
        self._goal_image.publish(image_message(self._picture, stamp_ns))

    def clear_goal(self) -> None:
        """There is nothing to go to any more: the planner's plans end, and the robot rests."""
        self._goal_ns = None
        stamp_ns = self._node.get_clock().now().nanoseconds
        self._goal_image.publish(image_message(NO_IMAGE, stamp_ns))

    def _on_accepted(self, message: Header) -> None:
        self.accepted |= to_ns(message.stamp) == self._goal_ns

    def _on_proprio(self, stamp_ns: int, proprio: np.ndarray) -> None:
        if self._proprio is None or self._goal_ns is None:
            return
        self.newest.proprio = proprio_distance(proprio, self._proprio, self._body)
        self._arrival.add("proprio", stamp_ns, self.newest.proprio)
        if self._film is not None and not self.judged:
            self._film.add_distance(stamp_ns, self.newest.proprio)

    def _on_picture(self, stamp_ns: int, picture: np.ndarray) -> None:
        if self._film is None or not self.telling:
            return
        self._look_for_driver()
        if not self._sharper:
            self._film.add_picture(stamp_ns, picture[:, : picture.shape[0]])

    def _look_for_driver(self) -> None:
        """The driver's own picture of the first camera has more pixels than the planner's."""
        source = next(iter(self._robot.cameras.values()))
        if self._sharper or source.source != "topic":
            return
        kind = PICTURES.get(type_on_graph(self._node, source.topic) or "")
        if kind is not None:
            self._sharper = True
            callback = partial(self._on_driver_picture, source)
            self._node.create_subscription(kind, source.topic, callback, SENSOR)

    def _on_driver_picture(self, source: CameraSource, message: Image | CompressedImage) -> None:
        try:
            picture = image_array(message)
        except ImageSourceError:  # the camera node says so
            return
        side = min(picture.shape[:2] if source.crop is None else source.crop[2:])
        if self._film is not None and self.telling:
            picture = prepare(picture, source.crop, side)
            now_ns = self._node.get_clock().now().nanoseconds
            self._film.add_picture(to_ns(message.header.stamp) or now_ns, picture)

    def _on_imagined(self, message: Image) -> None:
        tiles = image_array(message)
        side, width = tiles.shape[0], tiles.shape[0] * len(self._body.cameras)
        last = tiles[:, -width:][:, :side]
        if self._film is not None:
            self._film.add_imagined(to_ns(message.header.stamp), last)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == PLANNER:
                self._on_replan(status)
            elif status.name == INPUTS:
                self._on_inputs(status)
            elif status.name == CONTROLLER:
                self._on_controller(status)

    def _on_replan(self, status: DiagnosticStatus) -> None:
        if status.level == ERROR:
            self._report(f"no plan: {status.message}")
            return
        values = values_of(status)
        stamp_ns = int(values["stamp_ns"])
        if self._goal_ns is None or stamp_ns < self._goal_ns:
            return  # of another goal
        newest = self.newest
        newest.cost, newest.picture = float(values["cost"]), float(values["picture_distance"])
        newest.plan_seconds.append(float(values["plan_seconds"]))
        self._arrival.add("picture", stamp_ns, newest.picture)
        if self._film is not None:
            self._film.add_replan(stamp_ns, newest.plan_seconds[-1])
        if self.telling:
            self._report(self.line())

    def _on_inputs(self, status: DiagnosticStatus) -> None:
        """Say once why there is no plan, and when there is again."""
        before, self.lacking = self.lacking, status.message if status.level == ERROR else ""
        if self.telling and bool(before) != bool(self.lacking):
            self._report(self.lacking or "planning goes on")

    def worst_entry(self) -> str:
        """The entry of the proprioception that is furthest from the goal."""
        felt = self.view.proprio
        if felt is None or self._proprio is None:
            return "the proprioception"
        single = [
            proprio_distance(
                np.where(np.arange(len(felt)) == i, felt, self._proprio), self._proprio, self._body
            )
            for i in range(len(felt))
        ]
        return self._body.proprio[int(np.argmax(single))]

    def line(self) -> str:
        """The newest numbers for people."""
        newest = self.newest
        proprio = "" if math.isnan(newest.proprio) else f"proprio {newest.proprio:7.3f}  "
        replan = f"{1000 * newest.plan_seconds[-1]:5.0f} ms" if newest.plan_seconds else "none"
        return (
            f"{self.seconds:6.1f} s  cost {newest.cost:9.4f}  {proprio}"
            f"picture {newest.picture:8.4f}  replan {replan}"
        )

    def _on_controller(self, status: DiagnosticStatus) -> None:
        values = values_of(status)
        self.controller_active = values["active"] == "true"
        before, self.controller = self.controller, values["reason"]
        changed = before != self.controller and self.telling and self.planned
        if changed and self.controller in REFUSALS:
            self._report(f"the controller refuses, and sends its safe command: {status.message}")
        elif status.level == ERROR and self.telling and self._wrong != status.message:
            self._report(f"the controller says: {status.message}")
        self._wrong = status.message if status.level == ERROR else ""

    def _on_plan(self, message: JointTrajectory) -> None:
        if message.points and to_ns(message.header.stamp) >= (self._goal_ns or 0):
            self.planned_cuts.add(message)
