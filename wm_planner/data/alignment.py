"""Samples of cameras, joints and commands, each with its own clock ticks, to whole model steps.

Every rule about time is here, as plain arithmetic on arrays: joints are interpolated, commands are
held as the robot holds them, pictures are wanted once per model step, and a hole costs the model
steps that it touches.

Legend: K = samples of a stream, F = pictures, P = proprioception entries, A = entries of one raw
action.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wm_planner.data.messages import DISPLACEMENT, Command
from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError

# Commands that come in less than this share of a control period are averaged over it.
FASTER = 0.6
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


@dataclass(frozen=True)
class HeldCommands:
    """Commands as a robot holds them: each until the next one, or until it gives up waiting.

    Attributes:
        stamps_ns: (K,) int64, ascending: from when on.
        ends_ns: (K,) int64: until when.
        values: (K, A) float64.
        quantity: of the values, see `messages.Command`; '': they are raw actions already.
        period_ns: the usual time between two messages.
        taken_ns: (K,) int64: how long a commanded position is approached.
    """

    stamps_ns: np.ndarray
    ends_ns: np.ndarray
    values: np.ndarray
    quantity: str
    period_ns: int
    taken_ns: np.ndarray

    def at(self, at_ns: np.ndarray) -> np.ndarray:
        """(..., A) commands in force at moments (...); NaN where none is."""
        index = np.searchsorted(self.stamps_ns, at_ns, side="right") - 1
        there = (index >= 0) & (at_ns < self.ends_ns[np.maximum(index, 0)])
        return np.where(there[..., None], self.values[np.maximum(index, 0)], np.nan)

    def mean(self, edges_ns: np.ndarray) -> np.ndarray:
        """(N, A) mean command between each two of N + 1 moments; over what was in force."""
        held_ns = (self.ends_ns - self.stamps_ns).astype(float)
        total_ns = np.concatenate([[0.0], np.cumsum(held_ns)])
        total = np.concatenate([np.zeros_like(self.values[:1]), self.values * held_ns[:, None]])
        total = np.cumsum(total, axis=0)
        index = np.maximum(np.searchsorted(self.stamps_ns, edges_ns, side="right") - 1, 0)
        begun = np.clip(edges_ns - self.stamps_ns[index], 0, held_ns[index])
        sums = total[index] + begun[:, None] * self.values[index]
        with np.errstate(invalid="ignore"):
            return np.diff(sums, axis=0) / np.diff(total_ns[index] + begun)[:, None]

    def path(self, at_ns: np.ndarray, wraps: np.ndarray) -> np.ndarray:
        """(N, A) where commanded positions lead to by N moments, from the first of them on.

        A robot goes from one position to the next in the time that a trajectory gives, else in the
        usual time between commands, or sooner where the next command comes sooner. NaN where no
        command is in force, or none before it.

        Args:
            at_ns: (N,) int64.
            wraps: (A,) which positions are angles.
        """
        change = np.diff(self.values, axis=0, prepend=self.values[:1])
        change = np.where(wraps, wrapped(change), change)
        reached = np.cumsum(change, axis=0)
        index = np.searchsorted(self.stamps_ns, at_ns, side="right") - 1
        there = (index >= 1) & (at_ns <= self.ends_ns[np.maximum(index, 0)])
        index = np.maximum(index, 0)
        taken = np.minimum(self.ends_ns[index] - self.stamps_ns[index], self.taken_ns[index])
        share = np.clip((at_ns - self.stamps_ns[index]) / taken, 0, 1)[:, None]
        return np.where(there[:, None], reached[index] - (1 - share) * change[index], np.nan)


def hold_commands(
    samples: Sequence[tuple[int, Command]], dt_ns: int, hold_ns: int | None, raw: bool = False
) -> HeldCommands:
    """Commands, each with its stamp, to what is in force when.

    A message takes the place of the points of the one before that are not due yet. Nobody knows how
    long the last one held: it counts for a control period, or for the usual time between commands.

    Args:
        samples: (stamp_ns, command), in any order, at least one.
        dt_ns: control period.
        hold_ns: see `Tolerances`.
        raw: the values are raw actions, whatever they stand for.

    Raises:
        ConfigError: some carry another quantity than others.
    """
    samples = sorted(samples, key=lambda sample: sample[0])
    quantities = sorted({command.quantity for _, command in samples})
    if len(quantities) > 1 and not raw:
        raise ConfigError(f"commands carry now {' and now '.join(quantities)}: record one of them")
    messages_ns = np.array([stamp for stamp, _ in samples], np.int64)
    between = np.diff(messages_ns)
    between = between[between > 0]
    period_ns = int(np.median(between)) if len(between) else dt_ns
    last_ns = max(dt_ns, period_ns) if hold_ns is None else hold_ns
    follows_ns = [*messages_ns[1:].tolist(), None]
    stamps, ends, values, taken = [], [], [], []
    for (stamp, command), following in zip(samples, follows_ns, strict=True):
        due = [stamp + offset for offset in command.offsets_ns]
        until = due[-1] + last_ns if following is None else following
        if hold_ns is not None:  # after the last point of a trajectory, too
            until = min(until, due[-1] + hold_ns)
        takes = [*np.diff(due).tolist(), command.last_ns or period_ns]
        if following is None:
            until = max(until, due[-1] + command.last_ns)
        for begin, end, row, take in zip(
            due, [*due[1:], until], command.values, takes, strict=True
        ):
            if min(end, until) > begin:
                stamps.append(begin)
                ends.append(min(end, until))
                values.append(row)
                taken.append(take)
    return HeldCommands(
        np.array(stamps, np.int64),
        np.array(ends, np.int64),
        np.array(values, float).reshape(len(stamps), -1),
        "" if raw else quantities[0],
        period_ns,
        np.array(taken, np.int64),
    )


def raw_actions(
    commands: HeldCommands, embodiment: Embodiment, start_ns: int, end_ns: int
) -> np.ndarray:
    """(frame_skip, A) raw actions from one model step to the next; NaN where none was in force.

    The span is cut into as many equal rows as a model step has. A row takes the command that was
    in force in its middle: that of its control tick, whatever the jitter. Velocities and efforts
    that come faster than the control rate are averaged over the row. Where positions were
    commanded and the action is a velocity or a delta, it is how far they lead in the row.

    Raises:
        ConfigError: what was commanded cannot be expressed as the robot's action.
    """
    count, kind, given = embodiment.frame_skip, embodiment.action.kind, commands.quantity
    edges = start_ns + np.round(np.arange(count + 1) * ((end_ns - start_ns) / count)).astype(int)
    if given == "position" and kind in ("position_delta", "velocity"):
        wraps = np.array([f"{n}/position" in embodiment.angles for n in embodiment.action.names])
        moved = np.diff(commands.path(edges, wraps), axis=0)
        return moved if kind == "position_delta" else moved / (np.diff(edges)[:, None] * 1e-9)
    rows = commands.at((edges[:-1] + edges[1:]) // 2)
    averaged = given in ("velocity", "effort") or (not given and kind in ("velocity", "effort"))
    if averaged and commands.period_ns < FASTER * embodiment.dt_ns:
        rows = np.where(np.isnan(rows), np.nan, commands.mean(edges))
    if given in ("", kind) or (given == DISPLACEMENT and kind == "position_delta"):
        return rows
    if given == "velocity" and kind == "position_delta":
        return rows * embodiment.control_dt_s
    raise ConfigError(f"commands carry a {given}, which is no action of kind '{kind}'")


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
    pieces: list[list[int]] = []
    first = 0
    while first < len(stamps_ns) - 1:
        behind = int(np.searchsorted(stamps_ns, stamps_ns[first] + model_dt_ns))
        best: list[int] = []
        best_off = 0
        for anchor in range(first, max(behind, first + 1)):
            chain, off = _chain(anchor, stamps_ns, model_dt_ns, tolerance_ns, is_step)
            if len(chain) > len(best) or (len(chain) == len(best) and off < best_off):
                best, best_off = chain, off
        if len(best) < 2:
            first = max(behind, first + 1)
        else:
            pieces.append(best)
            first = best[-1]
    return pieces


def _chain(
    anchor: int,
    stamps_ns: np.ndarray,
    model_dt_ns: int,
    tolerance_ns: int,
    is_step: Callable[[int, int], bool],
) -> tuple[list[int], int]:
    """The frames from `anchor` on, and how far they are off the grid on average."""
    chain, off = [anchor], 0
    while True:
        wanted_ns = stamps_ns[anchor] + len(chain) * model_dt_ns
        found = nearest(stamps_ns, wanted_ns, tolerance_ns)
        if found is None or found <= chain[-1] or not is_step(chain[-1], found):
            return chain, off // len(chain)
        off += abs(int(stamps_ns[found] - wanted_ns))
        chain.append(found)


def nearest(stamps_ns: np.ndarray, at_ns: int, tolerance_ns: int) -> int | None:
    """Index of the sample nearest to a moment (the earlier of two), or None."""
    index = int(np.searchsorted(stamps_ns, at_ns))
    near = [i for i in (index - 1, index) if 0 <= i < len(stamps_ns)]
    best = min(near, key=lambda i: abs(int(stamps_ns[i]) - at_ns), default=None)
    if best is None or abs(int(stamps_ns[best]) - at_ns) > tolerance_ns:
        return None
    return best
