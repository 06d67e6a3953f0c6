"""The last gate before the robot: clamp, rate-limit or refuse, and say why.

Not a safety function in the sense of ISO 13850: a hardware emergency stop stays needed.

Shapes: A = entries of one raw action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from wm_planner.errors import ConfigError

NO_LIMIT = 1e12  # units per second: a rate that limits nothing


class Reason(str, Enum):
    """Why a command is what it is. Only `ok` and `limited` carry the planner's action."""

    OK = "ok"
    LIMITED = "limited"
    STOPPED = "stopped"
    DISABLED = "disabled"
    ROBOT_STATE = "robot_state"
    NO_GUARD = "no_guard"
    NO_PLAN = "no_plan"
    STALE = "stale"
    BAD_SHAPE = "bad_shape"
    NON_FINITE = "non_finite"
    TRACKING_ERROR = "tracking_error"

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
        action: (A,) float64, physical units, finite: the raw action that is executed.
        reason: why.
        target: (A,) positions that go to the robot in the action's place; None: the action does.
    """

    action: np.ndarray
    reason: Reason
    target: np.ndarray | None = None


@dataclass(frozen=True)
class Measured:
    """Where the joints of the action were; of a twist, those that move the tip.

    Attributes:
        positions: (A,) finite, radians or metres; of a twist one for each of those joints.
        stamp_ns: when they were there.
    """

    positions: np.ndarray
    stamp_ns: int


class Guard(Protocol):
    """What comes after bounds and rates, and depends on where the joints are."""

    @property
    def target(self) -> np.ndarray | None:
        """(A,) positions that go to the robot in the action's place; None: the action does."""

    def begin(self, positions: np.ndarray) -> None:
        """Start from measured (A,) positions, as on activation."""

    def allow(self, action: np.ndarray, positions: np.ndarray, age_s: float) -> np.ndarray:
        """(A,) what of an action is executed.

        Args:
            action: (A,) within bounds and rates.
            positions: (A,) measured.
            age_s: seconds since then.
        """

    def refuse(self, positions: np.ndarray | None) -> None:
        """No action is followed from now on; (A,) positions of now, None when nobody knows."""


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


def limits_of(low: Sequence[float], high: Sequence[float], max_rate: Sequence[float]) -> Limits:
    """Limits of plain numbers; a rate of 0 limits nothing, and without rates none is limited."""
    rate = np.array([rate if rate > 0 else NO_LIMIT for rate in max_rate]) if max_rate else None
    return Limits(np.array(low), np.array(high), rate)


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
    return allowed, differs(wanted, allowed)


def differs(wanted: np.ndarray, allowed: np.ndarray) -> bool:
    """Whether a limit has cut an action.

    A float32 plan at its bound lies a rounding error outside: clamped, but nothing to report.
    """
    return not np.allclose(wanted, allowed, rtol=1e-6, atol=1e-9)


