"""Half an hour without a fault: memory stays flat, and no control tick is missed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faults.bags import check_bags
from faults.fault import PLANNER
from faults.stage import START_S
from faults.stages import STAGES

LOOK_S, EPISODE_S = 10.0, 30.0
WARM_UP = 0.2  # share of the time after which memory is looked at
MOST_MISSED = 1e-3  # share of the control ticks
MOST_GROWTH_MIB = 8.0  # of one process, from the warm-up to the end, by a straight line


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process over time, MiB.

    Attributes:
        first, last: at the end of the warm-up, and at the end.
        growth: from the one to the other, of a straight line through all values between.
    """

    first: float
    last: float
    growth: float


def memory_of(times_s: Sequence[float], values: Sequence[float]) -> Memory:
    """What became of a process's memory after the warm-up."""
    begin = int(len(values) * WARM_UP)
    x, y = np.array(times_s[begin:]), np.array(values[begin:])
    slope = float(np.polyfit(x - x[0], y, 1)[0]) if len(x) > 2 else 0.0
    return Memory(float(y[0]), float(y[-1]), slope * float(x[-1] - x[0]))


def missed_ticks(times_s: Sequence[float], period_s: float) -> int:
    """Control periods without a command."""
    gaps = np.diff(np.array(times_s)) / period_s
    return int(np.maximum(np.round(gaps) - 1, 0).sum())


def soak(
    minutes: float, directory: Path, domain: int, seed: int, tell: Callable[[str], None] = print
) -> tuple[str, bool]:
    """Let the graph with the real planner run, a new goal and a new bag every half minute.

    Returns:
        A table in Markdown, and whether all was as it must be.
    """
    with STAGES[PLANNER](directory, domain, seed) as stage:
        assert stage.until(stage.driving, START_S), "the robot does not move"
        begin_s, next_s, episode_s = time.monotonic(), 0.0, 0.0
        times_s: list[float] = []
        commands: list[float] = []
        memory: dict[str, list[float]] = {}
        complete, lost, restarts = 0, [], stage.processes.started
        while (now_s := time.monotonic() - begin_s) < minutes * 60:
            if now_s >= episode_s:
                stage.end_episode()
                stage.set_goal()
                stage.begin_episode()
                told = check_bags(stage)
                complete, lost = complete + told["complete"], lost + told["lost"]
                episode_s += EPISODE_S
            if now_s >= next_s:
                next_s += LOOK_S
                times_s.append(now_s)
                pids = {name: p.pid for name, p in stage.processes.running.items()}
                for name, pid in pids.items():
                    memory.setdefault(name, []).append(_resident_mib(pid))
                seen_s = commands[-1] if commands else begin_s
                commands += [one.at_s for one in stage.observer.sent if one.at_s > seen_s]
                tell(f"{now_s:6.0f} s  " + "  ".join(f"{n} {v[-1]:.0f}" for n, v in memory.items()))
            stage.wait(0.2)
        missed = missed_ticks(commands, stage.robot.control_dt_s)
        ended = stage.processes.take_deaths()
        restarts = stage.processes.started - restarts
    of = {name: memory_of(times_s, values) for name, values in memory.items()}
    share = missed / max(len(commands) + missed, 1)
    flat = all(one.growth <= MOST_GROWTH_MIB for one in of.values())
    good = flat and share <= MOST_MISSED and not ended and not lost
    text = _table(minutes, of, len(commands), missed, complete, lost)
    return text + "".join(f"\n{name} ended: {words}" for name, words in ended), good


def _table(
    minutes: float,
    memory: Mapping[str, Memory],
    commands: int,
    missed: int,
    complete: int,
    lost: Sequence[str],
) -> str:
    share = 100 * missed / max(commands + missed, 1)
    lines = [
        f"{minutes:g} minutes: {commands} commands, {missed} control ticks missed ({share:.3f} %), "
        f"{complete} complete episodes, {len(lost)} lost.",
        "",
        "| process | MiB after the warm-up | MiB at the end | growth by a straight line |",
        "|---|---|---|---|",
    ]
    for name, one in memory.items():
        lines.append(f"| {name} | {one.first:.1f} | {one.last:.1f} | {one.growth:+.1f} |")
    return "\n".join(lines)


def _resident_mib(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return float(line.split()[1]) / 1024
    return 0.0
