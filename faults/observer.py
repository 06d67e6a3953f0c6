"""Every command that reaches the robot, by the steady clock, and what the nodes say."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from faults.fault import Sent
from wm_planner.robot import RobotFile
from wm_planner.ros.diagnostics import values_of
from wm_planner.ros.qos import RECORD, recorded

INTRUDER = 4242  # data_offset of the commands that the campaign itself publishes
KEPT = 20_000
KEPT_SENDERS = 6
SAID_S = 0.1  # what came so soon after a stop was said before it


class Senders:
    """Tells from sequence numbers alone whether a message is missing before one of them.

    ROS does not say who sent a message. The first one of a sender is never behind a gap.
    """

    def __init__(self) -> None:
        self._last: list[int] = []  # number of each sender, the one that spoke last at the end

    def gap(self, number: int) -> bool:
        """Take the next message; whether one is missing before it."""
        before = max((last for last in self._last if last < number), default=0)
        if number - 1 in self._last:
            before = number - 1
        if before in self._last:
            self._last.remove(before)
        self._last = [*self._last[-KEPT_SENDERS:], number]
        return number > 1 and before != number - 1


class Observer(Node):
    """Listens on the topic of the commands, and to diagnostics."""

    def __init__(self, robot: RobotFile, **options: Any) -> None:
        super().__init__("campaign_observer", **options)
        self._sent: deque[Sent] = deque(maxlen=KEPT)
        self._senders = Senders()
        self.levels: dict[str, tuple[float, int, str]] = {}  # newest (time, level, text) by name
        self.closed: dict[Path, dict[str, str]] = {}  # bags that the recorder has closed
        # As ros2_control's controllers hear: no lost message is sent again, none comes late.
        heard = recorded(reliable=False)
        self.create_subscription(Float64MultiArray, robot.command.topic, self._on_command, heard)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RECORD)

    @property
    def sent(self) -> Sequence[Sent]:
        """Commands, oldest first."""
        return list(self._sent)

    @property
    def last(self) -> Sent | None:
        """The newest command."""
        return self._sent[-1] if self._sent else None

    def since(self, begin_s: float) -> list[Sent]:
        """The last command before `begin_s` and all from then on."""
        sent = self.sent
        first = next((i for i, one in enumerate(sent) if one.at_s >= begin_s), len(sent))
        return list(sent[max(first - 1, 0) :])

    def said(self, node: str, since_s: float) -> str | None:
        """What a node says of its command, where it says since then that all is well; else None."""
        told = [level for name, level in self.levels.items() if name.endswith(f"{node}: command")]
        for at_s, level, text in told:
            if at_s > since_s + SAID_S and level == 0 and text in ("ok", "limited"):
                return text
        return None

    def complaints(self) -> str:
        """What the nodes say that is not OK, and how long ago."""
        now_s = time.monotonic()
        told = self.levels.items()
        return "; ".join(
            f"{name}: {text} ({now_s - at_s:.1f} s ago)"
            for name, (at_s, level, text) in told
            if level
        )

    def _on_command(self, message: Float64MultiArray, info: Any) -> None:
        if message.layout.data_offset == INTRUDER:
            self._senders.gap(info["publication_sequence_number"])
            return
        # When the middleware received it: this process may have been held up since.
        late_s = (time.time_ns() - info["received_timestamp"]) * 1e-9
        at_s = time.monotonic() - (late_s if 0 <= late_s < 60 else 0.0)
        values = np.array(message.data)
        gap = self._senders.gap(info["publication_sequence_number"])
        self._sent.append(Sent(at_s, values, not values.any(), gap))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            level = int.from_bytes(status.level, "little")
            self.levels[status.name] = (time.monotonic(), level, status.message)
            if status.name.endswith(": bag") and status.message == "closed":
                told = values_of(status)
                self.closed[Path(told["path"])] = told
