"""Marker node: the plan, the robot's place and the goal as markers for RViz."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import Point
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import ColorRGBA, String
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from wm_planner.data.messages import joint_values
from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError
from wm_planner.kinematics.tip import Tip
from wm_planner.nodes.planner_config import embodiment_parameter
from wm_planner.robot import DESCRIPTION, INTERFACE
from wm_planner.ros import diagnostics
from wm_planner.ros.base import NodeBase
from wm_planner.ros.conversions import plan_from_message, to_ns
from wm_planner.ros.parameters import param
from wm_planner.ros.qos import COMMAND, LATCHED, RELIABLE, SENSOR
from wm_planner.ros.run import run_node
from wm_planner.runtime.plan_path import joint_path, twist_path

PLANAR_FRAME = "world"
PLAN, ROBOT, GOAL, URDF = "plan", "robot", "goal", "URDF"
DRAW_S = 0.1
COLOURS = {PLAN: (1.0, 0.55, 0.0), ROBOT: (0.2, 0.45, 1.0), GOAL: (0.15, 0.75, 0.25)}
LINE_M, BALL_M = 0.01, 0.03


@dataclass(frozen=True)
class MarkerConfig:
    """Parameters of the marker node."""

    embodiment: str = param("", "of the robot, as JSON")
    tip: str = param("", "link of the URDF that is drawn; empty: the last that the action moves")
    frame_id: str = param("base_link", "of a twist where no URDF is published")
    metres: float = param(1.0, "that a position of 1 is drawn as, without a URDF", low=1e-6)
    step: float = param(
        0.0, "how far an action of 1 leads in a control period, in positions; 0: by its unit", low=0
    )

    def __post_init__(self) -> None:
        _ = self.body

    @property
    def body(self) -> Embodiment:
        """The robot.

        Raises:
            ConfigError: the parameter is empty or no embodiment.
        """
        body = embodiment_parameter(self.embodiment)
        if body is None:
            raise ConfigError("embodiment: is empty; give what the robot is, as JSON")
        return body


class MarkerNode(NodeBase):
    """Publishes ``plan/markers``; a diagnostic says what it cannot draw, and why.

    With a ``robot_description`` the way of the tip is drawn, in the frame of the URDF's root.
    Without one, two joints are a place in a plane, and a twist moves ``frame_id``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("marker_node", MarkerConfig, **options)
        self._body, self._action = self.config.body, self.config.body.action
        self._tip: Tip | None = None
        self._joints: JointState | None = None
        self._goal_ns = 0
        self._goal: JointState | None = None
        self._drawn = True  # the joint states that have come
        self._whys = {ROBOT: "no joint states have come"}  # what is not drawn -> why
        self._out = self.create_publisher(MarkerArray, "plan/markers", RELIABLE)
        self.create_subscription(String, DESCRIPTION, self._on_description, LATCHED)
        self.create_subscription(JointState, "joint_states", self._on_joints, SENSOR)
        self.create_subscription(JointTrajectory, "plan", self._on_plan, COMMAND)
        self.create_subscription(Image, "goal/image", self._on_goal, LATCHED)
        self.create_subscription(JointState, "goal/joint_states", self._on_goal_joints, LATCHED)
        self.create_timer(DRAW_S, self._draw)
        self.create_timer(1.0, self._report)

    @property
    def _names(self) -> tuple[str, ...]:
        """Joints that the action moves; none of a twist."""
        return () if self._action.is_twist else self._action.names

    @property
    def _frame(self) -> str:
        if self._tip is not None:
            return self._tip.frame
        return self.config.frame_id if self._action.is_twist else PLANAR_FRAME

    def _on_description(self, message: String) -> None:
        try:
            self._tip = Tip(message.data, self._names, self.config.tip)
        except ConfigError as error:
            self._whys[URDF] = f"the URDF cannot be drawn: {error}"
            self.get_logger().error(self._whys[URDF])
        else:
            self._whys.pop(URDF, None)

    def _on_joints(self, message: JointState) -> None:
        if set(self._names) <= set(message.name):  # no other device on the same topic
            self._joints, self._drawn = message, False

    def _draw(self) -> None:
        """Robot and goal where they are now: joint states come faster than anybody can look."""
        if self._drawn or self._joints is None:
            return
        self._drawn = True
        self._show(ROBOT, self._points(self._positions(self._joints)[None], self._joints))
        self._show_goal()

    def _on_goal(self, message: Image) -> None:
        self._goal_ns = to_ns(message.header.stamp) if message.height else 0
        self._show_goal()

    def _on_goal_joints(self, message: JointState) -> None:
        self._goal = message
        self._show_goal()

    def _show_goal(self) -> None:
        goal = self._goal
        if goal is None or not self._goal_ns or to_ns(goal.header.stamp) != self._goal_ns:
            self._hide(GOAL)
        else:
            self._show(GOAL, self._points(self._positions(goal)[None], goal))

    def _on_plan(self, message: JointTrajectory) -> None:
        if not message.points or self._joints is None:
            self._hide(PLAN)
            return
        action, body = self._action, self._body
        try:
            plan = plan_from_message(message, action.names, INTERFACE[action.kind], body.dt_ns)
        except ValueError as error:
            self._hide(PLAN, f"the plan cannot be drawn: {error}")
            return
        if action.is_twist:
            way = twist_path(action.names, plan.actions, body.control_dt_s, self._tip is None)
            start = self._points(np.zeros((1, 0)), self._joints)
            self._show(PLAN, way if isinstance(start, str) else way + start)
            return
        unit = body.control_dt_s if action.kind == "velocity" else 1.0
        step = self.config.step or unit
        path = joint_path(action.kind, plan.actions, self._positions(self._joints), step)
        if path is None:
            self._hide(PLAN, "where efforts lead is not known: no way is drawn")
        else:
            self._show(PLAN, self._points(path, self._joints))

    def _positions(self, message: JointState) -> np.ndarray:
        return joint_values(message, [f"{name}/position" for name in self._names])

    def _points(self, path: np.ndarray, joints: JointState) -> np.ndarray | str:
        """(H, 3) metres of (H, A) positions, or why nobody knows where that is."""
        if not np.isfinite(path).all():
            return "a position is not finite"
        if self._tip is not None:
            self._tip.sense(dict(zip(joints.name, joints.position, strict=False)))
            return self._tip.points(path)
        if len(self._names) == 2:
            return np.column_stack([self.config.metres * path, np.zeros(len(path))])
        if self._action.is_twist:
            return ""  # it is where its frame is: RViz shows that
        return "where the tip is is not known: nobody publishes robot_description"

    def _show(self, what: str, points: np.ndarray | str) -> None:
        """Draw points of a name, or tell why there are none."""
        if isinstance(points, str):
            self._hide(what, points)
            return
        self._whys.pop(what, None)
        self._publish(what, points)

    def _hide(self, what: str, why: str = "") -> None:
        """Draw nothing of a name; empty: there is nothing that could be drawn."""
        self._whys.pop(what, None)
        if why:
            self._whys[what] = why
        self._publish(what, None)

    def _publish(self, what: str, points: np.ndarray | None) -> None:
        marker = Marker(ns=what, action=Marker.DELETE if points is None else Marker.ADD)
        marker.header.frame_id = self._frame
        marker.pose.orientation.w = 1.0
        marker.type = Marker.LINE_STRIP if what == PLAN else Marker.SPHERE_LIST
        size = LINE_M if what == PLAN else BALL_M
        marker.scale.x = marker.scale.y = marker.scale.z = size
        red, green, blue = COLOURS[what]
        marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
        for x, y, z in () if points is None else points.tolist():
            marker.points.append(Point(x=x, y=y, z=z))
        self._out.publish(MarkerArray(markers=[marker]))

    def _report(self) -> None:
        whys = "; ".join(sorted(set(self._whys.values())))
        level, text = (diagnostics.WARN, whys) if whys else (diagnostics.OK, "drawn")
        status = diagnostics.status("marker_node: markers", level, text, {"frame": self._frame})
        self._status.publish(diagnostics.array(self.get_clock().now().nanoseconds, status))


def main(args: list[str] | None = None) -> None:
    """Entry point."""
    run_node(MarkerNode, args)


if __name__ == "__main__":
    main()
