"""Samples of cameras and joints, each with its own clock ticks, to whole model steps.

The rules about time, as plain arithmetic on arrays: joints are interpolated, pictures are wanted
once per model step, and a hole costs the model steps that it touches. Those of commands are in
`held_commands`.

Legend: K = samples of a stream, F = pictures, P = proprioception entries.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wm_planner.embodiment import Embodiment

# A picture may be so many periods of its camera from its model step: half of one and some jitter.
PERIODS = 0.75
# Jitter that any camera may have, in control periods.
JITTER = 0.25


@dataclass(frozen=True)
class Tolerances:
    """How far samples may be from where they belong.

    Attributes:
        image_ns: pictures of one moment from each other.
        step_ns: a picture from its model step; None: as the camera's rate allows, see `step_of`.
        joint_gap_ns: two joint states between which values are interpolated.
        command_hold_ns: how long a robot goes on with a command; None: until the next one.
    """

    image_ns: int
    step_ns: int | None
    joint_gap_ns: int
    command_hold_ns: int | None = None

    def step_of(self, stamps_ns: np.ndarray, dt_ns: int) -> int:
        """Greatest distance of a picture from its model step, nanoseconds.

        Args:
            stamps_ns: (K,) of the camera.
            dt_ns: control period.
        """
        if self.step_ns is not None:
            return self.step_ns
        period_ns = float(np.median(np.diff(stamps_ns))) if len(stamps_ns) > 1 else 0.0
        return min(self.image_ns, int(max(PERIODS * period_ns, JITTER * dt_ns)))


def tolerances(
    embodiment: Embodiment,
    image_tolerance_s: float | None = None,
    joint_gap_s: float | None = None,
    command_hold_s: float | None = None,
) -> Tolerances:
    """Those of a robot; what is not given follows from its clock.

    Pictures of one moment may be a control period apart, or half a model step where that is less:
    so much the planner allows itself. Joint states may be two control periods apart, or 0.1 s
    where that is more.
    """
    dt_s, half_ns = embodiment.control_dt_s, embodiment.model_dt_ns // 2
    image_s = dt_s if image_tolerance_s is None else image_tolerance_s
    image_ns = min(round(image_s * 1e9), half_ns)
    gap_s = max(2 * dt_s, 0.1) if joint_gap_s is None else joint_gap_s
    return Tolerances(
        image_ns,
        None if image_tolerance_s is None else image_ns,
        round(gap_s * 1e9),
        None if command_hold_s is None else round(command_hold_s * 1e9),
    )


def interpolate(
    stamps_ns: np.ndarray,
    values: np.ndarray,
    at_ns: np.ndarray,
    gap_ns: int,
    end_ns: int,
    wraps: bool | np.ndarray = False,
) -> np.ndarray:
    """Values between samples, on straight lines.

    Args:
        stamps_ns: (K,) int64, ascending.
        values: (K, D) float64.
        at_ns: (F,) int64 moments.
        gap_ns: greatest distance of two samples that are connected.
        end_ns: how long the first sample holds before its stamp, and the last one behind it.
        wraps: (D,) or one for all: an angle, of which 3.1 and -3.1 are 0.08 apart.

    Returns:
        (F, D) float64; NaN where nothing is known.
    """
    if not len(stamps_ns):
        return np.full((len(at_ns), values.shape[1]), np.nan)
    after = np.searchsorted(stamps_ns, at_ns)  # the first sample at or after
    right = np.minimum(after, len(stamps_ns) - 1)
    exact = stamps_ns[right] == at_ns
    left = np.where(exact, right, np.maximum(after - 1, 0))
    span = stamps_ns[right] - stamps_ns[left]
    between = (span > 0)[:, None]
    share = np.clip((at_ns - stamps_ns[left]) / np.maximum(span, 1), 0, 1)[:, None]
    change = values[right] - values[left]
    change = np.where(wraps, wrapped(change), change)
    # The sample itself, bit for bit, where the moment is that of a sample or beyond the ends.
    result = values[left] + np.where(between, change * share, 0.0)
    result = np.where(between & (np.abs(result) > math.pi) & wraps, wrapped(result), result)
    off_end = np.maximum(stamps_ns[0] - at_ns, at_ns - stamps_ns[-1])
    lost = (off_end > end_ns) | ((off_end <= 0) & (span > gap_ns))
    return np.where(lost[:, None], np.nan, result)


def wrapped(angle_rad: np.ndarray) -> np.ndarray:
    """Angles in [-pi, pi)."""
    return (angle_rad + math.pi) % (2 * math.pi) - math.pi


def choose_frames(
    stamps_ns: np.ndarray,
    model_dt_ns: int,
    tolerance_ns: int,
    is_step: Callable[[int, int], bool],
) -> list[list[int]]:
    """Frames one model step apart, in as few and long pieces as the samples allow.

    A piece lies on a grid whose phase is that of its first frame, so that a camera of any rate does
    not drift away from it. Of the phases within a model step the one with the longest piece is
    taken, then the one that its frames are nearest to, then the earliest. A piece ends where the
    next frame is missing, and the next piece begins there with a phase of its own.

    Args:
        stamps_ns: (F,) int64, ascending.
        model_dt_ns: see `Embodiment`.
        tolerance_ns: greatest distance of a frame from the grid.
        is_step: (index, next index) -> whether everything else is known in between.

    Returns:
        For each piece the indices of its frames, at least two.
    """

    def chained(anchor: int) -> tuple[list[int], int]:
        """The frames from `anchor` on, and how far they are off the grid on average."""
        chain, off = [anchor], 0
        while True:
            wanted_ns = stamps_ns[anchor] + len(chain) * model_dt_ns
            found = nearest(stamps_ns, wanted_ns, tolerance_ns)
            if found is None or found <= chain[-1] or not is_step(chain[-1], found):
                return chain, off // len(chain)
            off += abs(int(stamps_ns[found] - wanted_ns))
            chain.append(found)

    pieces: list[list[int]] = []
    first = 0
    while first < len(stamps_ns) - 1:
        behind = int(np.searchsorted(stamps_ns, stamps_ns[first] + model_dt_ns))
        best: list[int] = []
        best_off = 0
        for anchor in range(first, max(behind, first + 1)):
            chain, off = chained(anchor)
            if len(chain) > len(best) or (len(chain) == len(best) and off < best_off):
                best, best_off = chain, off
        if len(best) < 2:
            first = max(behind, first + 1)
        else:
            pieces.append(best)
            first = best[-1]
    return pieces


def nearest(stamps_ns: Sequence[int] | np.ndarray, at_ns: int, tolerance_ns: int) -> int | None:
    """Index of the sample nearest to a moment (the earlier of two), or None."""
    index = bisect_left(stamps_ns, at_ns)
    near = [i for i in (index - 1, index) if 0 <= i < len(stamps_ns)]
    best = min(near, key=lambda i: abs(int(stamps_ns[i]) - at_ns), default=None)
    if best is None or abs(int(stamps_ns[best]) - at_ns) > tolerance_ns:
        return None
    return best
