"""The newest plan, and which of its actions is due now."""

from __future__ import annotations

import numpy as np

from wm_planner.errors import NonFiniteActionError
from wm_planner.types import Plan


class PlanBuffer:
    """Holds one plan. Latency skips rows, it does not delay them. Use it from one thread."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._last_now_ns: int | None = None

    @property
    def plan(self) -> Plan | None:
        """The plan held, due or not."""
        return self._plan

    def put(self, plan: Plan) -> bool:
        """Take `plan` unless it is older than the one held; say whether it was taken.

        A plan of the same stamp replaces: the goal may have changed under the same observation.
        So does any when the one held lies in the future: its stamp came from another clock, and it
        would keep all others out until then.

        Raises:
            NonFiniteActionError: the plan holds NaN or infinity; the plan held stays.
        """
        finite = np.isfinite(plan.actions).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            raise NonFiniteActionError(
                f"plan of stamp {plan.stamp_ns} refused: row {row} of {len(finite)} is "
                f"{plan.actions[row].tolist()}"
            )
        if self._plan is not None and plan.stamp_ns < self._plan.stamp_ns:
            now_ns = self._last_now_ns
            if now_ns is None or self._plan.stamp_ns <= now_ns:
                return False
        self._plan = plan
        return True

    def due(self, now_ns: int) -> tuple[np.ndarray, Plan] | None:
        """The action for `now_ns` and the plan it belongs to.

        Row floor((now - stamp) / dt); None before the stamp, past the last row, and without a
        plan. A clock that moved backwards (simulator reset) clears the buffer.
        """
        if self._last_now_ns is not None and now_ns < self._last_now_ns:
            self.clear()
        self._last_now_ns = now_ns
        if self._plan is None:
            return None
        row = (now_ns - self._plan.stamp_ns) // self._plan.dt_ns
        if not 0 <= row < len(self._plan.actions):
            return None
        return self._plan.actions[row].copy(), self._plan

    def clear(self) -> None:
        """Forget the plan and the time."""
        self._plan = None
        self._last_now_ns = None
