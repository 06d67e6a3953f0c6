"""Where a robot is led, one control period after another: bounded, smooth, inside a box.

It stands between a wish (a speed, or an effort) and the raw actions of every kind, and keeps the
wish within the robot's bounds and rates, so that the controller's gate has nothing to cut.

Shapes: A = entries of one raw action, N = control periods.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np

from wm_planner.embodiment import ActionSpace
from wm_planner.errors import ConfigError

RATE_SHARE = 0.95  # of the largest change: what is left is for the rounding of float32
FULL_SPEED_S = 0.4  # from rest to full speed where the robot file limits no rate
CROSSING_S = 4.0  # from one end of the box to the other where nothing limits the speed
LOOK_AHEAD_S = 0.5  # efforts are turned around for where a joint will be, not for where it is
FREE_SHARE = 0.5  # part of the box, around its middle, in which efforts are left alone
RETURN_S, RETURN_SHARE = 1.0, 0.3  # into the box from outside: gently, at part of the speed


@dataclass(frozen=True)
class Box:
    """Where joints may be led.

    Attributes:
        low, high: (A,) finite, in the unit of positions.
    """

    low: np.ndarray
    high: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """(A,) its middle."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> np.ndarray:
        """(A,) half of its width."""
        return (self.high - self.low) / 2


def allowed_box(
    action: ActionSpace,
    low: np.ndarray,
    high: np.ndarray,
    centre: np.ndarray,
    half_width: np.ndarray,
    margin: float,
) -> Box:
    """The box that motion stays in: position limits less a margin, and not too far from a centre.

    Args:
        action: of the robot; the bounds of positions are limits, too.
        low, high: (A,) position limits; infinite where a joint has none.
        centre: (A,) home, or where the robot was at the start.
        half_width: (A,) greatest distance from the centre; infinite: the limits alone count.
        margin: share of the width between the limits that is left free at either of them.

    Raises:
        ConfigError: the centre lies outside of the limits, or nothing bounds a joint.
    """
    if action.kind == "position":
        low, high = np.maximum(low, action.low), np.minimum(high, action.high)
    bounded = np.isfinite(low) & np.isfinite(high)
    for name, at, least, most in zip(action.names, centre, low, high, strict=True):
        if not least <= at <= most:
            raise ConfigError(
                f"'{name}' is at home, or starts, at {at:.4g}, outside of its position limits "
                f"{least:.4g} .. {most:.4g}: change home or the limits in the robot file"
            )
    for name, is_bounded, reach in zip(action.names, bounded, half_width, strict=True):
        if not is_bounded and not math.isfinite(reach):
            raise ConfigError(f"'{name}' has no position limits: give a half width for it")
    width = np.where(bounded, high, 0) - np.where(bounded, low, 0)
    space = margin * width
    # A home closer to a limit than the margin is not left outside.
    inner_low = np.minimum(low + space, centre)
    inner_high = np.maximum(high - space, centre)
    return Box(
        np.maximum(inner_low, centre - half_width), np.minimum(inner_high, centre + half_width)
    )


class SpeedTrack:
    """A robot that does as it is told: velocities, positions or changes of position.

    Positions that are sent count as where the robot is: a servo that lags comes after them. For
    the other kinds they are dead reckoning from where `place` has said.

    Args:
        action: kind 'velocity', 'position' or 'position_delta'.
        control_dt_s: control period, seconds.
        box: where the robot is kept.

    Attributes:
        dt_s: control period, seconds.
        box: as given.
        low, high: (A,) bounds of what is wished: of speeds, per second, or of efforts.
        position, speed: (A,) at the end of the newest row, as far as known.
    """

    def __init__(self, action: ActionSpace, control_dt_s: float, box: Box) -> None:
        self.dt_s, self.box, self._kind = control_dt_s, box, action.kind
        low, high = np.array(action.low), np.array(action.high)
        rate = np.array(action.max_rate or [0.0] * action.size) * RATE_SHARE
        self._bounds: Box | None = None
        if action.kind == "position":
            self._bounds = Box(low, high)
            fastest = np.where(rate > 0, rate, 2 * box.half / CROSSING_S)
            self.low, self.high, rate = -fastest, fastest, np.zeros(action.size)
        elif action.kind == "position_delta":
            self.low, self.high, rate = low / self.dt_s, high / self.dt_s, rate / self.dt_s
        else:
            self.low, self.high = low, high
        fastest = np.maximum(np.abs(self.low), np.abs(self.high))
        self._acceleration = np.where(rate > 0, rate, fastest / max(FULL_SPEED_S, 2 * self.dt_s))
        self._rest = np.clip(np.zeros(action.size), self.low, self.high)
        self.position, self.speed = box.middle, self._rest

    def advance(self, wish: np.ndarray, kept: bool = True) -> np.ndarray:
        """(A,) raw action of the next control period.

        Args:
            wish: (A,) speed, or effort.
            kept: whether the robot is kept in the box.
        """
        speed = np.clip(wish, self.low, self.high)
        if kept:
            speed = np.clip(speed, -self._room(self.position - self.box.low, -self.low), None)
            speed = np.clip(speed, None, self._room(self.box.high - self.position, self.high))
        change = self._acceleration * self.dt_s
        speed = np.clip(speed, self.speed - change, self.speed + change)
        speed = np.clip(speed, self.low, self.high)
        if self._bounds is not None:
            after = self.position + speed * self.dt_s
            speed = (
                np.clip(after, self._bounds.low, self._bounds.high) - self.position
            ) / self.dt_s
        self.speed, self.position = speed, self.position + speed * self.dt_s
        if self._kind == "position":
            return self.position
        return speed * self.dt_s if self._kind == "position_delta" else speed

    def braking(self, distance: np.ndarray) -> np.ndarray:
        """(A,) largest speed from which the robot still stops within (A,) distances of 0 or more.

        It follows from the distance that is covered when the speed falls by the same step in each
        control period.
        """
        step = self._acceleration * self.dt_s
        far = -step / 2 + np.sqrt(step**2 / 4 + 2 * self._acceleration * distance)
        return np.minimum(far, distance / self.dt_s)

    def _room(self, distance: np.ndarray, fastest: np.ndarray) -> np.ndarray:
        """(A,) largest speed towards an edge; negative, so back, when it lies behind."""
        back = np.maximum(distance / RETURN_S, -RETURN_SHARE * np.abs(fastest))
        return np.where(distance < 0, back, self.braking(np.maximum(distance, 0)))

    def place(self, position: np.ndarray, speed: np.ndarray) -> None:
        """Say where the robot, as measured, will be and how fast, when the next row is due."""
        if self._kind != "position":
            self.position = np.array(position, dtype=np.float64)

    def resume(self, rows: np.ndarray) -> None:
        """Go on behind other rows than `advance` has given.

        Args:
            rows: (1 + N, A) raw actions, those that the robot is sent in their place behind one
                that it was sent before.
        """
        speeds = self.speeds_of(rows)
        if self._kind == "position":
            self.position = rows[-1]
        else:
            self.position = self.position + speeds[1:].sum(axis=0) * self.dt_s
        self.speed = np.clip(speeds[-1], self.low, self.high)

    def speeds_of(self, rows: np.ndarray) -> np.ndarray:
        """(N, A) speeds that consecutive raw actions (N, A) lead to; zeros where nobody knows."""
        if self._kind == "position":
            return np.diff(rows, axis=0, prepend=rows[:1]) / self.dt_s
        return rows / self.dt_s if self._kind == "position_delta" else rows

    @property
    def is_still(self) -> bool:
        """Whether the newest row is rest."""
        return bool(np.allclose(self.speed, self._rest, atol=1e-9))


