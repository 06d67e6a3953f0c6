"""What keeps a controller from saying OK, beside the reason of its newest command."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState

from wm_planner.data.messages import joint_values
from wm_planner.nodes.controller_config import ControllerConfig
from wm_planner.ros import diagnostics
from wm_planner.ros.command_graph import CommandGraph, OnGraph
from wm_planner.runtime.clock_watch import ClockWatch
from wm_planner.runtime.following import FollowWatch, StirWatch, enough_way
from wm_planner.runtime.rivals import Rivals
from wm_planner.runtime.safety import Command

_UNSEEN = "whether the robot moves is not known: joint_states has no finite position"
Finding = tuple[bytes, str]  # level and text


class ControllerWatch:
    """Looks at the graph, at clocks, and whether the robot moves as it is commanded.

    Args:
        node: of the controller.
        config: of the controller.
        create: makes the publisher of the commands.

    Attributes:
        rivals: several plan: nothing of it must be followed.
    """

    def __init__(self, node: Node, config: ControllerConfig, create: Callable[[], Publisher]):
        self._config = config
        self._graph = CommandGraph(node, "command", "plan", config.adapter, create)
        self._found: OnGraph | None = None
        self._planners = Rivals()
        self._clock = ClockWatch("joint_states")
        self._positions: np.ndarray | None = None
        self._split = ""  # joints come in several messages
        self.begin()

    def begin(self) -> None:
        """Forget how the robot moved, as on activation."""
        config = self._config
        self._stuck = self._unseen = ""
        self._stir = StirWatch(config.action, config.control_dt_s) if config.is_twist else None
        self._follow: FollowWatch | None = None
        if config.joints and config.kind != "effort":
            enough = enough_way(config.action, config.control_dt_s)
            self._follow = FollowWatch(
                config.action, config.control_dt_s, enough, config.tracking_error / 2
            )

    @property
    def publisher(self) -> Publisher:
        """Of the commands."""
        return self._graph.publisher

    @property
    def rivals(self) -> str:
        """Who plans beside each other, in words; ''."""
        return self._planners.text

    def look(self) -> str:
        """Look at the graph; why the robot must be stopped, or ''."""
        self._found = self._graph.look()
        must_stop = self._planners.judge(self._found.planners, time.monotonic())
        if self._found.strangers:
            return self._strangers
        return self.rivals if must_stop else ""

    def refusal(self) -> str:
        """Look at the graph; why the controller must not be activated, or ''."""
        return self.look() or self.rivals

    @property
    def _strangers(self) -> str:
        names = ", ".join(self._found.strangers) if self._found else ""
        return (
            f"somebody else publishes on the robot's command topic: {names}; end it first, for "
            "the robot would do what both say (one that was killed is listed for 20 s)"
        )

    def partial(self, needed: frozenset[str], message: JointState) -> None:
        """Take note of joint states that do not name all of this robot."""
        missing = sorted(needed - set(message.name))
        if len(missing) < len(needed):
            self._split = (
                f"joint_states comes without {', '.join(missing)}: the controller needs all joints "
                "in one message, as joint_state_broadcaster sends them"
            )

    def sensed(self, message: JointState, stamp_ns: int, now_ns: int) -> None:
        """Take note of joint states of this robot."""
        self._clock.add(stamp_ns, now_ns)
        self._split = ""
        if self._stir is not None:
            known = zip(message.name, message.position, strict=False)
            self._stir.sense({name: place for name, place in known if np.isfinite(place)})
        elif self._follow is not None:
            entries = [f"{name}/position" for name in self._config.action_names]
            self._positions = joint_values(message, entries)

    def sent(self, command: Command) -> None:
        """Take note of a command."""
        if self._stir is not None:
            self._stuck = self._stir.add(command.action)
        elif self._follow is not None and self._positions is not None:
            known = np.isfinite(self._positions)
            names = np.array(self._config.action_names)[~known]
            self._unseen = "" if known.all() else f"{_UNSEEN} of {', '.join(names)}"
            if known.all():
                self._stuck = self._follow.add(command.action, self._positions, command.target)

    def worst(self, reason: str, active: bool, follows: bool, stop_cause: str) -> Finding:
        """The one thing to say; OK only where the robot gets and does what is planned.

        Args:
            reason: of the newest command.
            active: whether commands are sent.
            follows: whether they are those of a plan.
            stop_cause: why the robot was stopped without being asked; ''.
        """
        found, error, warn = [], diagnostics.ERROR, diagnostics.WARN
        if stop_cause:
            found.append((error, f"stopped: {stop_cause}"))
        if self._found is not None:
            if self._found.strangers:
                found.append((error, self._strangers))
            if self._found.unheard:
                found.append((error, self._found.unheard))
            if self._found.misfit:
                found.append((warn, self._found.misfit))
        if self.rivals:
            found.append((error, self.rivals))
        if active and self._stuck:
            found.append((error, self._stuck))
        if self._clock.text and not self._config.lockstep:
            found.append((warn, self._clock.text))
        if active and self._unseen:
            found.append((warn, self._unseen))
        if self._split:
            found.append((warn, self._split))
        found.append((diagnostics.OK if follows else warn, reason))
        if self._found is None:
            found.append((warn, "who listens is not known yet"))
        return max(found, key=lambda finding: finding[0])  # the first of the worst

    def values(self) -> dict[str, Any]:
        """Numbers and names for the diagnostics."""
        offset_s = self._clock.offset_s
        found = self._found
        return {
            "listeners": "" if found is None else ", ".join(found.listeners),
            "planners": "" if found is None else ", ".join(found.planners.values()),
            "joint_states behind_s": "" if offset_s is None else f"{offset_s:.3f}",
            "moving watched by": "joints"
            if self._follow is not None
            else ("any joint" if self._stir is not None else "nothing: an effort may hold"),
        }


def positions_of(node: Node, message: JointState, names: Sequence[str]) -> np.ndarray | None:
    """(J,) finite positions of joints; None, and a warning of the node: they are not known."""
    values = joint_values(message, [f"{name}/position" for name in names])
    known = np.isfinite(values)
    if known.all():
        return values
    unknown = ", ".join(np.array(names)[~known])
    node.get_logger().warning(
        f"joint_states has no finite position of {unknown}", throttle_duration_sec=5.0
    )
    return None
