"""Controller node: plans in, safe commands out. It runs, and stops the robot, without torch."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rclpy.duration import Duration
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from wm_planner.errors import NonFiniteActionError
from wm_planner.kinematics.checks import Space
from wm_planner.nodes.command_guard import HEARS
from wm_planner.nodes.controller_config import ControllerConfig
from wm_planner.nodes.controller_watch import ControllerWatch, positions_of
from wm_planner.robot import DESCRIPTION
from wm_planner.ros import diagnostics
from wm_planner.ros.conversions import command_message, plan_from_message, to_ns
from wm_planner.ros.qos import COMMAND, LATCHED, RECORD, sensor
from wm_planner.ros.robot_state import StateWatch
from wm_planner.ros.run import run_node
from wm_planner.ros.waiting import NotYetError, WaitingNode
from wm_planner.runtime.safety import Command, Measured, Reason

LAST_WORD_S = 0.2  # how long the last safe command may take to reach the robot
SETTLE_NS = 500_000_000  # until everybody who listens has found a new publisher
LOOK_S = 0.25  # between two looks at who else is on the topics


class ControllerNode(WaitingNode):
    """Silent until activated; a stop is latched until it is deactivated and activated again."""

    def __init__(self, **options: Any) -> None:
        super().__init__("controller_node", ControllerConfig, **options)
        self._loop = self.config.control_loop()
        self._adapter = self.config.command_adapter()
        self._active = False
        self._connected_ns = 0  # steady time
        self._reason: Reason | None = None
        self._stop_cause = ""  # why the robot was stopped without being asked
        self._measured: Measured | None = None
        self._description: str | None = None
        self._space: Space | None = None
        # Joints whose positions the gate is given; of a twist, the URDF says which.
        self._place_names = self.config.action_names if self.config.joints else ()
        self._needed = self.config.joints  # that a message of this robot names
        self._disobeys = ""  # why the robot does not execute commands
        self._counts = {"commands": 0, "limited": 0, "refused": 0}  # since the activation
        self._pending_ns: int | None = None  # lock-step tick that still waits for its plan

    def configure(self) -> None:
        """Connect."""
        lockstep = self.config.lockstep
        self._connected_ns = time.monotonic_ns()
        self._watch = ControllerWatch(
            self,
            self.config,
            lambda: self.create_publisher(self._adapter.message_type, "command", COMMAND),
        )
        self._command = self._watch.publisher
        self._sent = self.create_publisher(JointTrajectory, "command_sent", RECORD)
        sensed = sensor(lockstep)
        self.create_subscription(JointTrajectory, "plan", self._on_plan, COMMAND)
        self.create_subscription(JointState, "joint_states", self._on_state, sensed)
        if not lockstep:
            self.create_subscription(Image, "observation/image", self._on_image, sensed)
            self.create_timer(self.config.control_dt_s, self._on_timer)
        if self.config.needs_description:
            self.create_subscription(String, DESCRIPTION, self._on_description, LATCHED)
        if self.config.guarded:
            self.create_subscription(Bool, HEARS, self._on_guard, COMMAND)
        self._robot = StateWatch(self, self.config.states)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_timer(LOOK_S, self._look)
        self.create_timer(1.0, self._report)

    def activate(self) -> None:
        """Arm; clears a latched stop."""
        gate = self._loop.gate
        refusal = self._watch.refusal()
        if refusal:
            raise NotYetError(f"activation refused: {refusal}")
        if self.config.needs_description:
            self._take_description(self._described())
        if self.config.begins_somewhere:
            gate.begin(self._measured_position())
        self._loop.clear()
        self._pending_ns = None
        self._counts = dict.fromkeys(self._counts, 0)
        self._stop_cause = ""
        self._watch.begin()
        gate.guarded = not self.config.guarded
        gate.enable()
        self._active = True

    def _take_description(self, description: str) -> None:
        """Limits, and where the robot may go, by its URDF."""
        space = self._space = self.config.space(description)
        self._loop.gate.set_limits(*self.config.limits_and_guard(description, space))
        if space is not None:
            self._place_names = space.joints
            self._needed = frozenset((*space.joints, *space.others))
            for line in space.notes:
                self.get_logger().info(line)

    def deactivate(self) -> None:
        """Accept no more plans, send the safe command, then be silent."""
        self._loop.gate.disable()
        self._fall_silent()
        self._loop.clear()

    def close(self) -> None:
        """The safe command is the last one on the wire."""
        self.deactivate()

    def _fall_silent(self) -> None:
        """One last, safe, command; nothing when the node was silent already."""
        if not self._active:
            return
        self._active, self._pending_ns = False, None
        now_ns = self._now_ns()
        self._publish(self._loop.safe_command(now_ns, self._steady_ns()), now_ns)
        # The publisher may be destroyed next, and with it what is still on its way.
        self._command.wait_for_all_acked(Duration(seconds=LAST_WORD_S))

    def _on_plan(self, message: JointTrajectory) -> None:
        if not self._active or self._watch.rivals:
            return
        if not message.points:  # the planner has no goal any more
            self._loop.drop_plan()
            return
        config = self.config
        try:
            plan = plan_from_message(
                message, config.action_names, config.command_interface, config.dt_ns
            )
            self._loop.put(plan, self._steady_ns())
        except (NonFiniteActionError, ValueError) as error:
            self.get_logger().error(f"plan refused: {error}", throttle_duration_sec=1.0)
        if self._pending_ns is not None:
            self._answer(self._pending_ns)

    def _on_state(self, message: JointState) -> None:
        if self._space is not None:
            self._space.model.sense(dict(zip(message.name, message.position, strict=False)))
        if not self._needed <= set(message.name):
            self._watch.partial(self._needed, message)
            return  # another device, say a gripper: it says nothing about this robot
        stamp_ns, received_ns = to_ns(message.header.stamp), self._steady_ns()
        if self.config.needs_positions:
            positions = positions_of(self, message, self._place_names)
            if positions is None:
                return  # as if nobody had measured anything
            self._measured = Measured(positions, stamp_ns)
            self._loop.measured(positions, stamp_ns, received_ns)
        self._loop.sensed("joint_states", stamp_ns, received_ns)
        self._watch.sensed(message, stamp_ns, self._now_ns())
        if self.config.lockstep and self._active:
            self._answer(stamp_ns)

    def _on_guard(self, message: Bool) -> None:
        if not message.data:
            self._loop.interrupt()
        # What it hears is this node, or one that has just ended: the graph tells others. The robot
        # hears this node as late as the guard does, or a little later, and does not say so.
        elif self._counts["commands"]:
            settled = time.monotonic_ns() - self._connected_ns > SETTLE_NS
            self._loop.gate.guarded |= settled

    def _on_image(self, message: Image) -> None:
        stamp_ns = to_ns(message.header.stamp)
        self._loop.sensed("observation/image", stamp_ns, self._steady_ns())

    def _tick(self, now_ns: int) -> Command | None:
        self._disobeys = self._robot.why_not()
        self._loop.gate.obeys = not self._disobeys
        return self._loop.tick(now_ns, self._steady_ns())

    def _answer(self, stamp_ns: int) -> None:
        """One tick; what fails in it ends in the safe command."""
        try:
            command = self._tick(stamp_ns)
            self._pending_ns = stamp_ns if command is None else None  # only lock-step waits
            if command is not None:
                self._publish(command, stamp_ns)
        except Exception:
            self._loop.drop_plan()
            self._publish(self._loop.safe_command(stamp_ns, self._steady_ns()), stamp_ns)
            raise

    def _on_timer(self) -> None:
        if self._active:
            self._answer(self._now_ns())

    def _look(self) -> None:
        """Who is on the topics: somebody else there ends the motion, until a person begins it."""
        self._robot.look()
        cause = self._watch.look()
        if self._watch.rivals:
            self._loop.drop_plan()
        if not cause or not self._active:
            return
        self._stop_cause = cause
        self.get_logger().error(f"stopped: {cause}")
        self._loop.gate.stop()
        self._fall_silent()

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._loop.gate.stop()
        self._fall_silent()
        response.success = True
        response.message = "stopped; deactivate and activate the controller to go on"
        return response

    def _publish(self, command: Command, stamp_ns: int) -> None:
        config = self.config
        towards = command.action if command.target is None else command.target
        self._command.publish(self._adapter.message(towards, stamp_ns))
        sent = command_message(
            command.action, config.action_names, config.command_interface, stamp_ns, config.dt_ns
        )
        self._sent.publish(sent)
        if not config.lockstep:
            self._watch.sent(command)
        self._counts["commands"] += 1
        self._counts["limited"] += command.reason is Reason.LIMITED
        self._counts["refused"] += command.reason.refused
        if command.reason != self._reason:
            self._reason = command.reason
            if command.reason.refused:
                why = f" ({self._disobeys})" if command.reason is Reason.ROBOT_STATE else ""
                self.get_logger().warning(f"command: {command.reason}{why}")
            else:
                self.get_logger().info(f"command: {command.reason}")
            self._report()

    def _report(self) -> None:
        reason = "inactive" if self._reason is None else str(self._reason)
        follows = self._active and self._reason is not None and not self._reason.refused
        level, text = self._watch.worst(reason, self._active, follows, self._stop_cause)
        plan = self._loop.plan
        values: dict[str, Any] = {
            "reason": reason,
            "active": self._active,
            "plan_stamp_ns": "" if plan is None else plan.stamp_ns,
            **self._counts,
            **self._watch.values(),
        }
        if self._space is not None and self._reason == Reason.LIMITED and self._space.free.cut:
            values["cut_by"] = self._space.free.cut
        self._disobeys = self._robot.why_not()
        if self._disobeys:
            values["robot_state"] = self._disobeys
        ages_s = self._loop.ages_s(self._now_ns(), self._steady_ns())
        values.update({f"age {source}": f"{age_s:.3f}" for source, age_s in ages_s.items()})
        status = diagnostics.status("controller_node: command", level, text, values)
        self._status.publish(diagnostics.array(self._now_ns(), status))

    def _measured_position(self) -> np.ndarray:
        """(A,) where the robot is now: an old answer may be far from it.

        Raises:
            NotYetError: not known.
        """
        if self._measured is None:
            names = ", ".join(self.config.action_names)
            raise NotYetError(f"activation needs joint_states with positions of {names}: none came")
        age_ns = self._now_ns() - self._measured.stamp_ns
        if abs(age_ns) > self.config.stale_after_ns and not self.config.lockstep:
            raise NotYetError(
                f"activation needs joint_states of now: the newest is {age_ns * 1e-9:.2f} s old, "
                f"stale_after_s is {self.config.stale_after_s:g}"
            )
        return self._measured.positions

    def _on_description(self, message: String) -> None:
        if self._active and message.data != self._description:
            self.get_logger().warning(
                "another robot_description came: its limits hold from the next activation on"
            )
        self._description = message.data

    def _described(self) -> str:
        if self._description is None:
            topic, limits = self.resolve_topic_name(DESCRIPTION), self.config.position_limits
            way_out = "write position_limits as lists low and high"
            if self.config.has_space:
                way_out = "leave workspace and self_collision out"
            raise NotYetError(
                f"{'position_limits' if limits else 'workspace'}: nobody has published the robot's "
                f"description on {topic} yet: start robot_state_publisher, or {way_out}"
            )
        return self._description

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _steady_ns(self) -> int | None:
        """Clock of receipts; None in lock-step, where a simulator may wait as long as it likes."""
        return None if self.config.lockstep else time.monotonic_ns()


def main(args: list[str] | None = None) -> None:
    """Entry point."""
    run_node(ControllerNode, args)


if __name__ == "__main__":
    main()
