"""Commands as a robot holds them, to the raw actions of a model step.

Legend: K = samples of a stream, A = entries of one raw action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from wm_planner.data.alignment import wrapped
from wm_planner.data.messages import DISPLACEMENT, Command
from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError

# Commands that come in less than this share of a control period are averaged over it.
FASTER = 0.6
SILENT = 2.5  # control periods without a command of ours, after which another may drive


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

    def without(self, intervals: Sequence[tuple[int, int]]) -> HeldCommands:
        """The same outside of intervals, (begin, end) in nanoseconds, in which none is in force."""
        held = self
        for begin, end in intervals:
            first = held.stamps_ns < begin  # what is left of each command before the interval
            later = held.ends_ns > end  # and behind it
            stamps = [held.stamps_ns[first], np.maximum(held.stamps_ns[later], end)]
            ends = [np.minimum(held.ends_ns[first], begin), held.ends_ns[later]]
            held = replace(
                held,
                stamps_ns=np.concatenate(stamps),
                ends_ns=np.concatenate(ends),
                values=np.concatenate([held.values[first], held.values[later]]),
                taken_ns=np.concatenate([held.taken_ns[first], held.taken_ns[later]]),
            )
        return held

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
            array: np.ndarray = np.diff(sums, axis=0) / np.diff(total_ns[index] + begun)[:, None]
            return array

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


def taken_over(
    own: HeldCommands, others: HeldCommands, dt_ns: int
) -> tuple[HeldCommands, list[tuple[int, int]]]:
    """Our commands and those of an operator who drove while ours were silent.

    An operator drives from the first of their commands that comes `SILENT` control periods and
    more after ours, until ours go on.

    Args:
        own: ours.
        others: the operator's, of the same quantity.
        dt_ns: control period.

    Returns:
        All commands, and the (begin, end) of the times in which the operator drove.
    """
    silent_ns = round(SILENT * dt_ns)
    follows = np.append(own.stamps_ns[1:], max(int(own.ends_ns[-1]), int(others.ends_ns[-1])))
    before = [(int(others.stamps_ns[0]), int(own.stamps_ns[0]))]
    pauses = [*before, *zip((own.stamps_ns + silent_ns).tolist(), follows.tolist(), strict=True)]
    driven = []
    for begin, end in pauses:
        first = np.searchsorted(others.stamps_ns, begin)
        if first < len(others.stamps_ns) and others.stamps_ns[first] < end:
            driven.append((int(others.stamps_ns[first]), int(end)))
    edges = [0, *(edge for interval in driven for edge in interval), np.iinfo(np.int64).max]
    rest = list(zip(edges[::2], edges[1::2], strict=True))  # in which the operator did not drive
    parts = own.without(driven), others.without(rest)
    stamps, ends, values, taken = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("stamps_ns", "ends_ns", "values", "taken_ns")
    )
    order = np.argsort(stamps, kind="stable")
    merged = replace(
        own,
        stamps_ns=stamps[order],
        ends_ns=ends[order],
        values=values[order],
        taken_ns=taken[order],
    )
    return merged, driven


def hold_commands(
    samples: Sequence[tuple[int, Command]], dt_ns: int, hold_ns: int | None, raw: bool = False
) -> HeldCommands:
    """Commands, each with its stamp, to what is in force when.

    A message takes the place of the points of the one before that are not due yet. Nobody knows how
    long the last one held: it counts for a control period, or for the usual time between commands.

    Args:
        samples: (stamp_ns, command), in any order, at least one.
        dt_ns: control period.
        hold_ns: see `alignment.Tolerances`.
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
