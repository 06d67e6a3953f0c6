"""The last gate before the robot: clamp, rate-limit or refuse, and say why.

Not a safety function in the sense of ISO 13850: a hardware emergency stop stays needed.

Shapes: A = entries of one raw action.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from wm_planner.errors import ConfigError


class Reason(str, Enum):
    """Why a command is what it is. Only `ok` and `limited` carry the planner's action."""

    OK = "ok"
    LIMITED = "limited"
    STOPPED = "stopped"
    DISABLED = "disabled"
    NO_PLAN = "no_plan"
    STALE = "stale"
    BAD_SHAPE = "bad_shape"
    NON_FINITE = "non_finite"

    def __str__(self) -> str:
        return self.value

    @property
    def refused(self) -> bool:
        """True when the safe action was sent in place of the planner's."""
        return self not in (Reason.OK, Reason.LIMITED)


@dataclass(frozen=True)
class Command:
    """What goes to the robot.

    Attributes:
        action: (A,) float64, physical units, finite and within the limits.
        reason: why.
    """

    action: np.ndarray
    reason: Reason


@dataclass(frozen=True)
class Limits:
    """Bounds of one raw action, physical units.

    Attributes:
        low, high: (A,) inclusive bounds.
        max_rate: (A,) largest change per second, or None for no rate limit.

    Raises:
        ConfigError: not finite, shapes differ, low >= high, or a rate <= 0.
    """

    low: np.ndarray
    high: np.ndarray
    max_rate: np.ndarray | None = None

    def __post_init__(self) -> None:
        low = _vector("limits.low", self.low)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", _vector("limits.high", self.high, len(low)))
        if not np.all(self.low < self.high):
            raise ConfigError(
                f"limits.low {low.tolist()} must be below limits.high {self.high.tolist()}"
            )
        if self.max_rate is not None:
            rate = _vector("limits.max_rate", self.max_rate, len(low))
            object.__setattr__(self, "max_rate", rate)
            if not np.all(rate > 0):
                raise ConfigError(f"limits.max_rate must be positive, got {rate.tolist()}")


def refusal(
    action: np.ndarray | None,
    size: int,
    observation_stamp_ns: int | None,
    plan_stamp_ns: int | None,
    now_ns: int,
    stale_after_ns: int,
) -> Reason | None:
    """Why `action` must not be sent, or None. Never raises: it runs in the control loop."""
    if action is None or plan_stamp_ns is None:
        return Reason.NO_PLAN
    for stamp_ns in (observation_stamp_ns, plan_stamp_ns):
        # A stamp far in the future comes from another clock: its age means nothing.
        if stamp_ns is None or abs(now_ns - stamp_ns) > stale_after_ns:
            return Reason.STALE
    if np.shape(action) != (size,):
        return Reason.BAD_SHAPE
    if not np.all(np.isfinite(action)):
        return Reason.NON_FINITE
    return None


def limit(
    action: np.ndarray, last_sent: np.ndarray, limits: Limits, dt_s: float
) -> tuple[np.ndarray, bool]:
    """Clamp a finite (A,) action to the bounds, then to the rate; also say whether that mattered.

    The result lies within the bounds whenever `last_sent` does.
    """
    wanted = np.asarray(action, dtype=np.float64)
    allowed = np.clip(wanted, limits.low, limits.high)
    if limits.max_rate is not None:
        step = limits.max_rate * dt_s
        allowed = np.clip(allowed, last_sent - step, last_sent + step)
    # A float32 plan at its bound lies a rounding error outside: clamped, but nothing to report.
    return allowed, not np.allclose(wanted, allowed, rtol=1e-6, atol=1e-9)


