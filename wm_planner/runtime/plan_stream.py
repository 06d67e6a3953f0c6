"""Plans that continue each other row by row, however late each of them comes.

A controller takes the row of a plan that is due at each of its ticks. Two things would make a
motion jerk there: ticks that fall now before and now behind the border of two rows, and a plan
that begins elsewhere than the one before it has got to. So rows are laid such that ticks fall in
their middle, rows that may already be on their way to the robot stay what they were, and every
plan ends at rest.

Shapes: A = entries of one raw action, N = control periods.
"""

from __future__ import annotations

import math

import numpy as np

from wm_planner.errors import PlanningError
from wm_planner.runtime.exploration import Motion
from wm_planner.runtime.motion import Track, braked
from wm_planner.types import Plan

# A plan goes on for at least so long, most of it at rest: on a machine that is busy for a while it
# ends by the controller's limit of age, which the robot's file states, and not by its last row.
AHEAD_S = 5.0
BEHIND_S = 10.0  # it begins no earlier than so long ago, whatever the observation's stamp says
LEAD_S = 0.1  # rows due earlier than this from now are not changed any more
_MOST_ROWS = 10000  # of a plan that brakes: far beyond any robot
_FOLLOW = 0.2  # share of what is measured of the controller's phase that is taken over at a tick


class PlanStream:
    """Makes the plans. Use it from one thread.

    Args:
        track: along which the robot is led.
        dt_ns: control period, nanoseconds.
        fresh_s: how far a plan goes on with a motion before it comes to rest: until the next
            plan, at the least.
    """

    def __init__(self, track: Track, dt_ns: int, fresh_s: float) -> None:
        self.track, self._dt_ns = track, dt_ns
        self._lead = math.ceil(LEAD_S * 1e9 / dt_ns) + 1
        self._fresh = math.ceil(fresh_s * 1e9 / dt_ns) + 1
        self._ahead = math.ceil(AHEAD_S * 1e9 / dt_ns)
        self._origin_ns: int | None = None  # where row 0 begins
        self._stamp_ns = 0  # of the newest plan
        self._sent: np.ndarray | None = None
        self._rows: list[np.ndarray] = []
        self._first = 0  # number of the first of them
        self._decided = 0  # number behind the last row of a motion; those that follow brake

    def ticked(self, stamp_ns: int, action: np.ndarray) -> None:
        """The controller has sent (A,) an action at a tick."""
        self._sent = np.array(action, dtype=np.float64)
        half_ns = self._dt_ns // 2
        if self._origin_ns is None:
            self._origin_ns = stamp_ns - half_ns
            return
        off_ns = (stamp_ns - self._origin_ns) % self._dt_ns - half_ns
        self._origin_ns += round(_FOLLOW * off_ns)

    def halt(self) -> None:
        """Nothing that was planned is followed any more."""
        self._rows = []

    def is_still(self, now_ns: int) -> bool:
        """Whether the robot was told to rest and, at `now_ns`, has been sent nothing else for a
        control period.
        """
        if not self._rows or self._origin_ns is None or not self.track.is_still:
            return False
        index = max(self._index(now_ns) - 1 - self._first, 0)
        return all(np.allclose(row, self._rows[-1], atol=1e-9) for row in self._rows[index:])

    def next(
        self,
        motion: Motion,
        now_ns: int,
        seen_ns: int,
        position: np.ndarray | None = None,
        speed: np.ndarray | None = None,
    ) -> Plan | None:
        """The plan from `now_ns` on; None before the controller's first tick.

        Args:
            motion: what is wished.
            now_ns: current time.
            seen_ns: stamp of the newest observation, by the same clock.
            position: (A,) as observed then; None: nobody measures it, as with a twist.
            speed: (A,) as observed then, of a robot that takes efforts: it goes on so. None: it
                goes on as it is told.
        """
        if self._origin_ns is None or self._sent is None:
            return None
        begin = self._index(now_ns) + self._lead
        self._keep(self._index(now_ns), begin)
        end = max(begin + self._fresh, self._decided)
        if position is not None and end > self._decided:
            self._place(seen_ns, position, speed)
        while self._decided < end:
            self._rows.append(self.track.advance(motion.wish(self.track), motion.kept))
            self._decided += 1
        rest = max(self._ahead - self._fresh - self._lead, 1)
        tail = braked(self.track, rest)
        while not np.allclose(tail[-1], tail[-2] if len(tail) > 1 else self._rows[-1], atol=1e-9):
            rest *= 2
            if rest > _MOST_ROWS or not np.isfinite(tail).all():
                raise PlanningError("the exploration's plan does not come to rest")
            tail = braked(self.track, rest)
        self._rows += list(tail)
        return self._plan(now_ns, seen_ns)

    def _index(self, stamp_ns: int) -> int:
        """Number of the row that is due."""
        assert self._origin_ns is not None
        return (stamp_ns - self._origin_ns) // self._dt_ns

    def _keep(self, now: int, begin: int) -> None:
        """Of the rows that there are, keep those that are due before row `begin`, or decided."""
        assert self._sent is not None
        last = self._first + len(self._rows)
        if not self._rows or not self._first <= now < last:
            # The first plan, or one after a pause: from what the robot is sent now.
            self._first, self._rows = now - 1, [self._sent] * (begin - now + 1)
            self._decided = begin
            self.track.resume(np.array(self._rows))
            return
        if begin > self._decided:  # late: the robot has begun to brake
            rows = self._rows[: begin - self._first]
            self._rows = rows + [rows[-1]] * (begin - self._first - len(rows))
            self.track.resume(np.array(self._rows[self._decided - self._first - 1 :]))
            self._decided = begin
        self._rows = self._rows[: self._decided - self._first]

    def _place(self, seen_ns: int, position: np.ndarray, speed: np.ndarray | None) -> None:
        """Tell the track where the robot will be: as observed, and moved by what it is sent."""
        assert self._origin_ns is not None
        dt_s = self._dt_ns * 1e-9
        seen_s = (seen_ns - self._origin_ns) * 1e-9
        if speed is not None:
            moved = speed * max(self._decided * dt_s - seen_s, 0)
            self.track.place(position + moved, speed)
            return
        begins_s = (np.arange(len(self._rows)) + self._first) * dt_s
        during_s = np.clip(begins_s + dt_s - seen_s, 0, dt_s)
        moved = during_s @ self.track.speeds_of(np.array(self._rows))
        self.track.place(position + moved, np.zeros_like(position))

    def _plan(self, now_ns: int, seen_ns: int) -> Plan:
        """All rows from the one that was due at the observation on."""
        assert self._origin_ns is not None
        now = self._index(now_ns)
        seen = max(min(self._index(seen_ns), now), now - math.ceil(BEHIND_S * 1e9 / self._dt_ns))
        passed = max(min(seen, self._decided - 1) - self._first, 0)
        del self._rows[:passed]
        self._first += passed
        before = [self._rows[0]] * max(self._first - seen, 0)
        stamp_ns = self._origin_ns + seen * self._dt_ns
        if 0 < self._stamp_ns - stamp_ns < self._dt_ns:  # a controller takes no older plan
            stamp_ns = self._stamp_ns
        self._stamp_ns = stamp_ns
        return Plan(stamp_ns, self._dt_ns, np.array(before + self._rows, dtype=np.float32))
