"""Ways to goals with their outcomes: a simulator's episodes, or the goals that somebody set."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from wm_planner.runtime.arrival import Arrival

KEPT = 50
WAITING, UNDER_WAY = "waiting for Start", "on its way"
REACHED, NOT_REACHED, STOPPED = "reached", "not reached", "stopped"
REPLACED, CLEARED = "another goal was set", "the goal was cleared"


@dataclass
class Episode:
    """One way to a goal.

    Attributes:
        number: of the simulator's episode, or of the goal on this board.
        outcome: a word of this module.
        seconds: from the moment that the robot was free to move; NaN before.
        distance: to the goal: by the simulator's measure, or the greatest difference of a joint.
        picture: latent distance of the picture to the goal's.
        steps: model steps, of a simulator's episode.
    """

    number: int
    outcome: str
    seconds: float = math.nan
    distance: float = math.nan
    picture: float = math.nan
    steps: int | None = None


class Episodes:
    """Follows goals and events; any thread.

    Args:
        tolerances: when a goal counts as reached, see `runtime.arrival`.
        for_s: for how long, seconds.
        now_s: monotonic clock.
    """

    def __init__(
        self,
        tolerances: dict[str, float | None] | None = None,
        for_s: float = 1.0,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tolerances, self._for_s, self._now_s = dict(tolerances or {}), for_s, now_s
        self._arrival = Arrival({}, for_s)
        self._lock = threading.RLock()
        self._rows: deque[Episode] = deque(maxlen=KEPT)
        self._current: Episode | None = None
        self._since_s: float | None = None  # the robot is free to move
        self._active = self._judged = False
        self._goal_ns = 0
        self._number = 0

    def set_tolerances(self, tolerances: dict[str, float | None], for_s: float) -> None:
        """When a goal that is set from now on counts as reached."""
        with self._lock:
            self._tolerances, self._for_s = dict(tolerances), for_s

    @property
    def tolerances(self) -> dict[str, float | None]:
        """By measure: 'proprio' and 'picture'; None: not asked for, or a simulator judges."""
        with self._lock:
            return dict.fromkeys(self._tolerances) if self._judged else dict(self._tolerances)

    @property
    def rule(self) -> str:
        """When a goal counts as reached, for people."""
        with self._lock:
            if self._judged:
                return "the simulator judges"
            asked = [f"{name} within {t:.3g}" for name, t in self._tolerances.items() if t]
            if asked:
                return f"reached means {' and '.join(asked)} for {self._for_s:g} s"
        return (
            "nothing says when a goal is reached: give the robot file to 'wm-planner view', with "
            "its key 'arrived'"
        )

    # Of a simulator -----------------------------------------------------------------------

    def event(self, kind: str, number: int, **result: Any) -> None:
        """The simulator's 'start' or 'end' of an episode; it judges, not this class.

        Args:
            kind: 'start' or 'end'.
            number: of the episode.
            result: at its end ``success``, ``steps`` and ``distance``.
        """
        with self._lock:
            self._judged = True
            if kind == "start":
                self._begin(number, UNDER_WAY)
                self._since_s = self._now_s()
            elif self._current is not None and self._current.number == number:
                self._current.steps, self._current.distance = result["steps"], result["distance"]
                self._end(REACHED if result["success"] else NOT_REACHED)

    def distance(self, value: float) -> None:
        """The simulator's distance of now."""
        with self._lock:
            if self._current is not None:
                self._current.distance = value

    # Of goals ------------------------------------------------------------------------------

    def goal(self, stamp_ns: int, knows_joints: bool) -> None:
        """Another goal is set."""
        with self._lock:
            if self._judged:
                return
            if self._current is not None and self._goal_ns == stamp_ns:
                if knows_joints:
                    self._judge_by(knows_joints)
                return  # sent again, or its joints came after its picture
            self._end(REPLACED)
            self._number += 1
            self._begin(self._number, UNDER_WAY if self._active else WAITING)
            self._goal_ns = stamp_ns
            self._since_s = self._now_s() if self._active else None
            self._judge_by(knows_joints)

    def cleared(self) -> None:
        """There is no goal any more."""
        with self._lock:
            if not self._judged:
                self._end(CLEARED)

    def controller(self, active: bool) -> None:
        """Whether the controller lets the robot move."""
        with self._lock:
            was, self._active = self._active, active
            if self._judged or self._current is None or was == active:
                return
            if active:
                self._since_s = self._now_s()
                self._current.outcome = UNDER_WAY
            elif self._since_s is not None:
                row = self._current
                self._end(STOPPED)
                self._again(row)

    def measure(self, name: str, stamp_ns: int, value: float) -> None:
        """A distance to the goal: 'proprio' or 'picture', of a stamp."""
        with self._lock:
            row = self._current
            if row is None or self._judged or stamp_ns < self._goal_ns:
                return
            if name == "proprio":
                row.distance = value
            else:
                row.picture = value
            if self._since_s is None:
                return
            self._arrival.add(name, stamp_ns, value)
            if self._arrival.arrived:
                self._end(REACHED)

    def rows(self) -> list[dict[str, Any]]:
        """Newest first."""
        with self._lock:
            if self._current is not None and self._since_s is not None:
                self._current.seconds = self._now_s() - self._since_s
            return [asdict(row) for row in reversed(self._rows)]

    def _judge_by(self, knows_joints: bool) -> None:
        asked = dict(self._tolerances)
        if not knows_joints:
            asked["proprio"] = None
        self._arrival = Arrival(asked, self._for_s)

    def _begin(self, number: int, outcome: str) -> None:
        self._current = Episode(number, outcome)
        self._rows.append(self._current)

    def _again(self, before: Episode) -> None:
        """The goal stays when the robot was stopped: Start goes on towards it."""
        self._begin(before.number, WAITING)
        self._since_s = None
        self._arrival.clear()

    def _end(self, outcome: str) -> None:
        row, self._current = self._current, None
        if row is None:
            return
        if self._since_s is not None:
            row.seconds = self._now_s() - self._since_s
        row.outcome, self._since_s = outcome, None
