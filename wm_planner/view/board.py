"""All that the page shows, as plain values; written by ROS callbacks and read by the web server."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from wm_planner.view.episodes import Episodes

REPLANS, LINES = 240, 30  # that are kept
FRESH_S = 3.0  # a node reports once a second; one that has not for so long is silent
PLANNER_S = 10.0  # so long a planner may be busy
PICTURES = ("camera", "goal", "imagined")


@dataclass
class Replan:
    """One plan; NaN where a number is not known.

    Attributes:
        stamp_ns: of the picture that it was made from.
        at_s: when it came, wall clock.
        cost, picture, proprio: of the plan, and distances to the goal.
        plan_s: that it took.
        command_s: from the picture's receipt to the first command of the plan.
    """

    stamp_ns: int
    at_s: float
    cost: float
    picture: float
    proprio: float
    plan_s: float
    command_s: float = math.nan


@dataclass
class Told:
    """The newest status of a name.

    Attributes:
        level: 0 OK, 1 warning, 2 error, 3 stale.
        heard_s: when, on the board's clock.
    """

    level: int
    message: str
    values: dict[str, str]
    heard_s: float


@dataclass(frozen=True)
class Goal:
    """A goal that can be set by a click.

    Attributes:
        number: unique on this board.
        name: for people.
        picture: (S, C * S, 3) uint8.
        proprio: (P,) float32, or None.
    """

    number: int
    name: str
    picture: np.ndarray
    proprio: np.ndarray | None


@dataclass
class Board:
    """See the module; every method may be called from any thread.

    Attributes:
        robot: name of the embodiment; empty: not known yet.
        where: domain and namespace, for people.
        nodes: of this package that are on the graph, by their names in the namespace.
        problem: why the page cannot show all; empty: it can.
        starting: Start is under way.
        can_reset: a simulated driver can put the robot at another start.
    """

    where: str = ""
    robot: str = ""
    nodes: frozenset[str] = frozenset()
    problem: str = ""
    starting: bool = False
    can_reset: bool = False
    episodes: Episodes = field(default_factory=Episodes)
    now_s: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, Told] = {}
        self._replans: deque[Replan] = deque(maxlen=REPLANS)
        self._lines: deque[dict[str, Any]] = deque(maxlen=LINES)
        self._pictures: dict[str, tuple[int, np.ndarray]] = {}
        self._goals: list[Goal] = []
        self._seen: deque[tuple[int, float]] = deque(maxlen=100)  # stamps of pictures, and receipt
        self._waiting: int | None = None  # stamp of the plan that no command has followed yet

    # What happened ---------------------------------------------------------------------------

    def tell(self, name: str, level: int, message: str, values: Mapping[str, str]) -> None:
        """A status of a node."""
        with self._lock:
            self._told[name] = Told(level, message, dict(values), self.now_s())

    def log(self, node: str, level: str, text: str) -> None:
        """A line of a node's log that somebody should read."""
        line = {"node": node, "level": level, "text": text, "at_s": time.time()}
        with self._lock:
            self._lines.append(line)

    def last_error(self, node: str, since_s: float) -> str:
        """The newest line of a node's log since then, wall clock; empty: there is none."""
        with self._lock:
            lines = [x for x in self._lines if x["node"] == node and x["at_s"] >= since_s]
        return str(lines[-1]["text"]) if lines else ""

    def show(self, name: str, picture: np.ndarray | None, stamp_ns: int = 0) -> None:
        """Another picture (H, W, 3) uint8 RGB of `PICTURES`; None: there is none any more."""
        with self._lock:
            number = self._pictures.get(name, (0, None))[0] + 1
            if picture is None:
                picture = np.zeros((0, 0, 3), np.uint8)
            self._pictures[name] = (number, picture)
            if name == "camera":
                self._seen.append((stamp_ns, self.now_s()))

    def replanned(self, replan: Replan) -> None:
        """A plan's numbers."""
        with self._lock:
            self._replans.append(replan)

    def planned(self, stamp_ns: int) -> None:
        """A plan was sent to the controller."""
        with self._lock:
            self._waiting = stamp_ns

    def commanded(self, stamp_ns: int) -> None:
        """A command was sent; the first of a plan tells how long the way from the camera took."""
        with self._lock:
            planned_ns = self._waiting
            if planned_ns is None or stamp_ns < planned_ns:
                return
            self._waiting = None
            seen_s = dict(self._seen).get(planned_ns)
            for replan in reversed(self._replans):
                if replan.stamp_ns == planned_ns and seen_s is not None:
                    replan.command_s = self.now_s() - seen_s
                    return

    def keep_goal(self, name: str, picture: np.ndarray, proprio: np.ndarray | None) -> Goal:
        """Put a goal on the shelf; the newest twelve stay."""
        with self._lock:
            number = 1 + max((goal.number for goal in self._goals), default=0)
            goal = Goal(number, name, picture, proprio)
            self._goals = [*self._goals, goal][-12:]
        return goal

    # What is shown ---------------------------------------------------------------------------

    def goal(self, number: int) -> Goal | None:
        """A goal of the shelf."""
        with self._lock:
            return next((goal for goal in self._goals if goal.number == number), None)

    def picture(self, name: str) -> np.ndarray | None:
        """The newest of that name, (H, W, 3) uint8 RGB; None: there is none."""
        with self._lock:
            picture = self._pictures.get(name, (0, None))[1]
        return picture if picture is not None and picture.size else None

    def controller(self) -> str:
        """What the controller is: absent, unconfigured, inactive, active or stopped."""
        if "controller_node" not in self.nodes:
            return "absent"
        with self._lock:
            told = self._told.get("controller_node: command")
        if told is None or self.now_s() - told.heard_s > FRESH_S:
            return "unconfigured"
        if told.values.get("active") == "true":
            return "active"
        return "stopped" if told.values.get("reason") == "stopped" else "inactive"

    def why_no_goal(self) -> str:
        """Why no goal can be set from the page; empty: it can."""
        if "bridge_node" in self.nodes:
            return "the simulator sets the goals of its episodes and judges them"
        if "planner_node" not in self.nodes:
            return "the planner is not running"
        with self._lock:
            told = self._told.get("planner_node: inputs")
        if told is None or self.now_s() - told.heard_s > PLANNER_S:
            return "the planner does not report; it may still be loading"
        if not self.robot:
            return "the planner has not said yet which robot it plans for"
        return ""

    def snapshot(self) -> dict[str, Any]:
        """All of it, as JSON takes it: numbers that are not known are None."""
        controller, why_no_goal = self.controller(), self.why_no_goal()
        with self._lock:
            now_s = self.now_s()
            told = [
                {
                    "node": name.partition(": ")[0],
                    "name": name.partition(": ")[2],
                    "level": each.level,
                    "message": each.message,
                    "values": each.values,
                    "age_s": round(now_s - each.heard_s, 1),
                }
                for name, each in sorted(self._told.items())
            ]
            known = {
                "second": round(time.time()),  # so that there is always something new
                "where": self.where,
                "robot": self.robot,
                "nodes": sorted(self.nodes),
                "problem": self.problem,
                "controller": controller,
                "starting": self.starting,
                "can_reset": self.can_reset,
                "diagnostics": told,
                "replans": [_plain(asdict(replan)) for replan in self._replans],
                "pictures": {
                    name: number if picture.size else 0
                    for name, (number, picture) in self._pictures.items()
                },
                "goals": [
                    {"number": g.number, "name": g.name, "joints": g.proprio is not None}
                    for g in self._goals
                ],
                "log": list(self._lines),
            }
        rows = [_plain(each) for each in self.episodes.rows()]
        more = {"rule": self.episodes.rule, "tolerances": self.episodes.tolerances}
        return known | {"episodes": rows, "why_no_goal": why_no_goal, **more}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without NaN, which JSON does not have; stamps are too long for JavaScript's numbers."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
        if key != "stamp_ns"
    }
