"""Positions for a robot that takes positions, out of velocities or changes of position.

Shapes: A = entries of one raw action.
"""

from __future__ import annotations

import numpy as np

from wm_planner.errors import ConfigError
from wm_planner.runtime.free_space import FreeSpace
from wm_planner.runtime.position_limits import checked_limits


class Integrator:
    """Adds up actions to a target position, and says which actions that were in truth.

    The target begins where the robot is, keeps the position limits, and never gets further from
    the measured position than a tracking error: a robot that is blocked is not pushed harder and
    harder, and does not leap once it is free. When no action is followed any more, the target is
    where the robot is, once: a robot that sags under its weight is not followed down.

    A joint that is beyond a limit already is not made to jump back; it goes no further out.

    Args:
        kind: of the action: 'velocity' or 'position_delta'.
        low, high: (A,) position limits, radians or metres; infinite where there are none.
        dt_s: control period, seconds.
        space: where the positions may lead beside these limits; None: anywhere.
        tracking_error: greatest distance of the target from the measured position, in the unit of
            positions.

    Raises:
        ConfigError: a value cannot be used.
    """

    def __init__(
        self,
        kind: str,
        low: np.ndarray,
        high: np.ndarray,
        dt_s: float,
        tracking_error: float,
        space: FreeSpace | None = None,
    ) -> None:
        if kind not in ("velocity", "position_delta"):
            raise ConfigError(f"actions of kind '{kind}' cannot be integrated to positions")
        if not tracking_error > 0:
            raise ConfigError(f"tracking_error must be positive, got {tracking_error:g}")
        self.low, self.high = checked_limits(low, high)
        self._scale = dt_s if kind == "velocity" else 1.0
        self._tracking_error, self._space = tracking_error, space
        self._target: np.ndarray | None = None

    @property
    def target(self) -> np.ndarray | None:
        """(A,) where the robot is sent; None before `begin`."""
        return self._target

    def begin(self, positions: np.ndarray) -> None:
        """See `safety.Guard`."""
        self._target = np.array(positions, dtype=np.float64)

    def allow(self, action: np.ndarray, positions: np.ndarray, age_s: float) -> np.ndarray:
        """See `safety.Guard`; moves the target."""
        before = self._target
        if before is None:
            before = np.array(positions, dtype=np.float64)
        wanted = before + action * self._scale
        inside = np.clip(wanted, np.minimum(self.low, before), np.maximum(self.high, before))
        near = self._tracking_error
        near_by = np.clip(inside, positions - near, positions + near)
        self._target = near_by if self._space is None else self._space.end(before, near_by)
        # Where nothing was cut, the action is what it was, to the last bit.
        return np.where(self._target == wanted, action, (self._target - before) / self._scale)

    def refuse(self, positions: np.ndarray | None) -> None:
        """See `safety.Guard`; without a position the target stays."""
        if positions is not None:
            self._target = np.array(positions, dtype=np.float64)