class SafetyGate:
    """Decides what is sent at each tick. It starts disabled; use it from one thread.

    The checks, in this order: stopped, disabled, robot_state, no_guard, no_plan, stale,
    bad_shape, non_finite, then the limits: bounds, rates, and where the joints may be. Every
    refusal sends the safe action, and sends it at once, not rate-limited: for a robot that takes
    velocities or efforts the safe action is zero, and ramping towards zero would keep driving on a
    command that has just been found wrong. The next accepted action is rate-limited from the safe
    action.

    A robot that takes positions has no fixed safe action: build the gate with `hold=True`, and call
    `begin` with the measured position before `enable`. A refusal then holds the position that was
    measured when the refusals began, within the limits: a robot that is blocked stays where it is,
    and one that sags under its weight is not followed down. Where nobody knows the position, the
    last action is repeated.

    Args:
        limits: bounds and rates, and, of positions, their limits.
        safe_action: (A,) sent on every refusal; must lie within the limits.
        stale_after_ns: greatest age of the observation and of the plan; also how far in the
            future their stamps may lie.
        control_dt_ns: control period, which turns a rate per second into a step per tick.
        hold: the action is a position, and the safe action is where the robot is.
        guard: limits that depend on where the joints are; or None.
        tracking_error: greatest distance of an action that is a position from the measured one:
            beyond it the robot is blocked, and it is not pushed harder and harder.

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
        guard: Guard | None = None,
        tracking_error: float = np.inf,
    ) -> None:
        if not tracking_error > 0:
            raise ConfigError(f"tracking_error must be positive, got {tracking_error:g}")
        if stale_after_ns <= 0:
            raise ConfigError(f"stale_after_ns must be positive, got {stale_after_ns}")
        if control_dt_ns <= 0:
            raise ConfigError(f"control_dt_ns must be positive, got {control_dt_ns}")
        self.limits = limits
        self.stale_after_ns = stale_after_ns
        self.control_dt_ns = control_dt_ns
        self.guard = guard
        self.obeys = True  # False: the robot says that it executes no commands
        self.guarded = True  # False: the command guard does not hear the commands yet
        self.late = False  # whoever takes this process for dead may have stopped the robot by now
        self._hold = hold
        self._tracking_error = tracking_error
        self._holding = True  # the safe action is that of the refusals that go on
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
        self._holding = True

    def set_limits(self, limits: Limits, guard: Guard | None) -> None:
        """Replace limits and guard, while nothing may move.

        Raises:
            ConfigError: the safe action lies outside of them.
        """
        self.limits, self.guard = limits, guard
        if self._hold:  # `begin` says where
            self._safe_action = np.clip(self._safe_action, limits.low, limits.high)
        self.set_safe_action(self._safe_action)

    def begin(self, positions: np.ndarray) -> None:
        """Start from measured (A,) positions; call it before `enable`.

        Raises:
            ConfigError: the robot takes positions, and is outside of its limits.
        """
        if self._hold:
            if np.any(positions < self.limits.low) or np.any(positions > self.limits.high):
                raise ConfigError(
                    f"the joints are at {np.round(positions, 4).tolist()}, outside the limits "
                    f"{self.limits.low.tolist()} .. {self.limits.high.tolist()}: move the robot "
                    "inside by other means"
                )
            self.set_safe_action(positions)
        if self.guard is not None:
            self.guard.begin(positions)

    def enable(self) -> None:
        """Arm: clears a stop; the rate limiter starts from the safe action."""
        self._enabled, self._stopped = True, False
        self._last_sent = self._safe_action
        self._holding = True

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
        measured: Measured | None = None,
    ) -> Command:
        """Decide one tick. Call it once per tick: the rate limit counts calls.

        Args:
            action: (A,) the plan's row that is due, or None.
            observation_stamp_ns: capture time of the newest sample of the robot's state.
            plan_stamp_ns: capture time of the observation that the plan came from.
            now_ns: current time, same clock.
            measured: newest positions of the joints, where a guard or `hold` needs them.
        """
        fresh = measured
        if measured is not None and self._is_stale(measured.stamp_ns, now_ns):
            fresh = None
        reason = self._refusal(action, observation_stamp_ns, plan_stamp_ns, now_ns)
        needs_place = self.guard is not None or np.isfinite(self._tracking_error)
        if reason is None and needs_place and fresh is None:
            reason = Reason.STALE
        if reason is not None:
            return self._refuse(reason, fresh)
        assert action is not None
        dt_s = self.control_dt_ns * 1e-9
        allowed, limited = limit(action, self._last_sent, self.limits, dt_s)
        if self.late:  # no leap, whether the robot rests or goes on with the last action
            allowed, cut = limit(allowed, self._safe_action, self.limits, dt_s)
            limited |= cut
        if fresh is not None and np.isfinite(self._tracking_error):
            ahead = np.abs(allowed - fresh.positions)
            if np.any(ahead > self._tracking_error):
                return self._refuse(Reason.TRACKING_ERROR, fresh)
        if self.guard is not None and fresh is not None:
            age_s = max(0, now_ns - fresh.stamp_ns) * 1e-9
            guarded = self.guard.allow(allowed, fresh.positions, age_s)
            limited |= differs(allowed, guarded)
            allowed = guarded
        # Where a guard has led the robot back, the action may lie outside of the bounds.
        self._last_sent = np.clip(allowed, self.limits.low, self.limits.high)
        self._holding = False
        return Command(allowed.copy(), Reason.LIMITED if limited else Reason.OK, self._target())

    def _refusal(
        self,
        action: np.ndarray | None,
        observation_stamp_ns: int | None,
        plan_stamp_ns: int | None,
        now_ns: int,
    ) -> Reason | None:
        """Why `action` must not be sent, or None. Never raises: it runs in the control loop."""
        if self._stopped:
            return Reason.STOPPED
        if not self._enabled:
            return Reason.DISABLED
        if not self.obeys:
            return Reason.ROBOT_STATE
        if not self.guarded:
            return Reason.NO_GUARD
        if action is None or plan_stamp_ns is None:
            return Reason.NO_PLAN
        if any(self._is_stale(stamp, now_ns) for stamp in (observation_stamp_ns, plan_stamp_ns)):
            return Reason.STALE
        if np.shape(action) != self.limits.low.shape:
            return Reason.BAD_SHAPE
        return None if np.all(np.isfinite(action)) else Reason.NON_FINITE

    def _is_stale(self, stamp_ns: int | None, now_ns: int) -> bool:
        # A stamp far in the future comes from another clock: its age means nothing.
        return stamp_ns is None or abs(now_ns - stamp_ns) > self.stale_after_ns

    def _refuse(self, reason: Reason, measured: Measured | None) -> Command:
        # A robot that does not obey may be moved by others: where it is then is where it holds.
        if not self._holding or reason is Reason.ROBOT_STATE:
            self._holding = True
            if self._hold:
                self._safe_action = self._place(measured)
            if self.guard is not None:
                self.guard.refuse(None if measured is None else measured.positions)
        self._last_sent = self._safe_action
        return Command(self._safe_action.copy(), reason, self._target())

    def _place(self, measured: Measured | None) -> np.ndarray:
        """(A,) where to hold: where the robot is, within the limits.

        Where nobody knows that, or the robot is said to be so far outside that the way back would
        be a leap, what was sent last stays.
        """
        if measured is None:
            return self._last_sent
        inside = np.clip(measured.positions, self.limits.low, self.limits.high)
        leaps = np.abs(inside - measured.positions) > self._tracking_error
        return self._last_sent if leaps.any() else inside

    def _target(self) -> np.ndarray | None:
        target = None if self.guard is None else self.guard.target
        return None if target is None else target.copy()


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
