"""What a controller does at each tick: the due action through the safety gate, or no answer yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wm_planner.errors import NonFiniteActionError
from wm_planner.runtime.plan_buffer import PlanBuffer
from wm_planner.runtime.safety import Command, Measured, SafetyGate
from wm_planner.types import Plan

NEVER_NS = 10**18  # so long ago was a tick after which anything may have happened


class ControlLoop:
    """Joins plan buffer, ages of what was sensed, and the gate. Use it from one thread.

    A sample is as old as the older of two ages: the one of its stamp, by the clock of the stamps,
    and the one of its receipt, by a steady clock. The clock of the stamps may step or stand still:
    then the second age still grows. Where no receipt is given, as in lock-step, the stamp counts
    alone.

    Args:
        gate: the last gate.
        sources: what the robot is sensed by; nothing is followed until each has been heard of.
        rows_per_plan: in lock-step, how many rows of a plan are executed before a newer plan must
            have come; None in real time, where the newest plan is followed as far as it goes.
        late_ns: time between two ticks, on the steady clock, after which a command guard may have
            stopped the robot. The next action is then near the safe action, too: near the one that
            was sent last alone, it would be a leap from rest. None: there is no guard.
    """

    def __init__(
        self,
        gate: SafetyGate,
        sources: Sequence[str],
        rows_per_plan: int | None = None,
        late_ns: int | None = None,
    ) -> None:
        self.gate = gate
        self._sources = tuple(sources)
        self._rows_per_plan = rows_per_plan
        self._late_ns = late_ns
        self._ticked_ns: int | None = None  # steady
        self._buffer = PlanBuffer()
        self._sensed: dict[str, tuple[int, int | None]] = {}  # stamp, receipt
        self._plan_received_ns: int | None = None
        self._measured_received_ns: int | None = None
        self._measured: Measured | None = None
        self._answered: tuple[int, Command] | None = None
        self._poisoned_stamp_ns: int | None = None

    @property
    def plan(self) -> Plan | None:
        """The plan being followed."""
        return self._buffer.plan

    def sensed(self, source: str, stamp_ns: int, received_ns: int | None = None) -> None:
        """Note the capture time of a sample of one of the sources, and its receipt, steady."""
        self._sensed[source] = (stamp_ns, received_ns)

    def measured(
        self, positions: np.ndarray, stamp_ns: int, received_ns: int | None = None
    ) -> None:
        """Note where the joints of the action (A,) were; see `sensed`."""
        self._measured = Measured(np.array(positions, dtype=np.float64), stamp_ns)
        self._measured_received_ns = received_ns

    def ages_s(self, now_ns: int, steady_ns: int | None = None) -> dict[str, float]:
        """Age of the newest sample of each source that was heard of, and of the plan."""
        newest = dict(self._sensed)
        if self.plan is not None:
            newest["plan"] = (self.plan.stamp_ns, self._plan_received_ns)
        return {
            source: (now_ns - _effective(*sample, now_ns, steady_ns)) * 1e-9
            for source, sample in newest.items()
        }

    def put(self, plan: Plan, received_ns: int | None = None) -> None:
        """Follow a plan, received at a steady time.

        Raises:
            NonFiniteActionError: it holds NaN or infinity; nothing is followed until the next
                good plan.
        """
        try:
            if self._buffer.put(plan):
                self._plan_received_ns = received_ns
            self._poisoned_stamp_ns = None
        except NonFiniteActionError:
            self._buffer.clear()
            self._poisoned_stamp_ns = plan.stamp_ns
            raise

    def drop_plan(self) -> None:
        """Follow nothing until the next plan."""
        self._buffer.clear()
        self._poisoned_stamp_ns = None

    def clear(self) -> None:
        """Forget plans and samples, as on activation."""
        self.drop_plan()
        self._sensed.clear()
        self._measured = None
        self._answered = None
        self._ticked_ns = None

    def interrupt(self) -> None:
        """Somebody has stopped the robot since the last tick: the next action is near rest, too."""
        self._ticked_ns = -NEVER_NS

    def safe_command(self, now_ns: int = 0, steady_ns: int | None = None) -> Command:
        """The refusal of a gate that is stopped or disabled, or that has no plan."""
        return self.gate.check(None, None, None, now_ns, self._where(now_ns, steady_ns))

    def tick(self, now_ns: int, steady_ns: int | None = None) -> Command | None:
        """The command for `now_ns`, which is `steady_ns` on the clock of the receipts.

        In lock-step None means that the plan for this tick has not come yet, and a tick that was
        answered gets the same answer again. A clock that moved backwards (simulator reset) ends
        what was planned.
        """
        if self._answered is not None and now_ns < self._answered[0]:
            self.drop_plan()
            self._answered = None
        if self._rows_per_plan is not None:
            if self._answered is not None and self._answered[0] == now_ns:
                return self._answered[1]
            if not self._lockstep_ready(now_ns):
                return None
        command = self._decide(now_ns, steady_ns)
        self._answered = (now_ns, command)
        return command

    def _decide(self, now_ns: int, steady_ns: int | None) -> Command:
        if self._late_ns is not None and steady_ns is not None:
            before_ns = steady_ns if self._ticked_ns is None else self._ticked_ns
            self.gate.late = steady_ns - before_ns >= self._late_ns
            self._ticked_ns = steady_ns
        due = self._buffer.due(now_ns)
        action, stamp_ns = None, None
        if due is not None:
            action, plan = due
            stamp_ns = _effective(plan.stamp_ns, self._plan_received_ns, now_ns, steady_ns)
        elif self._poisoned_stamp_ns is not None:
            action, stamp_ns = np.full(len(self.gate.limits.low), np.nan), self._poisoned_stamp_ns
        sensed = self._least_fresh(now_ns, steady_ns)
        return self.gate.check(action, sensed, stamp_ns, now_ns, self._where(now_ns, steady_ns))

    def _least_fresh(self, now_ns: int, steady_ns: int | None) -> int | None:
        """The stamp furthest from now; None while a source has not been heard of.

        Furthest, not oldest: a stamp of the future would hide that its source has died.
        """
        if any(source not in self._sensed for source in self._sources):
            return None
        stamps = [_effective(*sample, now_ns, steady_ns) for sample in self._sensed.values()]
        return max(stamps, key=lambda stamp_ns: abs(now_ns - stamp_ns))

    def _where(self, now_ns: int, steady_ns: int | None) -> Measured | None:
        """Where the joints were, with the stamp that the older of its two ages gives it."""
        if self._measured is None:
            return None
        received_ns, stamp_ns = self._measured_received_ns, self._measured.stamp_ns
        stamp_ns = _effective(stamp_ns, received_ns, now_ns, steady_ns)
        return replace(self._measured, stamp_ns=stamp_ns)

    def _lockstep_ready(self, now_ns: int) -> bool:
        plan = self._buffer.plan
        if plan is None:
            return self._poisoned_stamp_ns is not None
        assert self._rows_per_plan is not None
        return 0 <= now_ns - plan.stamp_ns < self._rows_per_plan * plan.dt_ns


def _effective(stamp_ns: int, received_ns: int | None, now_ns: int, steady_ns: int | None) -> int:
    """The stamp, or the one that the time since the receipt gives, whichever is further from now.

    Further, not older: a stamp of the future stays one.
    """
    if received_ns is None or steady_ns is None:
        return stamp_ns
    by_receipt_ns = now_ns - (steady_ns - received_ns)
    return max(stamp_ns, by_receipt_ns, key=lambda each_ns: abs(now_ns - each_ns))
