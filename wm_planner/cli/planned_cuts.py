"""What the limits of a robot would change of its plans, which nothing sends in a dry run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from wm_planner.errors import ConfigError, PlanningError
from wm_planner.robot import DESCRIPTION, INTERFACE, PositionLimits, RobotFile
from wm_planner.ros.base import NodeBase
from wm_planner.ros.conversions import plan_from_message
from wm_planner.ros.qos import LATCHED
from wm_planner.runtime.cuts import Cuts
from wm_planner.runtime.position_limits import tightened
from wm_planner.runtime.robot_description import described_limits
from wm_planner.runtime.safety import limits_of
from wm_planner.types import Plan


class PlannedCuts:
    """Knows the limits of the robot file, or hears those of the robot's description.

    Args:
        node: to listen with.
        robot: whose limits they are.
        proprio: (P,) the newest proprioception, or None.
        report: takes one line of text.

    Attributes:
        cuts: what was counted.
    """

    def __init__(
        self,
        node: NodeBase,
        robot: RobotFile,
        proprio: Callable[[], np.ndarray | None],
        report: Callable[[str], None],
    ) -> None:
        self._robot, self._body = robot, robot.embodiment
        self._proprio, self._report = proprio, report
        action = robot.action
        self._limits = limits_of(action.low, action.high, action.max_rate)
        self.cuts = Cuts(self._limits, robot.control_dt_s, action.kind)
        self._last_plan: Plan | None = None
        if isinstance(robot.position_limits, PositionLimits):
            lists = robot.position_limits
            self.cuts.position_limits = np.array(lists.low), np.array(lists.high)
        elif robot.position_limits == DESCRIPTION:
            node.create_subscription(String, DESCRIPTION, self._on_description, LATCHED)

    def forget(self) -> None:
        """There is another goal: the next plan does not go on from the last one."""
        self._last_plan = None

    def add(self, message: JointTrajectory) -> None:
        """Count what limits would change of the actions that are taken before the next plan.

        Raises:
            PlanningError: it is a plan of another robot.
        """
        action, body = self._robot.action, self._body
        try:
            plan = plan_from_message(message, action.names, INTERFACE[action.kind], body.dt_ns)
        except ValueError as error:
            raise PlanningError(f"plan of another robot: {error}") from error
        where = self._positions()
        rest = np.clip(np.zeros(action.size), action.low, action.high)
        if not action.rests_at_zero and where is not None:
            rest = where
        # Nothing is sent in a dry run: a plan goes on from the one before, as if it had been.
        before, self._last_plan = self._last_plan, plan
        if before is not None:
            passed = round((plan.stamp_ns - before.stamp_ns) / plan.dt_ns)
            if 0 < passed <= len(before.actions):
                rest = before.actions[passed - 1]
        self.cuts.add(plan.actions[: body.frame_skip], rest, where)

    def _positions(self) -> np.ndarray | None:
        """(A,) positions of the action's joints, if the proprioception tells them."""
        proprio = self._proprio()
        if proprio is None:
            return None
        felt = dict(zip(self._body.proprio, proprio.tolist(), strict=False))
        names = [f"{name}/position" for name in self._robot.action.names]
        if not felt.keys() >= set(names):
            return None
        return np.array([felt[name] for name in names])

    def _on_description(self, message: String) -> None:
        try:
            names, kind = self._robot.action.names, self._robot.action.kind
            joints = described_limits(message.data, names)
            low, high = np.array([(joint.low, joint.high) for joint in joints]).T
            # The controller obeys the description's speeds and efforts as well.
            limits = tightened(self._limits, kind, self._robot.control_dt_s, joints)
        except ConfigError as error:
            self._report(f"position limits are not known: {error}")
            return
        self.cuts.position_limits, self.cuts.limits = (low, high), limits
