"""The page's node: it watches a robot's graph, sets goals, and calls the controller's services."""

from __future__ import annotations

import math
from concurrent.futures import Future
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError, WmPlannerError
from wm_planner.files import parse_json
from wm_planner.models.catalog import CARD, embodiment_of_card, read_card, resolve_checkpoint
from wm_planner.robot import Arrived, RobotFile
from wm_planner.ros.base import NodeBase
from wm_planner.ros.conversions import (
    image_array,
    image_message,
    joint_state_message,
    proprio_array,
    to_ns,
)
from wm_planner.ros.diagnostics import values_of
from wm_planner.ros.qos import COMMAND, EVENTS, LATCHED, RECORD, RELIABLE
from wm_planner.ros.robot_view import View
from wm_planner.runtime.arrival import proprio_distance
from wm_planner.view.answer import answer_of
from wm_planner.view.board import Board, Replan
from wm_planner.view.driver import SimulatedDriver

NAME = "view_node"
LOOK_S = 0.5
NO_IMAGE = np.zeros((0, 0, 3), np.uint8)  # clears a goal
LEVELS = {30: "warning", 40: "error", 50: "fatal"}  # of rcl_interfaces/msg/Log
CONTROLLER, PLANNER = "controller_node", "planner_node"


class ViewNode(NodeBase):
    """Writes what it hears on a board.

    It publishes goals and nothing else: never commands, never plans.

    Args:
        board: that the page shows.
        robot: its file tells the topics' names and when a goal is reached; None: the planner's
            parameters and topics tell what they can.
        options: of `rclpy.node.Node`.

    Attributes:
        body: the robot's embodiment; None: not known yet.
        view: newest pictures and joints; None as long as the embodiment is not known.
    """

    def __init__(
        self, board: Board | None = None, robot: RobotFile | None = None, **options: Any
    ) -> None:
        super().__init__(NAME, None, **options)
        self.board = Board() if board is None else board
        self.body: Embodiment | None = None
        self.view: View | None = None
        self._robot = robot
        self._checkpoint = ""
        self._asked = False  # the planner for its parameters
        self._goal_ns: int | None = None
        self._goal_joints: JointState | None = None
        self._goal_proprio: np.ndarray | None = None
        self._accepted: dict[int, Future] = {}
        self._out_image = self.create_publisher(Image, "goal/image", LATCHED)
        self._out_joints = self.create_publisher(JointState, "goal/joint_states", LATCHED)
        self._asked_for = {
            f"{node}/{name}": self.create_client(kind, f"{node}/{name}")
            for node, name, kind in (
                (CONTROLLER, "change_state", ChangeState),
                (CONTROLLER, "get_state", GetState),
                (CONTROLLER, "stop", Trigger),
                (PLANNER, "get_parameters", GetParameters),
            )
        }
        self.hear_diagnostics(self._on_diagnostics)
        self.create_subscription(DiagnosticStatus, "episode", self._on_episode, EVENTS)
        self.create_subscription(Image, "goal/image", self._on_goal, LATCHED)
        self.create_subscription(JointState, "goal/joint_states", self._on_goal_joints, LATCHED)
        self.create_subscription(Header, "goal/accepted", self._on_accepted, LATCHED)
        self.create_subscription(Image, "plan/imagined", self._on_imagined, RELIABLE)
        self.create_subscription(JointTrajectory, "plan", self._on_plan, COMMAND)
        self.create_subscription(JointTrajectory, "command_sent", self._on_command, RECORD)
        self.create_subscription(Log, "/rosout", self._on_log, RECORD)
        self.driver: SimulatedDriver | None = None
        if robot is not None:
            self._checkpoint = robot.checkpoint
            self._know(robot.embodiment, robot.joint_states)
            if robot.driver is not None:
                self.driver = SimulatedDriver(self, robot, robot.driver.name, self.board)
        self.create_timer(LOOK_S, self._look)

    # For the server, from its thread -------------------------------------------------------

    def ask(self, service: str, request: Any) -> Future:
        """Call one of the services of controller and planner; the answer comes as a future."""
        return answer_of(self._asked_for[service].call_async(request))

    def is_there(self, service: str) -> bool:
        """Whether a service answers."""
        return bool(self._asked_for[service].service_is_ready())

    def set_goal(self, picture: np.ndarray, proprio: np.ndarray | None) -> Future:
        """Send a goal; the future is done when the planner says that it has it.

        Args:
            picture: (S, C * S, 3) uint8; of height 0 it clears the goal.
            proprio: (P,) or None.
        """
        accepted: Future = Future()
        stamp_ns = self.get_clock().now().nanoseconds
        self._accepted = {stamp_ns: accepted}  # one before is of no interest any more
        if proprio is not None and self.body is not None:
            self._out_joints.publish(joint_state_message(proprio, self.body.proprio, stamp_ns))
        self._out_image.publish(image_message(picture, stamp_ns))
        return accepted

    # What comes in --------------------------------------------------------------------------

    def _know(self, body: Embodiment, joint_states: str) -> None:
        self.body, self.board.robot = body, body.name
        self.view = View(self, body, joint_states, self._on_picture, self._on_proprio)
        arrived = Arrived() if self._robot is None else self._robot.arrived
        tolerances = {"proprio": arrived.proprio, "picture": arrived.picture}
        if self._checkpoint and arrived.picture is None:
            tolerances["picture"] = _calibrated(self._checkpoint, body.name)
        self.board.episodes.set_tolerances(tolerances, arrived.for_s)

    def _look(self) -> None:
        """Who is there; a planner is asked once for its robot."""
        here = self.get_namespace()
        nodes = {name for name, where in self.get_node_names_and_namespaces() if where == here}
        self.board.nodes = frozenset(nodes - {NAME})
        if self.body is not None or PLANNER not in nodes:
            return
        service = f"{PLANNER}/get_parameters"
        if not self._asked and self.is_there(service):
            self._asked = True
            request = GetParameters.Request(names=["embodiment", "checkpoint"])
            self.ask(service, request).add_done_callback(self._on_parameters)

    def _on_parameters(self, answer: Future) -> None:
        try:
            body, checkpoint = (value.string_value for value in answer.result().values)
            self._checkpoint = checkpoint
            self._know(_embodiment(body, checkpoint), self._joint_topic())
            self.board.problem = ""
        except (WmPlannerError, ValueError, LookupError) as error:
            self._asked = False  # it may still be starting
            self.board.problem = (
                f"which robot the planner plans for is not known ({error}); give the robot file: "
                "wm-planner view FILE"
            )

    def _joint_topic(self) -> str:
        """The planner's topic of joint states, which a robot file may have named differently.

        Raises:
            LookupError: it does not listen to one.
        """
        goal = self.resolve_topic_name("goal/joint_states")
        heard = self.get_subscriber_names_and_types_by_node(PLANNER, self.get_namespace())
        names = [topic for topic, types in heard if "sensor_msgs/msg/JointState" in types]
        names = [name for name in names if name != goal]
        if len(names) != 1:
            raise LookupError(f"it listens to {len(names)} topics of joint states")
        return names[0]

    def _on_picture(self, stamp_ns: int, picture: np.ndarray) -> None:
        self.board.show("camera", picture, stamp_ns)

    def _on_proprio(self, stamp_ns: int, proprio: np.ndarray) -> None:
        if self._goal_proprio is not None and self.body is not None:
            value = proprio_distance(proprio, self._goal_proprio, self.body)
            self.board.episodes.measure("proprio", stamp_ns, value)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(": listening"):
                continue
            values = values_of(status)
            self.board.tell(status.name, status.level[0], status.message, values)
            if status.name == f"{PLANNER}: plan":
                self._on_replan(values)
            elif status.name == f"{CONTROLLER}: command":
                self.board.episodes.controller(values.get("active") == "true")
            elif status.name == "bridge_node: step":
                self.board.episodes.distance(float(values["distance"]))

    def _on_replan(self, values: dict[str, str]) -> None:
        if "plan_seconds" not in values:
            return  # no plan was found
        stamp_ns, wall_s = int(values["stamp_ns"]), self.get_clock().now().nanoseconds * 1e-9
        cost, picture, proprio, plan_s = (
            float(values.get(key, math.nan))
            for key in ("cost", "picture_distance", "proprio_distance", "plan_seconds")
        )
        self.board.replanned(Replan(stamp_ns, wall_s, cost, picture, proprio, plan_s))
        self.board.episodes.measure("picture", stamp_ns, picture)

    def _on_episode(self, message: DiagnosticStatus) -> None:
        values = values_of(message)
        number = int(values["episode"])
        if message.message == "start":
            self.board.episodes.event("start", number)
        elif message.message == "end":
            result = {"steps": int(values["num_steps"]), "distance": float(values["distance"])}
            success = values["success"] == "true"
            self.board.episodes.event("end", number, success=success, **result)

    def _on_goal(self, message: Image) -> None:
        stamp_ns = to_ns(message.header.stamp)
        self._goal_proprio = None
        if message.height == 0:
            self._goal_ns = None
            self.board.show("goal", None)
            self.board.episodes.cleared()
            return
        self._goal_ns = stamp_ns
        self.board.show("goal", image_array(message))
        self.board.episodes.goal(stamp_ns, knows_joints=False)
        self._join_goal()

    def _on_goal_joints(self, message: JointState) -> None:
        self._goal_joints = message
        self._join_goal()

    def _join_goal(self) -> None:
        """The goal's joints, where they belong to its picture."""
        joints = self._goal_joints
        if joints is None or self.body is None or to_ns(joints.header.stamp) != self._goal_ns:
            return
        try:
            self._goal_proprio = proprio_array(joints, self.body.proprio)
        except ConfigError:  # the planner refuses them, too, and says so
            return
        self.board.episodes.goal(self._goal_ns, knows_joints=True)

    def _on_accepted(self, message: Header) -> None:
        accepted = self._accepted.pop(to_ns(message.stamp), None)
        if accepted is not None and not accepted.done():
            accepted.set_result(True)

    def _on_imagined(self, message: Image) -> None:
        self.board.show("imagined", image_array(message))

    def _on_plan(self, message: JointTrajectory) -> None:
        if message.points:
            self.board.planned(to_ns(message.header.stamp))

    def _on_command(self, message: JointTrajectory) -> None:
        self.board.commanded(to_ns(message.header.stamp))

    def _on_log(self, message: Log) -> None:
        prefix = self.get_namespace().strip("/").replace("/", ".")
        name = message.name.removeprefix(f"{prefix}.") if prefix else message.name
        level = LEVELS.get(int(message.level))
        if level and (not prefix or name != message.name) and name != NAME:
            self.board.log(name, level, message.msg)


def _embodiment(text: str, checkpoint: str) -> Embodiment:
    """Of the planner's parameters.

    Raises:
        WmPlannerError: the checkpoint cannot be read here.
    """
    if text:
        return Embodiment.from_json(parse_json(text, "embodiment"), "embodiment")
    directory = resolve_checkpoint(checkpoint, None)
    return embodiment_of_card(read_card(directory / CARD), directory)


def _calibrated(checkpoint: str, name: str) -> float | None:
    """The picture's tolerance that training has found; None where the checkpoint is not here."""
    try:
        info = read_card(resolve_checkpoint(checkpoint, name) / CARD)["info"]
    except WmPlannerError:
        return None
    found = info.get("arrived") if isinstance(info, dict) else None
    return float(found["picture"]) if isinstance(found, dict) and "picture" in found else None
