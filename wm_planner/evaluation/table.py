"""Tables: how they are printed, and those of results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from wm_planner.evaluation.stats import wilson_interval

if TYPE_CHECKING:
    from wm_planner.evaluation.ablation import PooledError
    from wm_planner.evaluation.cell import CellResult
    from wm_planner.evaluation.result import Pooled, Result

NOTE = (
    "Intervals of success and difference, and McNemar's p, count every episode of every seed as an "
    "independent trial: they speak of these models, on targets like these. The interval over seeds "
    "(Student's t of each seed's difference) speaks of trainings like these, on these targets; it "
    "is too narrow where a few seeds agree by chance. Trust a difference when neither holds 0."
)


def markdown(headings: str, rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the headings stand between ' | '."""
    lines = [f"| {headings} |", "|---" * len(headings.split(" | ")) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def listing(rows: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each name and its value."""
    return [f"  {name:<18}{value}" for name, value in rows]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose columns begin below each other, the headings' first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join(row).rstrip() for row in cells]


def percent(rate: float) -> str:
    """A rate as tables show it, to one decimal: 199 of 200 are not all."""
    return f"{round(100 * rate, 1) + 0:g} %"  # + 0: there is no -0 %


def interval(low: float, high: float) -> str:
    """An interval of rates."""
    return f"{percent(low)} to {percent(high)}"


def reached(successes: int, trials: int) -> str:
    """How many of how many, with the 95 % interval of the rate, as people read it."""
    low, high = wilson_interval(successes, trials)
    return f"{successes}/{trials}  (95 % interval {low:.2f} to {high:.2f})"


def figure(value: float | None, digits: int = 3, unknown: str = "") -> str:
    """A number as tables show it."""
    return unknown if value is None else f"{value:.{digits}g}"


def result_table(result: Result) -> str:
    """A Markdown table of one result."""
    headings = (
        "task | checkpoint | planner | mode | success | 95 % interval | s/plan p50 | p99 "
        "| s/episode | rollouts/plan | model calls/episode | memory, MiB | dropped"
    )
    r = result
    cells = [r.task, r.checkpoint, r.planner, r.mode, f"{r.successes}/{r.episodes}"]
    cells += [interval(r.interval_low, r.interval_high), *_times(r)]
    cells += [f"{number:.0f}" for number in (r.plan_evaluations, r.model_calls, r.memory_mib)]
    return markdown(headings, [[*cells, r.dropped]])


def grid_table(rows: Iterable[CellResult], reference: str) -> str:
    """A Markdown table of a grid's rows; `reference` is what they are compared with, in words."""
    headings = (
        "task | shift | checkpoint | loop | planner | success | 95 % interval | s/plan p50 | p99 "
        f"| s/episode | time / {reference}'s (per plan, per episode) "
        f"| success - {reference}'s (95 % interval) | p"
    )
    lines = []
    for r in rows:
        cells = [r.task, r.shift, r.checkpoint, r.loop, r.planner, *_success(r), *_times(r)]
        if (pair := r.against_reference) is None:
            cells += ["1, 1", "", ""]
        else:
            ratios = (pair.time_ratio, pair.episode_time_ratio)
            ends = interval(pair.difference_low, pair.difference_high)
            cells += [
                ", ".join(figure(ratio, 2, unknown="-") for ratio in ratios),
                f"{percent(pair.difference)} ({ends})",
                f"{pair.p_value:.2g}",
            ]
        lines.append(cells)
    return markdown(headings, lines)


def ablation_table(rows: Iterable[Pooled]) -> str:
    """A Markdown table of an ablation's rows, and its note."""
    headings = (
        "row | mode | success | 95 % interval | each seed | against | difference (95 %) | p "
        "| each seed's | over seeds (95 %)"
    )
    lines = []
    for r in rows:
        rates = ", ".join(percent(rate).removesuffix(" %") for rate in r.rates)
        cells = [r.row, r.mode, *_success(r), rates]
        if r.row == r.reference:
            cells += [""] * 5
        else:
            over_seeds = "one seed"
            if r.seeds_low is not None and r.seeds_high is not None:
                over_seeds = interval(r.seeds_low, r.seeds_high)
            cells += [
                r.reference,
                f"{percent(r.difference)} ({interval(r.difference_low, r.difference_high)})",
                f"{r.p_value:.2g}",
                ", ".join(f"{100 * difference:+.0f}" for difference in r.differences),
                over_seeds,
            ]
        lines.append(cells)
    return f"{markdown(headings, lines)}\n{NOTE}\n"


def error_table(rows: Iterable[PooledError]) -> str:
    """A Markdown table of an ablation's model errors.

    Errors are in units of each encoder's own latent: of different ones only ratios compare.
    """
    lines = [
        (
            r.row,
            figure(r.expert),
            figure(r.planned),
            f"{r.planned / r.expert:.2f}",
            f"{figure(r.gap)} ({figure(r.gap_low)} to {figure(r.gap_high)})",
        )
        for r in rows
    ]
    return markdown("row | error on expert runs | on plans | ratio | gap (95 %)", lines)


def _success(r: Result | Pooled) -> list[str]:
    share = f"{percent(r.success_rate)} ({r.successes}/{r.episodes})"
    return [share, interval(r.interval_low, r.interval_high)]


def _times(r: Result) -> list[str]:
    return [
        figure(seconds)
        for seconds in (r.plan_seconds_p50, r.plan_seconds_p99, r.plan_seconds_per_episode)
    ]
