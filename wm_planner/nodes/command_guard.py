"""Command guard: sends the safe command when the controller's process has died in mid-motion.

Most robots that take velocities or efforts go on with the last one when commands cease. This node
listens to the robot's own command topic. When the robot was moved, and no command follows in time,
the guard sends the safe command until somebody speaks again, or for a bounded time. It does so also
behind a last word that was safe: a controller that ends may take that with it before the robot has
got it. It starts no motion, and sends no command while a controller lives. A robot that takes
positions needs none: it holds the last one.

On `command_guard/hears` it tells a controller that it hears the commands. Only then does the
controller move the robot: one that died before would leave its last command. It also tells one
that was only held up that the robot was stopped meanwhile: its next command is no leap from rest.

It needs neither torch nor the planner's machine: best it runs on the robot's host, where no network
stands between them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.duration import Duration
from std_msgs.msg import Bool

from wm_planner.ros import diagnostics
from wm_planner.ros.adapters import CommandAdapter
from wm_planner.ros.base import NodeBase
from wm_planner.ros.parameters import param, required
from wm_planner.ros.qos import COMMAND, SENSOR
from wm_planner.ros.run import run_node

HEARS = "command_guard/hears"  # tells a controller: true, it is heard; false, it was not
LAST_WORD_S = 0.2  # how long the last safe command may take to reach the robot
CLOSE_S = 1.0  # at its end the guard waits no longer for the controller's last word


@dataclass(frozen=True)
class GuardConfig:
    """Parameters of the command guard."""

    action_names: tuple[str, ...] = required("joints, or axes as linear.x")
    safe_action: tuple[float, ...] = required("the command that stops the robot, physical units")
    adapter: str = param("forward", "forward, twist, twist_unstamped or simulator")
    interface: str = param("velocity", "what commands carry: velocity or effort")
    frame_id: str = param("", "frame in which a twist is expressed")
    control_dt_s: float = param(0.1, "control period, seconds", low=1e-3, high=10)
    after_s: float = param(
        0.5, "silence after a command that moves the robot, seconds", low=1e-3, high=60
    )
    for_s: float = param(
        0.5, "the safe command is repeated for so long, seconds", low=1e-3, high=3600
    )

    def __post_init__(self) -> None:
        if len(self.safe_action) != len(self.action_names):
            raise ValueError(
                f"safe_action needs {len(self.action_names)} entries, one per action name"
            )
        if self.adapter == "joint_trajectory":
            raise ValueError(
                "adapter 'joint_trajectory' needs no guard: it sends positions, which hold by "
                "themselves"
            )
        if self.interface not in ("velocity", "effort"):
            raise ValueError(
                f"interface: expected velocity or effort, got '{self.interface}': positions hold "
                "by themselves"
            )


class CommandGuard(NodeBase):
    """Listens to ``command`` and speaks there only in place of a controller that has died."""

    def __init__(self, **options: Any) -> None:
        super().__init__("command_guard", GuardConfig, **options)
        config: GuardConfig = self.config
        dt_ns = round(config.control_dt_s * 1e9)
        names, frame = config.action_names, config.frame_id
        self._adapter = CommandAdapter(config.adapter, names, config.interface, dt_ns, frame)
        self._safe = np.array(config.safe_action)
        self._moves = False  # the last command of somebody else
        self._heard = False  # a command of somebody else's, since the last period
        self._moved = False  # any of theirs since the guard spoke last
        # Periods without a command: while this process itself stood still, it heard nobody, and
        # that says nothing of the controller.
        self._silent = 0
        self._began_s: float | None = None  # when the guard began to speak, while it does
        self._why = ""
        self._times = self._echoes = 0
        kind = self._adapter.message_type
        self._command = self.create_publisher(kind, "command", COMMAND)
        self._hears = self.create_publisher(Bool, HEARS, COMMAND)
        # Best effort hears everybody; of a stream of commands none is missed for long.
        self.create_subscription(kind, "command", self._on_command, SENSOR)
        self.create_timer(config.control_dt_s, self._on_timer)
        self.create_timer(1.0, self._report)

    def close(self) -> None:
        """A controller that died a moment ago is made up for before the guard ends, too."""
        patience_s = min(self.config.after_s, CLOSE_S)
        began_s = heard_s = time.monotonic()
        silent = self._silent
        while self._moved and time.monotonic() < began_s + patience_s + self.config.control_dt_s:
            if time.monotonic() > heard_s + patience_s:
                self._begin()
                self._speak()
                self._command.wait_for_all_acked(Duration(seconds=LAST_WORD_S))
                return
            if self.executor is not None:
                self.executor.spin_once(timeout_sec=0.02)
            if self._silent < silent:  # somebody speaks
                heard_s = time.monotonic()
            silent = self._silent

    def _on_command(self, message: Any) -> None:
        action = self._adapter.action_of(message)
        safe = action is not None and np.allclose(action, self._safe, rtol=0, atol=1e-9)
        if safe and self._echoes:
            self._echoes -= 1  # the guard's own
            return
        self._silent, self._moves, self._heard = 0, not safe, True
        self._moved |= self._moves
        if self._began_s is not None or self._why:
            self.get_logger().info("commands come again: the guard is silent")
        self._began_s, self._why = None, ""

    def _on_timer(self) -> None:
        if self._heard:
            self._heard = False
            self._hears.publish(Bool(data=True))
        self._silent += 1
        if self._began_s is None:
            self._echoes = 0
            if not self._moved or self._silent_s() < self.config.after_s - 1e-9:
                return
            self._begin()
        elif time.monotonic() - self._began_s > self.config.for_s:
            self._began_s = None
            return
        self._speak()

    def _begin(self) -> None:
        self._began_s, self._moved = time.monotonic(), False
        if not self._moves:
            return
        self._moves = False
        self._times += 1
        self._why = (
            f"no command for {self._silent_s():.2f} s after one that moves the robot: the safe "
            "command was sent in the controller's place; it may have died"
        )
        self.get_logger().error(self._why)
        self._report()

    def _speak(self) -> None:
        self._echoes += 1
        stamp_ns = self.get_clock().now().nanoseconds
        self._command.publish(self._adapter.message(self._safe, stamp_ns))
        self._hears.publish(Bool(data=False))

    def _silent_s(self) -> float:
        return self._silent * float(self.config.control_dt_s)

    def _report(self) -> None:
        level, text = diagnostics.OK, "silent: commands come, or the robot rests"
        if self._why:
            level, text = diagnostics.ERROR, self._why
        values = {"times": self._times, "silent_s": round(self._silent_s(), 3)}
        told = diagnostics.status("command_guard: command", level, text, values)
        self._status.publish(diagnostics.array(self.get_clock().now().nanoseconds, told))


def main(args: list[str] | None = None) -> None:
    """Entry point."""
    run_node(CommandGuard, args)


if __name__ == "__main__":
    main()