class EffortTrack:
    """A robot of which nothing is known but what it is pushed with.

    Its mass and friction are not known, so that nothing here can promise the box. Efforts are
    turned inwards, by and by, for where a joint will be half a second from now.

    Args:
        action: kind 'effort'.
        control_dt_s: control period, seconds.
        box: where the robot is kept.

    Attributes: see `SpeedTrack`.
    """

    def __init__(self, action: ActionSpace, control_dt_s: float, box: Box) -> None:
        self.dt_s, self.box = control_dt_s, box
        self.low, self.high = np.array(action.low), np.array(action.high)
        largest = np.maximum(np.abs(self.low), np.abs(self.high))
        rate = np.array(action.max_rate or [0.0] * action.size) * RATE_SHARE
        self._change = self.dt_s * np.where(rate > 0, rate, largest / (FULL_SPEED_S / 2))
        self._rest = np.clip(np.zeros(action.size), self.low, self.high)
        self._effort = self._rest
        self.position, self.speed = box.middle, np.zeros(action.size)

    def advance(self, wish: np.ndarray, kept: bool = True) -> np.ndarray:
        """See `SpeedTrack`."""
        effort = np.clip(wish, self.low, self.high)
        if kept:
            soon = self.position + LOOK_AHEAD_S * self.speed - self.box.middle
            outwards = soon / self.box.half
            share = np.clip((np.abs(outwards) - FREE_SHARE) / (1 - FREE_SHARE), 0, 1)
            inwards = np.where(outwards > 0, self.low, self.high)
            effort = (1 - share) * effort + share * inwards
        effort = np.clip(effort, self._effort - self._change, self._effort + self._change)
        self._effort = np.clip(effort, self.low, self.high)
        self.position = self.position + self.speed * self.dt_s
        return self._effort

    def place(self, position: np.ndarray, speed: np.ndarray) -> None:
        """See `SpeedTrack`."""
        self.position = np.array(position, dtype=np.float64)
        self.speed = np.array(speed, dtype=np.float64)

    def resume(self, rows: np.ndarray) -> None:
        """See `SpeedTrack`."""
        self._effort = np.clip(rows[-1], self.low, self.high)

    def speeds_of(self, rows: np.ndarray) -> np.ndarray:
        """See `SpeedTrack`."""
        return np.zeros_like(rows)

    @property
    def is_still(self) -> bool:
        """See `SpeedTrack`."""
        return bool(np.allclose(self._effort, self._rest, atol=1e-9))


Track = SpeedTrack | EffortTrack


def motion_track(action: ActionSpace, control_dt_s: float, box: Box) -> Track:
    """The track for a kind of action."""
    kind = EffortTrack if action.kind == "effort" else SpeedTrack
    return kind(action, control_dt_s, box)


def braked(track: Track, count: int) -> np.ndarray:
    """(count, A) raw actions that come to rest behind the newest row; the track stays as it is."""
    track = copy.copy(track)  # its arrays are replaced, never written to
    rest = np.zeros_like(track.low)
    return np.array([track.advance(rest, kept=False) for _ in range(count)])
