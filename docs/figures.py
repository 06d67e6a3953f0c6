"""Draw the figures of the experiments: data/NAME.csv becomes NAME.svg, in docs/experiments.

Usage: python docs/figures.py (or `make figures`). Each file of data says in its first lines what
it holds, which command gave it, and when. A row is a count (panel, series, x, successes, trials),
whose 95 % interval is Wilson's, or a value with its interval (panel, series, x, value, low, high).
"""

from __future__ import annotations

import csv
import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wm_planner.cli.figures import STYLE, looks
from wm_planner.evaluation.stats import wilson_interval

HERE = Path(__file__).parent / "experiments"
# Names stay text, and the same data give the same file.
matplotlib.rcParams.update({**STYLE, "svg.fonttype": "none", "svg.hashsalt": "wm_planner"})
RATE = "goals reached, %"
ROW, PANEL = 0.27, 3.3  # inches: height of a row, width of a panel


@dataclass(frozen=True)
class Point:
    """A success rate in percent, or another value, with its interval."""

    panel: str
    series: str
    x: str
    value: float
    low: float
    high: float


def read(path: Path) -> tuple[dict[str, str], list[Point]]:
    """What the first lines of a file of data say, and its points."""
    lines = path.read_text().splitlines()
    head = [line[2:].partition(": ") for line in lines if line.startswith("# ")]
    points = []
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        if "trials" in row:
            successes, trials = int(row["successes"]), int(row["trials"])
            low, high = wilson_interval(successes, trials)
            value = (100 * successes / trials, 100 * low, 100 * high)
        else:
            value = (float(row["value"]), float(row["low"]), float(row["high"]))
        points.append(Point(row["panel"], row["series"], row["x"], *value))
    return {key: value for key, _, value in head}, points


def unique(values: object) -> list[str]:
    """Values in the order in which they first come."""
    return list(dict.fromkeys(values))


def draw_rows(
    axis: Axes, points: list[Point], series: list[str], rows: list[str], label: str
) -> None:
    """A row for each x, from top to bottom; the series of a row stand close below each other."""
    for number, (name, look) in enumerate(looks(series).items()):
        mine = [point for point in points if point.series == name]
        shift = 0.22 * (number - (len(series) - 1) / 2)
        places = [rows.index(point.x) + shift for point in mine]
        _bars(axis, mine, places, look, name, across=True)
    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    if not label:
        axis.set_xlim(-4, 104)
    axis.set_xlabel(label or RATE)
    axis.grid(visible=False, axis="y")


def draw_line(axis: Axes, points: list[Point], series: list[str], label: str) -> None:
    """A line for each series over a number."""
    for name, look in looks(series).items():
        mine = [point for point in points if point.series == name]
        _bars(axis, mine, [float(point.x) for point in mine], look, name, across=False)
    axis.set_ylim(-4, 104)
    axis.set_xlabel(label)
    axis.set_ylabel(RATE)
    axis.grid(visible=False, axis="x")


def _bars(
    axis: Axes,
    points: list[Point],
    places: list[float],
    look: dict[str, str],
    name: str,
    across: bool,
) -> None:
    values = [point.value for point in points]
    reach = [
        [point.value - point.low for point in points],
        [point.high - point.value for point in points],
    ]
    style = {**look, "markersize": 5, "capsize": 2, "label": name}
    if across:
        axis.errorbar(values, places, xerr=reach, linestyle="none", **style)
    else:
        axis.errorbar(places, values, yerr=reach, **style)


def draw(path: Path) -> Path:
    """Draw the figure of a file of data; returns the figure's path."""
    head, points = read(path)
    panels = unique(point.panel for point in points)
    series, rows = unique(p.series for p in points), unique(p.x for p in points)
    in_rows = head["style"] == "rows"
    height = 1.5 + ROW * len(rows) * max(1, 0.6 * len(series)) if in_rows else PANEL
    figure = Figure((PANEL * max(2, len(panels)), height), layout="constrained")
    across = "scale" in head  # panels side by side are compared in it
    axes = figure.subplots(1, len(panels), sharey=True, sharex=across, squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        mine = [point for point in points if point.panel == panel]
        if in_rows:
            draw_rows(axis, mine, series, rows, head.get("x", ""))
        else:
            draw_line(axis, mine, series, head["x"])
            axis.set_xscale(head.get("scale", "linear"))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.margins(x=0.1)
        axis.label_outer(remove_inner_ticks=False)
        axis.set_title(panel, fontsize="medium")
    figure.suptitle(textwrap.fill(head["title"], 24 * max(2, len(panels))))
    if series != [""]:
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(series))
    drawn = HERE / f"{path.stem}.svg"
    figure.savefig(drawn, metadata={"Date": None})
    return drawn


if __name__ == "__main__":
    for data in sorted((HERE / "data").glob("*.csv")):
        print(draw(data))
