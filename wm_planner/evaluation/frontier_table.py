"""The tables of a frontier."""

from __future__ import annotations

from collections.abc import Sequence

from wm_planner.evaluation.frontier import FIXED, TUNED, Frontier
from wm_planner.evaluation.frontier_points import Point, against, cheapest
from wm_planner.evaluation.table import figure, interval, markdown, percent
from wm_planner.evaluation.tuning import Score


def points_table(points: Sequence[Point], frontier: Frontier, unit: str) -> str:
    """Markdown tables of a frontier: every point, then each planner's cheapest good one."""
    name = frontier.reference
    reference = next(p for p in points if p.planner == name and p.sweep == TUNED)
    headings = (
        f"planner | first plan | warm plans | success | 95 % interval | {unit}/episode "
        f"| the first plan's | time / tuned {name}'s (95 %) | success - tuned {name}'s (95 %)"
    )
    lines = []
    for p in points:
        pair, low, high = against(p, reference), p.interval_low, p.interval_high
        line = [p.name, p.first, p.warm, f"{p.successes}/{p.episodes}", interval(low, high)]
        line += [figure(p.seconds), figure(p.first_seconds)]
        if p is reference:
            line += ["1", ""]
        else:
            ends = interval(pair.difference_low, pair.difference_high)
            line += [_ratio(pair.time_ratio, pair.time_low, pair.time_high)]
            line += [f"{percent(pair.difference)} ({ends})"]
        lines.append(line)
    best = cheapest([p for p in points if p.sweep != FIXED], frontier.margin)
    text = (
        f"\nEach planner's fastest point that reaches at most {percent(frontier.margin)} less than "
        "the most successful point, read off the same targets"
    )
    if name not in best:
        return f"{markdown(headings, lines)}{text}: there is none of {name}.\n"
    rows, own = [], best[name]
    for planner, p in best.items():
        row = [planner, f"{p.first}, then {p.warm}", f"{p.successes}/{p.episodes}"]
        pair = against(own, p)
        ratio = _ratio(pair.time_ratio, pair.time_low, pair.time_high)
        ends = interval(pair.difference_low, pair.difference_high)
        both = [ratio, f"{percent(pair.difference)} ({ends})"]
        rows.append([*row, figure(p.seconds), *(both if p is not own else ["1", ""])])
    headings_of_best = (
        f"planner | budgets | success | {unit}/episode | {name}'s time / its (95 %) "
        f"| {name}'s success - its (95 %)"
    )
    return f"{markdown(headings, lines)}{text}:\n\n{markdown(headings_of_best, rows)}"


def trials_table(rounds: Sequence[Sequence[Score]], frontier: Frontier, unit: str) -> str:
    """A Markdown table of the settings that a frontier's search chose."""
    search, lines, seen = frontier.search, [], set()
    for score in rounds[-1]:
        planner = score.trial.planner
        if planner in seen:
            continue
        seen.add(planner)
        tried = sum(other.trial.planner == planner for other in rounds[0])
        chosen = ", ".join(f"{key}={value}" for key, value in score.trial.chosen.items())
        reach = f"{score.successes}/{score.episodes}"
        lines.append([planner, str(tried), chosen, reach, figure(score.seconds)])
    headings = f"planner | trials | chosen settings | tuning targets reached | {unit}/episode"
    note = (
        f"Settings by successive halving on targets of seed {search.seed} "
        f"({', '.join(map(str, search.episodes))} of them):"
    )
    return f"{note}\n\n{markdown(headings, lines)}"


def _ratio(value: float, low: float, high: float) -> str:
    return f"{figure(value, 2)} ({figure(low, 2)} to {figure(high, 2)})"
