"""How an action reaches a robot: four message types, one interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Twist, TwistStamped
from std_msgs.msg import Float64MultiArray

from wm_planner.config import suggest
from wm_planner.data.messages import point_rows
from wm_planner.embodiment import TWIST_AXES
from wm_planner.errors import ConfigError
from wm_planner.robot import ADAPTERS, TWIST_ADAPTERS
from wm_planner.ros.command_topics import command_type
from wm_planner.ros.conversions import check_interface, command_message, to_time


class CommandAdapter:
    """Turns (A,) actions into messages of one type.

    Args:
        kind: one of `robot.ADAPTERS`. What 'joint_trajectory' sends is a position, to be reached
            in a control period and held: without a stamp, so that it begins when it arrives
            whatever the other clock says, and without a velocity, so that it ends in a stop.
        names: action names; for a twist they are axes such as 'linear.x'.
        interface: field of the point that carries the action ('simulator').
        dt_ns: control period, nanoseconds.
        frame_id: frame in which a twist is expressed.

    Raises:
        ConfigError: unknown kind, interface or axis, or a twist without frame.
    """

    def __init__(
        self,
        kind: str,
        names: Sequence[str],
        interface: str,
        dt_ns: int,
        frame_id: str,
    ) -> None:
        if kind not in ADAPTERS:
            raise ConfigError(f"unknown adapter '{kind}'.{suggest(kind, ADAPTERS)}")
        if kind in TWIST_ADAPTERS:
            for name in names:
                if name not in TWIST_AXES:
                    raise ConfigError(f"unknown twist axis '{name}'.{suggest(name, TWIST_AXES)}")
            if kind == "twist" and not frame_id:
                raise ConfigError("adapter 'twist' needs frame_id: the frame of its axes")
        self.message_type = command_type(ADAPTERS[kind])
        self._kind, self._names = kind, tuple(names)
        self._interface = check_interface(interface)
        self._dt_ns, self._frame_id = dt_ns, frame_id

    def message(self, action: np.ndarray, stamp_ns: int) -> Any:
        """One command."""
        if self.message_type is Float64MultiArray:
            return Float64MultiArray(data=[float(value) for value in action])
        if self._kind == "joint_trajectory":
            return command_message(action, self._names, "position", 0, self._dt_ns)
        if self._kind == "simulator":  # it knows by the stamp what it is answered
            return command_message(action, self._names, self._interface, stamp_ns, self._dt_ns)
        if self.message_type is Twist:
            return self._twist(action)
        message = TwistStamped(twist=self._twist(action))
        message.header.stamp = to_time(stamp_ns)
        message.header.frame_id = self._frame_id
        return message

    def action_of(self, message: Any) -> np.ndarray | None:
        """What a message of this type asks of the robot in the end; None: not what this sends.

        Of a trajectory the last point counts; a twist that turns or moves along another axis than
        the action's is none.
        """
        values: Any
        if self.message_type is Float64MultiArray:
            values = message.data
        elif self._kind in ("joint_trajectory", "simulator"):
            rows = point_rows(message, self._interface)
            values = rows[-1] if rows else ()
        else:
            twist = message if self.message_type is Twist else message.twist
            axes = {axis: getattr(getattr(twist, axis[:-2]), axis[-1]) for axis in TWIST_AXES}
            values = [axes.pop(name) for name in self._names]
            if any(axes.values()):
                return None
        return np.array(values) if len(values) == len(self._names) else None

    def _twist(self, action: np.ndarray) -> Twist:
        twist = Twist()
        for name, value in zip(self._names, action, strict=True):
            part, axis = name.split(".")
            setattr(getattr(twist, part), axis, float(value))
        return twist
