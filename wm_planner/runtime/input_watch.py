"""Why is there no observation? Each reason in its own words, with the value and the way out.

It knows neither torch nor ROS, and takes both clocks as arguments: that of the stamps, which may
be wrong, and a steady one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

# A machine's clock that begins at its start has not come so far; one that is set has.
LONGEST_UPTIME_NS = 10 * 365 * 86400 * 10**9
SILENT_S = 2.0  # without a message
CAMERA_LATENCY_S = 0.5  # from a picture's stamp to its receipt
PATIENCE_S = 2.0  # without an observation, though messages come
NEWEST = 100  # messages of a topic that are compared
SYNCHRONISE = "synchronise the clocks (chrony, PTP)"


@dataclass
class _Topic:
    """What came of one topic.

    Its stamps are ahead of this machine's clock at their receipt by `ahead_ns`. The way makes a
    message late and never early, so the greatest of some is nearest to what the clocks differ by.
    """

    heard_s: float | None = None
    period_s: float = 0.0  # between the newest two messages
    ahead_ns: deque[int] = field(default_factory=lambda: deque(maxlen=NEWEST))
    stamp_ns: int = 0
    stamped: bool = True
    problem: str = ""
    refused: int = 0

    @property
    def ahead_s(self) -> float:
        """Of its clock, seconds."""
        return max(self.ahead_ns, default=0) * 1e-9

    @property
    def late_s(self) -> float:
        """Of the newest message, behind the least delayed one, seconds."""
        return self.ahead_s - self.ahead_ns[-1] * 1e-9 if self.ahead_ns else 0.0


class InputWatch:
    """Remembers what came, and says why nothing can be planned from it. Use it from one thread.

    Args:
        pictures: topics of the cameras that are needed.
        joints: topic of the joint states.
        joined_s: how far apart stamps of one moment may be.
        reach_s: how far a plan reaches; older observations are of no use.
        ahead_s: how far stamps may be ahead of this machine's clock.
        clocked: stamps are of this machine's clock; False: of a simulator that waits.
    """

    def __init__(
        self,
        pictures: Sequence[str],
        joints: str,
        joined_s: float,
        reach_s: float,
        ahead_s: float,
        clocked: bool = True,
    ) -> None:
        self._pictures, self._joints = tuple(pictures), joints
        self._joined_s, self._reach_s, self._ahead_s = joined_s, reach_s, ahead_s
        self._clocked = clocked
        self._topics = {name: _Topic() for name in (*pictures, joints)}
        self._since_s: float | None = None  # when the watch began, or the newest observation came

    def heard(self, name: str, stamp_ns: int | None, now_ns: int, steady_s: float) -> None:
        """A message came that can be used; a stamp of None is one that nobody has filled in."""
        topic = self._topics.setdefault(name, _Topic())
        if topic.heard_s is not None:
            topic.period_s = steady_s - topic.heard_s
        topic.heard_s, topic.problem, topic.stamped = steady_s, "", stamp_ns is not None
        topic.stamp_ns = now_ns if stamp_ns is None else stamp_ns
        topic.ahead_ns.append(topic.stamp_ns - now_ns)

    def refused(self, name: str, problem: str, steady_s: float) -> None:
        """A message came that cannot be used."""
        topic = self._topics.setdefault(name, _Topic())
        topic.heard_s, topic.problem = steady_s, problem
        topic.refused += 1

    def observed(self, steady_s: float) -> None:
        """There was an observation, or none is wanted."""
        self._since_s = steady_s

    @property
    def unheard(self) -> list[str]:
        """Topics of which nothing has ever come."""
        return [name for name, topic in self._topics.items() if topic.heard_s is None]

    def clock_problem(self) -> str:
        """What is wrong with the stamps of a topic against this machine's clock; empty: nothing."""
        for name, topic in self._topics.items():
            problem = self._wrong_clock(topic) if self._clocked else ""
            if problem:
                return f"{name}: {problem}"
        return ""

    def reason(self, now_ns: int, steady_s: float) -> str:
        """Why there is no observation; empty: there is, or it is too early to say."""
        for name, topic in self._topics.items():
            if topic.problem:
                return f"{name}: {topic.problem}"
        if not self._clocked:  # a simulator may wait for long
            return ""
        if now_ns == 0:
            return (
                "use_sim_time is set, and nobody publishes /clock: start the simulator, or unset it"
            )
        if self._since_s is None:
            self._since_s = steady_s
        late_s = steady_s - self._since_s
        return self._silent(late_s, steady_s) or self.clock_problem() or self._apart(late_s)

    def note(self) -> str:
        """What is not as it should be though plans come of it; empty: nothing."""
        for name, topic in self._topics.items():
            if topic.heard_s is not None and not topic.stamped and self._clocked:
                return (
                    f"{name}: its stamps are 0: the time of receipt is taken in their place, which "
                    "is too late by the time of the transport; let the driver fill in header.stamp"
                )
        return self._gap(latency_s=CAMERA_LATENCY_S) if self._clocked else ""

    def values(self, steady_s: float) -> dict[str, float | int | str]:
        """Numbers of each topic by name."""
        told: dict[str, float | int | str] = {}
        for name, topic in self._topics.items():
            heard = topic.heard_s
            told[f"silent {name}"] = "never heard" if heard is None else round(steady_s - heard, 3)
            if self._clocked and heard is not None:
                told[f"stamp ahead {name}"] = round(topic.ahead_s, 3)
                told[f"late {name}"] = round(topic.late_s, 3)
            told[f"refused {name}"] = topic.refused
        return told

    def _wrong_clock(self, topic: _Topic) -> str:
        if topic.heard_s is None or not topic.stamped:
            return ""
        ahead_s = topic.ahead_s
        stamp_s = topic.stamp_ns * 1e-9
        if topic.stamp_ns < LONGEST_UPTIME_NS and -ahead_s > self._reach_s:
            return (
                f"its stamps ({stamp_s:.1f} s) count from the start of a machine, not from 1970: "
                "let its driver stamp with the system's clock, or with ROS time"
            )
        if -ahead_s > self._reach_s:
            return (
                f"its stamps are {-ahead_s:.1f} s behind this machine's clock, and a plan reaches "
                f"{self._reach_s:g} s: {SYNCHRONISE}; if the value grows, messages pile up"
            )
        if ahead_s > self._ahead_s:
            return f"its stamps are {ahead_s:.1f} s ahead of this machine's clock: {SYNCHRONISE}"
        return ""

    def _silent(self, late_s: float, steady_s: float) -> str:
        for name, topic in self._topics.items():
            silent_s = late_s if topic.heard_s is None else steady_s - topic.heard_s
            if silent_s < SILENT_S:
                continue
            if topic.heard_s is None:
                return f"{name}: nothing has come so far; {self._who(name)}"
            return f"{name}: nothing has come for {silent_s:.1f} s; {self._who(name)}"
        return ""

    def _who(self, name: str) -> str:
        if name == self._joints:
            return "do the robot's drivers run, and is the topic of the robot file the right one?"
        return "does the camera node run, and what do its diagnostics say?"

    def _apart(self, late_s: float) -> str:
        """Messages come, each with a stamp that could be right, and do not fit each other."""
        if late_s < PATIENCE_S:
            return ""
        gap = self._gap()
        if gap:
            return gap
        slow, topic = max(self._topics.items(), key=lambda item: item[1].late_s)
        if topic.late_s > self._joined_s:
            return (
                f"{slow}: messages come {topic.late_s:.2f} s later than usual, though the clocks "
                "agree: the machine or the network is too busy"
            )
        slow, topic = max(self._topics.items(), key=lambda item: item[1].period_s)
        return (
            f"no picture has joint states within {self._joined_s:g} s of it, though the clocks "
            f"agree; the slowest is {slow}, a message every {topic.period_s:.2f} s: raise its rate"
        )

    def _gap(self, latency_s: float = 0.0) -> str:
        """Clocks of two topics that differ by more than what is joined.

        Pictures may come later than joint states by `latency_s`, which looks the same.
        """
        first, *others = (*self._pictures, self._joints)
        for name in others:
            if not (self._topics[name].ahead_ns and self._topics[first].ahead_ns):
                continue
            gap_s = self._topics[name].ahead_s - self._topics[first].ahead_s
            if not -self._joined_s <= gap_s <= max(self._joined_s, latency_s):
                relation = "ahead of" if gap_s > 0 else "behind"
                return (
                    f"{name}: its stamps are {abs(gap_s):.2f} s {relation} those of {first}, and "
                    f"stamps of one moment may be {self._joined_s:g} s apart: "
                    f"{SYNCHRONISE}, or make pictures come sooner"
                )
        return ""