class SafetyGate:
    """Decides what is sent at each tick. It starts disabled; use it from one thread.

    The checks, in this order: stopped, disabled, no_plan, stale, bad_shape, non_finite, then the
    limits. Every refusal sends the safe action, and sends it at once, not rate-limited: for a
    robot that takes velocities or efforts the safe action is zero, and ramping towards zero would
    keep driving on a command that has just been found wrong. The next accepted action is
    rate-limited from the safe action.

    A robot that takes positions has no fixed safe action: build the gate with `hold=True`, which
    refuses by repeating the last action sent, and give the measured position to
    `set_safe_action` before `enable`.

    Args:
        limits: bounds and rates.
        safe_action: (A,) sent on every refusal; must lie within the limits.
        stale_after_ns: greatest age of the observation and of the plan; also how far in the
            future their stamps may lie.
        control_dt_ns: control period, which turns a rate per second into a step per tick.
        hold: the safe action follows the last action sent.

    Raises:
        ConfigError: a value cannot be used.
    """

    def __init__(
        self,
        limits: Limits,
        safe_action: np.ndarray,
        stale_after_ns: int,
        control_dt_ns: int,
        hold: bool = False,
    ) -> None:
        if stale_after_ns <= 0:
            raise ConfigError(f"stale_after_ns must be positive, got {stale_after_ns}")
        if control_dt_ns <= 0:
            raise ConfigError(f"control_dt_ns must be positive, got {control_dt_ns}")
        self.limits = limits
        self.stale_after_ns = stale_after_ns
        self.control_dt_ns = control_dt_ns
        self._hold = hold
        self._enabled = False
        self._stopped = False
        self.set_safe_action(safe_action)

    @property
    def safe_action(self) -> np.ndarray:
        """(A,) what a refusal sends now."""
        return self._safe_action.copy()

    def set_safe_action(self, action: np.ndarray) -> None:
        """Replace the safe action; the rate limiter starts from it.

        Raises:
            ConfigError: wrong shape, not finite, or outside the limits.
        """
        action = _vector("safe_action", action, len(self.limits.low))
        if np.any(action < self.limits.low) or np.any(action > self.limits.high):
            raise ConfigError(
                f"safe_action {action.tolist()} lies outside the limits "
                f"{self.limits.low.tolist()} .. {self.limits.high.tolist()}"
            )
        self._safe_action = action
        self._last_sent = action

    def enable(self) -> None:
        """Arm: clears a stop; the rate limiter starts from the safe action."""
        self._enabled, self._stopped = True, False
        self._last_sent = self._safe_action

    def disable(self) -> None:
        """Send only the safe action from now on."""
        self._enabled = False

    def stop(self) -> None:
        """Latch a stop; only `enable` clears it."""
        self._stopped = True

    def check(
        self,
        action: np.ndarray | None,
        observation_stamp_ns: int | None,
        plan_stamp_ns: int | None,
        now_ns: int,
    ) -> Command:
        """Decide one tick. Call it once per tick: the rate limit counts calls.

        Args:
            action: (A,) the plan's row that is due, or None.
            observation_stamp_ns: capture time of the newest sample of the robot's state.
            plan_stamp_ns: capture time of the observation that the plan came from.
            now_ns: current time, same clock.
        """
        if self._stopped:
            return self._refuse(Reason.STOPPED)
        if not self._enabled:
            return self._refuse(Reason.DISABLED)
        reason = refusal(
            action,
            len(self.limits.low),
            observation_stamp_ns,
            plan_stamp_ns,
            now_ns,
            self.stale_after_ns,
        )
        if reason is not None:
            return self._refuse(reason)
        assert action is not None
        allowed, limited = limit(action, self._last_sent, self.limits, self.control_dt_ns * 1e-9)
        self._last_sent = allowed
        if self._hold:
            self._safe_action = allowed
        return Command(allowed.copy(), Reason.LIMITED if limited else Reason.OK)

    def _refuse(self, reason: Reason) -> Command:
        self._last_sent = self._safe_action
        return Command(self._safe_action.copy(), reason)


def _vector(name: str, value: np.ndarray, size: int | None = None) -> np.ndarray:
    try:
        vector = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: expected a list of numbers, got {value!r}") from error
    if vector.ndim != 1 or len(vector) == 0 or (size is not None and len(vector) != size):
        wanted = "A" if size is None else size
        raise ConfigError(f"{name}: expected shape ({wanted},), got {vector.shape}")
    if not np.all(np.isfinite(vector)):
        raise ConfigError(f"{name}: must be finite, got {vector.tolist()}")
    return vector
