"""What moves a robot that nothing has been learned of yet: random motion to learn from, and home.

A motion says what it wishes; a track makes raw actions of that, within bounds, rates and box.

Shapes: A = entries of one raw action.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from wm_planner.runtime.motion import EffortTrack, Track

# Stretches last this long, in control periods and at least in seconds, drawn by their logarithm:
# a model has to know actions that are held for a moment, and those that are held for long.
STRETCH_PERIODS, STRETCH_S = (3, 30), (0.3, 3.0)
SHARES = {"noise": 0.38, "target": 0.22, "held": 0.35, "rest": 0.05}  # of the stretches
TARGET_STRETCH = 3  # ways to a target may take so much longer
SLOWEST = 0.15  # share of the greatest speed that the calmest stretches reach
TIME_CONSTANT_S = (0.2, 2.0)  # of the noise
HOLDS = (1, 2, 3, 5)  # control periods for which a value of the noise is held
FREE_SHARE = 0.6  # part of the box, around its middle, in which nothing pulls back
HOMING_SHARE = 0.3  # of the greatest speed
EFFORT_HOME_S = 2.0  # time in which efforts try to cross half of the box on the way home


class Motion(Protocol):
    """A wish for each control period.

    Attributes:
        kept: whether the robot is kept in the box meanwhile, and led back into it from outside.
    """

    kept: bool

    def wish(self, track: Track) -> np.ndarray:
        """(A,) speed, or effort, for the next control period."""
        ...


class Stay:
    """Come to rest, and stay where that is: also a little outside of the box."""

    kept = False

    def wish(self, track: Track) -> np.ndarray:
        """See `Motion`."""
        return np.zeros_like(track.low)


class Wander:
    """Random motion, in stretches of four kinds.

    Low-pass filtered noise of random time constant; straight ways towards random places in the
    box; a velocity that is held; and now and then rest. Each has a pace of its own, up to the
    bounds. Far from the middle of the box, noise and held velocities are pulled back.

    The same seed, episode and positions give the same motion.

    Args:
        seed: of the random generator, not negative.
        episode: each has a motion of its own.
    """

    kept = True

    def __init__(self, seed: int, episode: int = 0) -> None:
        self._rng = np.random.default_rng((seed, episode))
        self._left = 0
        self._kind = "rest"
        self._pace = np.zeros(0)  # (A,) shares of the greatest speed
        self._target = np.zeros(0)
        self._noise = np.zeros(0)
        self._held = np.zeros(0)
        self._hold = self._due = 1
        self._decay = 0.0

    def wish(self, track: Track) -> np.ndarray:
        """See `Motion`."""
        if self._left == 0:
            self._draw(track)
        self._left -= 1
        return _scaled(self._share(track), track)

    def _draw(self, track: Track) -> None:
        """Begin a stretch."""
        rng, dt_s, size = self._rng, track.dt_s, len(track.low)
        shortest, longest = (
            max(periods, math.ceil(seconds / dt_s))
            for periods, seconds in zip(STRETCH_PERIODS, STRETCH_S, strict=True)
        )
        self._left = round(_between(rng, shortest, longest))
        self._kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        pace = rng.uniform(SLOWEST, 1.0)
        if self._kind == "target":
            self._left *= TARGET_STRETCH  # it ends there, but not never
            self._pace = np.full(size, pace)
            self._target = rng.uniform(track.box.low, track.box.high)
        elif self._kind == "held":
            direction = rng.uniform(-1.0, 1.0, size) * (rng.random(size) < 0.6)
            direction[rng.integers(size)] = rng.choice([-1.0, 1.0])
            self._pace = pace * direction
        elif self._kind == "noise":
            self._pace = np.full(size, pace)
            self._decay = math.exp(-dt_s / max(_between(rng, *TIME_CONSTANT_S), 2 * dt_s))
            self._noise = rng.standard_normal(size)
            self._hold, self._due = int(rng.choice(HOLDS)), 0

    def _share(self, track: Track) -> np.ndarray:
        """(A,) wish as a share, -1 .. 1, of the bounds."""
        if self._kind == "rest":
            return np.zeros_like(track.low)
        if self._kind == "target":
            return self._towards(track)
        if self._kind == "held":
            share = self._pace
        else:
            fresh = self._rng.standard_normal(len(self._noise))
            self._noise = self._decay * self._noise + math.sqrt(1 - self._decay**2) * fresh
            if self._due == 0:
                self._held, self._due = self._noise, self._hold
            self._due -= 1
            share = self._pace * self._held
        outwards = (track.position - track.box.middle) / track.box.half
        pull = np.clip((np.abs(outwards) - FREE_SHARE) / (1 - FREE_SHARE), 0, 1)
        return np.clip(share, -1, 1) - np.sign(outwards) * pull

    def _towards(self, track: Track) -> np.ndarray:
        """Straight to the target, at a pace that the joint with the longest way sets."""
        left = self._target - track.position
        if isinstance(track, EffortTrack):
            share = left / track.box.half - 0.5 * track.speed / track.box.half
            return np.clip(self._pace * share, -1, 1)
        fastest = np.where(left > 0, np.abs(track.high), np.abs(track.low))
        seconds = max(float(np.max(np.abs(left) / (self._pace * fastest))), track.dt_s)
        slowed = np.minimum(np.abs(left) / seconds, track.braking(np.abs(left)))
        if seconds == track.dt_s:  # there: the next stretch begins
            self._left = 0
        return np.sign(left) * slowed / fastest


class GoHome:
    """Straight to a place, at a bounded speed, and stay there.

    Args:
        home: (A,) positions.
        share: of the greatest speed.
    """

    kept = False  # the way may begin outside

    def __init__(self, home: np.ndarray, share: float = HOMING_SHARE) -> None:
        self._home, self._share = np.array(home, dtype=np.float64), share
        self._sum = np.zeros_like(self._home)

    def wish(self, track: Track) -> np.ndarray:
        """See `Motion`."""
        left = self._home - track.position
        if isinstance(track, EffortTrack):
            return self._effort(left, track)
        fastest = self._share * np.minimum(np.abs(track.low), np.abs(track.high))
        seconds = max(float(np.max(np.abs(left) / fastest)), track.dt_s)
        return np.sign(left) * np.minimum(np.abs(left) / seconds, track.braking(np.abs(left)))

    def _effort(self, left: np.ndarray, track: EffortTrack) -> np.ndarray:
        """PI control of a bounded speed: the sum finds what gravity and friction take."""
        crossing = track.box.half / EFFORT_HOME_S
        wanted = np.clip(left / EFFORT_HOME_S, -crossing, crossing)
        missing = (wanted - track.speed) / crossing
        self._sum = np.clip(self._sum + 0.1 * missing * track.dt_s, -0.5, 0.5)
        return _scaled(np.clip(self._share * missing + self._sum, -1, 1), track)

    def seconds(self, position: np.ndarray, track: Track) -> float:
        """Least time that the way from (A,) positions takes; a rough one for efforts."""
        left = np.abs(self._home - position)
        if isinstance(track, EffortTrack):
            return float(np.max(left / track.box.half) * EFFORT_HOME_S)
        fastest = self._share * np.minimum(np.abs(track.low), np.abs(track.high))
        return float(np.max(left / fastest))


def _scaled(share: np.ndarray, track: Track) -> np.ndarray:
    """(A,) shares, -1 .. 1, of the bounds as speeds or efforts."""
    return np.where(share > 0, share * track.high, -share * track.low)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number, uniform in its logarithm."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))
