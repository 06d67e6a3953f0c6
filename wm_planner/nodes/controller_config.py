"""What the controller node can be told, and the parts that are built from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_planner.ros.adapters import TWIST_AXES, CommandAdapter
from wm_planner.ros.parameters import param
from wm_planner.runtime.control import ControlLoop
from wm_planner.runtime.safety import Limits, SafetyGate

NO_LIMIT = 1e12  # units per second


@dataclass(frozen=True)
class ControllerConfig:
    """Parameters of the controller node."""

    action_names: tuple[str, ...] = param(("slide_x", "slide_y"), "joints, or axes as linear.x")
    low: tuple[float, ...] = param((-1.0, -1.0), "lower bounds, physical units")
    high: tuple[float, ...] = param((1.0, 1.0), "upper bounds, physical units")
    max_rate: tuple[float, ...] = param(
        (0.0, 0.0), "largest change, units per second; 0: no limit", low=0
    )
    safe_action: tuple[float, ...] = param((0.0, 0.0), "sent whenever a plan must not be followed")
    hold: bool = param(False, "position robots: the safe action is where the robot is")
    control_dt_s: float = param(0.1, "control period, seconds", low=1e-3, high=10)
    stale_after_s: float = param(
        1.5, "greatest age of plan and observation, seconds", low=1e-3, high=60
    )
    adapter: str = param("joint_trajectory", "forward, joint_trajectory or twist")
    command_interface: str = param("velocity", "position, velocity or effort")
    frame_id: str = param("", "frame in which a twist is expressed")
    lockstep: bool = param(False, "answer each joint state once its plan is there; no timer")
    rows_per_plan: int = param(5, "control periods per plan in lock-step", low=1)
    autostart: bool = param(False, "activate at once; leave it false on hardware")

    def __post_init__(self) -> None:
        size = len(self.action_names)
        for name in ("low", "high", "max_rate", "safe_action"):
            if len(getattr(self, name)) != size:
                raise ValueError(f"{name} needs {size} entries, one per action name")
        self._check_hold()

    def _check_hold(self) -> None:
        """The two ways in which a wrong safe action would itself be the danger."""
        if self.hold and self.command_interface != "position":
            raise ValueError(
                f"hold repeats the last action sent: with command_interface "
                f"'{self.command_interface}' the robot would go on moving. Use hold: false and "
                "a safe_action of zeros, or command_interface: position"
            )
        if self.command_interface == "position" and not self.hold:
            raise ValueError(
                "command_interface 'position' needs hold: true: a fixed safe_action is a place, "
                "and the robot would go there at once"
            )
        if self.hold and not all(rate > 0 for rate in self.max_rate):
            raise ValueError(
                f"command_interface 'position' needs max_rate above 0, got {list(self.max_rate)}: "
                "without it the first plan may begin with a jump"
            )

    @property
    def dt_ns(self) -> int:
        """Control period, nanoseconds."""
        return round(self.control_dt_s * 1e9)

    @property
    def stale_after_ns(self) -> int:
        """Greatest age of plan and observation, nanoseconds."""
        return round(self.stale_after_s * 1e9)

    @property
    def joints(self) -> frozenset[str]:
        """Joints that joint_states must name; none for the axes of a twist."""
        return frozenset(self.action_names) - set(TWIST_AXES)

    def control_loop(self) -> ControlLoop:
        """Plan buffer, ages and safety gate.

        Raises:
            ConfigError: limits or safe action cannot be used.
        """
        rate = np.array([rate if rate > 0 else NO_LIMIT for rate in self.max_rate])
        limits = Limits(np.array(self.low), np.array(self.high), rate)
        gate = SafetyGate(
            limits, np.array(self.safe_action), self.stale_after_ns, self.dt_ns, self.hold
        )
        if self.lockstep:
            return ControlLoop(gate, ("joint_states",), self.rows_per_plan)
        return ControlLoop(gate, ("joint_states", "observation/image"))

    def command_adapter(self) -> CommandAdapter:
        """From actions to the robot's messages.

        Raises:
            ConfigError: unknown adapter, interface or axis.
        """
        return CommandAdapter(
            self.adapter, self.action_names, self.command_interface, self.dt_ns, self.frame_id
        )
