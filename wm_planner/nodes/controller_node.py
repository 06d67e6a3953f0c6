"""Controller node: plans in, safe commands out. It runs, and stops the robot, without torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from wm_planner.errors import ConfigError, NonFiniteActionError
from wm_planner.ros import diagnostics
from wm_planner.ros.adapters import CommandAdapter
from wm_planner.ros.conversions import command_message, plan_from_message, to_ns
from wm_planner.ros.lifecycle import ManagedNode
from wm_planner.ros.parameters import param
from wm_planner.ros.qos import COMMAND, sensor
from wm_planner.ros.run import run_node
from wm_planner.runtime.control import ControlLoop
from wm_planner.runtime.safety import Command, Limits, SafetyGate


@dataclass(frozen=True)
class ControllerConfig:
    """Parameters of the controller node."""

    action_names: tuple[str, ...] = param(("slide_x", "slide_y"), "joints, or axes as linear.x")
    low: tuple[float, ...] = param((-1.0, -1.0), "lower bounds, physical units")
    high: tuple[float, ...] = param((1.0, 1.0), "upper bounds, physical units")
    max_rate: tuple[float, ...] = param((0.0, 0.0), "largest change, units per second; 0: no limit")
    safe_action: tuple[float, ...] = param((0.0, 0.0), "sent whenever a plan must not be followed")
    hold: bool = param(False, "position robots: the safe action is where the robot is")
    control_dt_s: float = param(0.1, "control period, seconds")
    stale_after_s: float = param(1.5, "greatest age of plan and observation, seconds")
    adapter: str = param("joint_trajectory", "forward, joint_trajectory or twist")
    command_interface: str = param("velocity", "position, velocity or effort")
    frame_id: str = param("", "frame in which a twist is expressed")
    lockstep: bool = param(False, "answer each joint state once its plan is there; no timer")
    rows_per_plan: int = param(5, "control periods per plan in lock-step")
    autostart: bool = param(False, "activate at once; leave it false on hardware")

    def __post_init__(self) -> None:
        size = len(self.action_names)
        for name in ("low", "high", "max_rate", "safe_action"):
            if len(getattr(self, name)) != size:
                raise ValueError(f"{name} needs {size} entries, one per action name")
        if self.control_dt_s <= 0 or self.stale_after_s <= 0 or self.rows_per_plan < 1:
            raise ValueError("control_dt_s, stale_after_s must be positive, rows_per_plan >= 1")
        if min(self.max_rate) < 0:
            raise ValueError(f"max_rate must not be negative, got {list(self.max_rate)}")


class ControllerNode(ManagedNode):
    """Silent until activated; a stop is latched until it is deactivated and activated again."""

    def __init__(self, **options: Any) -> None:
        super().__init__("controller_node", ControllerConfig, **options)
        config = self.config
        self._dt_ns = round(config.control_dt_s * 1e9)
        self._active = False
        self._reason: str | None = None
        self._measured: JointState | None = None
        self._pending_ns: int | None = None  # lock-step tick that still waits for its plan
        rate = np.array([r if r > 0 else 1e12 for r in config.max_rate])
        limits = Limits(np.array(config.low), np.array(config.high), rate)
        gate = SafetyGate(
            limits,
            np.array(config.safe_action),
            round(config.stale_after_s * 1e9),
            self._dt_ns,
            config.hold,
        )
        self._loop = ControlLoop(gate, config.rows_per_plan if config.lockstep else None)
        self._adapter = CommandAdapter(
            config.adapter,
            config.action_names,
            config.command_interface,
            self._dt_ns,
            config.frame_id,
        )

    def configure(self) -> None:
        """Connect."""
        lockstep = self.config.lockstep
        self._command = self.create_publisher(self._adapter.message_type, "command", COMMAND)
        self._sent = self.create_publisher(JointTrajectory, "command_sent", COMMAND)
        self._status = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_subscription(JointTrajectory, "plan", self._on_plan, COMMAND)
        self.create_subscription(JointState, "joint_states", self._on_state, sensor(lockstep))
        self.create_subscription(Image, "observation/image", self._on_image, sensor(lockstep))
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_timer(1.0, self._report)
        if not lockstep:
            self.create_timer(self.config.control_dt_s, self._on_timer)

    def activate(self) -> None:
        """Arm; clears a latched stop."""
        self._loop.clear()
        if self.config.hold:
            self._loop.gate.set_safe_action(self._measured_position())
        self._loop.gate.enable()
        self._active = True

    def deactivate(self) -> None:
        """Accept no more plans, send the safe command, then be silent."""
        was_active, self._active = self._active, False
        self._loop.gate.disable()
        self._loop.clear()
        if was_active:
            self._publish(self._loop.gate.check(None, None, None, 0), self._now_ns())

    def close(self) -> None:
        """The safe command is the last one on the wire."""
        if self._active:
            self.deactivate()

    def _on_plan(self, message: JointTrajectory) -> None:
        if not self._active:
            return
        if not message.points:  # the planner has no goal any more
            self._loop.drop_plan()
            return
        try:
            config = self.config
            self._loop.put(
                plan_from_message(
                    message, config.action_names, config.command_interface, self._dt_ns
                )
            )
        except (NonFiniteActionError, ValueError) as error:
            self.get_logger().error(f"plan refused: {error}")
        if self._pending_ns is not None:
            self._answer(self._pending_ns)

    def _on_state(self, message: JointState) -> None:
        self._measured = message
        stamp_ns = to_ns(message.header.stamp)
        self._loop.sensed("joint_states", stamp_ns)
        if self.config.lockstep and self._active:
            self._answer(stamp_ns)

    def _on_image(self, message: Image) -> None:
        if not self.config.lockstep:
            self._loop.sensed("observation/image", to_ns(message.header.stamp))

    def _answer(self, stamp_ns: int) -> None:
        command = self._loop.tick(stamp_ns)
        self._pending_ns = stamp_ns if command is None else None
        if command is not None:
            self._publish(command, stamp_ns)

    def _on_timer(self) -> None:
        if self._active:
            now_ns = self._now_ns()
            command = self._loop.tick(now_ns)
            if command is not None:
                self._publish(command, now_ns)

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._loop.gate.stop()
        if self._active:
            self._active = False
            self._publish(self._loop.gate.check(None, None, None, 0), self._now_ns())
        response.success = True
        response.message = "stopped; deactivate and activate the controller to go on"
        return response

    def _publish(self, command: Command, stamp_ns: int) -> None:
        config = self.config
        self._command.publish(self._adapter.message(command.action, stamp_ns))
        sent = command_message(
            command.action, config.action_names, config.command_interface, stamp_ns, self._dt_ns
        )
        self._sent.publish(sent)
        if command.reason != self._reason:
            self._reason = command.reason
            if command.reason.refused:
                self.get_logger().warning(f"command: {command.reason}")
            else:
                self.get_logger().info(f"command: {command.reason}")
            self._report()

    def _report(self) -> None:
        reason = "inactive" if self._reason is None else str(self._reason)
        level = diagnostics.OK if reason in ("ok", "limited", "inactive") else diagnostics.WARN
        plan = self._loop.plan
        values = {"active": self._active, "plan_stamp_ns": "" if plan is None else plan.stamp_ns}
        status = diagnostics.status("controller_node: command", level, reason, values)
        self._status.publish(diagnostics.array(self._now_ns(), status))

    def _measured_position(self) -> np.ndarray:
        if self._measured is None:
            raise ConfigError("hold needs joint_states before activation, and none has come")
        place = dict(zip(self._measured.name, self._measured.position, strict=False))
        missing = [name for name in self.config.action_names if name not in place]
        if missing:
            raise ConfigError(f"hold: joint_states has no position of {', '.join(missing)}")
        return np.array([place[name] for name in self.config.action_names])

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run_node(ControllerNode, args)


if __name__ == "__main__":
    sys.exit(main())
