"""Joint states: what is wrong with a message, and joints that come in several of them.

Legend: P = proprioception entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wm_planner.data.messages import joint_values
from wm_planner.embodiment import FIELDS


def joint_problem(message: Any, entries: Sequence[str]) -> str:
    """What is wrong with a JointState, as far as `entries` are concerned; empty: nothing.

    A message of another device, or of some of the joints, is not wrong.

    Args:
        message: sensor_msgs/JointState.
        entries: '<joint>/<position|velocity|effort>'.
    """
    names = list(message.name)
    wanted = {entry.rpartition("/")[0] for entry in entries}
    if not wanted & set(names):
        return ""
    for joint in sorted(wanted):
        if names.count(joint) > 1:
            return f"joint {joint} is named {names.count(joint)} times in one message"
    for field in FIELDS:
        count = len(getattr(message, field))
        if count not in (0, len(names)):
            return f"{len(names)} names and {count} values of {field}"
    for entry in entries:
        joint, _, field = entry.rpartition("/")
        column = getattr(message, field)
        if joint in names and len(column):
            value = column[names.index(joint)]
            with np.errstate(over="ignore"):
                if not np.isfinite(np.float32(value)):
                    return f"joint {joint}: {field} {value}"
    return ""


class JointCollector:
    """Proprioception of a robot whose joints may come in several messages on one topic.

    Args:
        entries: '<joint>/<position|velocity|effort>', P of them.
        gap_ns: greatest age of a value when the last one comes.
    """

    def __init__(self, entries: Sequence[str], gap_ns: int) -> None:
        self.entries, self.gap_ns = tuple(entries), gap_ns
        self._values = np.full(len(self.entries), np.nan)
        self._stamps_ns = np.zeros(len(self.entries), np.int64)

    @property
    def missing(self) -> list[str]:
        """Entries of which no message has said anything so far."""
        return [e for e, value in zip(self.entries, self._values, strict=True) if np.isnan(value)]

    def lacking(self, message: Any, stamp_ns: int) -> str:
        """Why `add` has given None for a message; empty: it is of another device."""
        if self.missing:
            return f"nothing of {', '.join(self.missing)} so far"
        if not np.isfinite(joint_values(message, self.entries)).any():
            return ""
        ages = (stamp_ns - self._stamps_ns) * 1e-9
        return f"{self.entries[int(ages.argmax())]} is {ages.max():.2f} s older than the others"

    def add(self, message: Any, stamp_ns: int) -> np.ndarray | None:
        """(P,) float32 once all entries are known; None until then, and of another device.

        Args:
            message: sensor_msgs/JointState.
            stamp_ns: of the message.
        """
        values = joint_values(message, self.entries)
        known = np.isfinite(values)
        if not known.any():
            return None
        self._values = np.where(known, values, self._values)
        self._stamps_ns = np.where(known, stamp_ns, self._stamps_ns)
        if np.isnan(self._values).any() or np.any(stamp_ns - self._stamps_ns > self.gap_ns):
            return None
        return self._values.astype(np.float32)
