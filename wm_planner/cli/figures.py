"""The figures of `wm-planner plot`, all in one style."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from wm_planner.files import written_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from wm_planner.evaluation.cell import CellResult

PANEL = 4.2  # inches
GAMMA = 0.6  # of the landscape's colours: the basin is where the small differences are
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
}
# Okabe and Ito's palette, which colour-blind people tell apart, and with each a mark of its own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
# A solver looks the same in every figure; others take what is left.
SOLVERS = {
    "gbp": "gradients (gbp)",
    "cem": "CEM",
    "icem": "iCEM",
    "mppi": "MPPI",
    "gradient-cem": "gradient-CEM",
    "lbfgs": "L-BFGS",
}


def solver_title(name: str) -> str:
    """A solver's name for people; one that is not this package's keeps its own."""
    return SOLVERS.get(name, name)


def looks(titles: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and mark of each series, as matplotlib's arguments; solvers have theirs for good."""
    titles, known = list(dict.fromkeys(titles)), list(SOLVERS.values())
    places = {title: known.index(title) for title in titles if title in known}
    free = [i for i in range(len(COLOURS)) if i not in places.values()]
    others = [title for title in titles if title not in places]
    places |= {title: free[k % len(free)] for k, title in enumerate(others)}
    return {t: {"color": COLOURS[places[t]], "marker": MARKS[places[t]]} for t in titles}


def draw_landscape(path: Path, data: dict[str, Any]) -> None:
    """A panel for each model: loss in colour, the expert's actions and both plans as marks."""
    names = list(data["losses"])
    first, second = (solver_title(name) for name in data["axes"])
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure((PANEL * len(names) + 0.8, PANEL), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(names)))
        for axis, name in zip(axes, names, strict=True):
            loss, side = np.array(data["losses"][name]), data["coordinates"]
            low, high = loss.min(), loss.max()
            shown = ((loss - low) / max(high - low, 1e-12)) ** GAMMA
            axis.contourf(side, side, shown, 40, cmap="viridis")
            axis.contour(side, side, shown, 20, colors="white", linewidths=0.3)
            above, left = {"xytext": (6, 6)}, {"xytext": (-6, 6), "ha": "right"}
            below = {"xytext": (-6, -14), "ha": "right"}
            for *place, label, aside in (
                (0, 0, "expert", below),
                (1, 0, first, left),
                (0, 1, second, above),
            ):
                axis.plot(*place, "o", color=COLOURS[1], markeredgecolor="white")
                axis.annotate(label, place, textcoords="offset points", color="white", **aside)
            axis.set_title(f"checkpoint {name}: loss {low:.3g} to {high:.3g}")
            axis.set_xlabel(f"towards the plan of {first}")
            axis.set_ylabel(f"towards the plan of {second}")
        figure.suptitle(
            f"{data['task']}: planning loss around the expert's actions, darker is lower"
        )
        _save(figure, path)


def draw_frontier(path: Path, data: dict[str, Any]) -> None:
    """Success, with its interval, against seconds: of each planner a line along the first plan's
    budget and a dashed one along the warm plans', which meet at the tuned point.
    """
    names = list(dict.fromkeys(point["planner"] for point in data["points"]))
    look_of = looks(solver_title(name) for name in names)
    with rc_context(STYLE):
        figure = Figure((2 * PANEL, 1.2 * PANEL), layout="constrained")
        axis = figure.subplots()
        for planner in names:
            look = look_of[solver_title(planner)]
            own = [point for point in data["points"] if point["planner"] == planner]
            for sweep, line in (("first", "-"), ("warm", "--"), ("fixed", "")):
                points = [point for point in own if point["sweep"] in (sweep, "tuned")]
                points.sort(key=lambda point: point["seconds"])
                if sweep == "fixed" or len(points) < 2:
                    points = [point for point in points if point["sweep"] == sweep]
                _with_intervals(axis, points, color=look["color"], linestyle=line, marker=".")
            middle = [point for point in own if point["sweep"] in ("tuned", "fixed")]
            _with_intervals(axis, middle, linestyle="", label=solver_title(planner), **look)
        axis.set_xscale("log")
        low = min(point["interval_low"] for point in data["points"])
        axis.set_ylim(max(-0.03, low - 0.03), 1.01)
        unit = data["unit"]
        axis.set_xlabel(
            f"{unit} of planning per episode (solid: first plan's budget, dashed: warm plans')"
        )
        axis.set_ylabel("success rate, 95 % interval")
        targets = data["points"][0]["episodes"]
        axis.set_title(f"{data['task']}, {targets} targets; large marks: as tuned")
        axis.legend()
        _save(figure, path)


def _with_intervals(axis: Any, points: list[dict[str, Any]], **style: Any) -> None:
    if not points:
        return
    rate = np.array([point["success_rate"] for point in points])
    ends = [[point[f"interval_{end}"] for point in points] for end in ("low", "high")]
    seconds = [point["seconds"] for point in points]
    axis.errorbar(seconds, rate, np.abs(np.array(ends) - rate), elinewidth=0.8, capsize=2, **style)


def draw_model_error(path: Path, data: dict[str, Any]) -> None:
    """A panel for each checkpoint: error by step, on the expert's actions and on plans."""
    results = data["checkpoints"]
    with rc_context(STYLE):
        figure = Figure((PANEL * len(results) + 0.6, PANEL), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(results), sharey=True))
        for axis, (name, result) in zip(axes, results.items(), strict=True):
            steps = range(1, len(result["planned"]) + 1)
            for i, kind in enumerate(("expert", "planned")):
                look = {"color": COLOURS[i], "marker": MARKS[i]}
                label = ("the expert's actions", "plans")[i]
                axis.plot(steps, result[kind], label=label, **look)
                ends = (result[f"{kind}_low"], result[f"{kind}_high"])
                axis.fill_between(steps, *ends, color=COLOURS[i], alpha=0.2, linewidth=0)
            gap = f"{result['gap']:.2g} ({result['gap_low']:.2g} to {result['gap_high']:.2g})"
            axis.set_title(f"{name}\ngap {gap}")
            axis.set_xlabel("model step")
            axis.set_xticks(list(steps))
            axis.set_xlim(steps[0] - 0.2, steps[-1] + 0.2)
        axes[0].legend(loc="upper left")
        axes[0].set_ylabel("latent error of the model, mean of runs")
        axes[0].set_ylim(bottom=0)  # last: it ends the growth that all panels share
        runs = next(iter(results.values()))["runs"]
        figure.suptitle(f"{data['task']}: {runs} runs, 95 % intervals")
        _save(figure, path)


def draw_results(path: Path, rows: Sequence[CellResult]) -> None:
    """Success, with its interval, against seconds per plan of each solver.

    Args:
        path: to write.
        rows: of one grid. Each task, and each checkpoint and shift if there are several, has a
            panel; a loop other than MPC has hollow marks.
    """
    several = [key for key in ("checkpoint", "shift") if len({getattr(r, key) for r in rows}) > 1]
    panels: dict[str, list[CellResult]] = {}
    for row in rows:
        title = ", ".join([row.task, *(getattr(row, key) for key in several)])
        panels.setdefault(title, []).append(row)
    with rc_context(STYLE):
        figure = Figure((0.62 * PANEL * len(panels) + 1.0, 0.95 * PANEL), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(panels), sharex=True, sharey=True))
        named = looks(solver_title(row.planner) for row in rows)
        for axis, (title, of) in zip(axes, panels.items(), strict=True):
            for row in of:
                point = [{key: getattr(row, key) for key in _RATE}]
                hollow = {} if row.mode == "mpc" else {"markerfacecolor": "white"}
                style = {**named[solver_title(row.planner)], **hollow, "markersize": 8}
                _interval_line(axis, [row.plan_seconds_p50], point, **style)
            axis.set_title(f"{title}\n{of[0].episodes} episodes")
            _seconds(axis)
        _rates(axes[0])
        seconds = [row.plan_seconds_p50 for row in rows]
        axes[0].set_xlim(min(seconds) / 2, max(seconds) * 2)
        axes[0].set_ylabel("success, with its 95 % interval")
        figure.supxlabel("seconds per plan, median", fontsize=10)
        if len({row.mode for row in rows}) > 1:
            named["open loop"] = {"color": "0.4", "marker": "o", "markerfacecolor": "white"}
        handles = [
            axes[0].plot([], [], linestyle="", label=label, **like)[0]
            for label, like in named.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        _save(figure, path)


def draw_step_errors(path: Path, errors: dict[str, Any], name: str) -> None:
    """Held-out error of each imagined step, beside copying the first frame."""
    with rc_context(STYLE):
        figure = Figure((1.3 * PANEL, PANEL), layout="constrained")
        axis = figure.subplots()
        steps = range(1, len(errors["model"]) + 1)
        axis.plot(steps, errors["model"], marker=MARKS[0], color=COLOURS[0], label="model")
        copying: dict[str, Any] = {"marker": MARKS[1], "color": COLOURS[1], "linestyle": "--"}
        axis.plot(steps, errors["copy"], label="copying the first frame", **copying)
        axis.set_title(f"{name}: {errors['windows']} held-out windows")
        axis.set_xlabel("model step")
        axis.set_xticks(list(steps))
        axis.set_ylabel("latent error of the model, mean of windows")
        axis.set_ylim(bottom=0)
        axis.legend()
        _save(figure, path)


_RATE = ("success_rate", "interval_low", "interval_high")


def _interval_line(axis: Axes, x: list[float], points: list[dict[str, Any]], **look: Any) -> None:
    rate = np.array([point["success_rate"] for point in points])
    ends = np.array([[point[f"interval_{end}"] for point in points] for end in ("low", "high")])
    axis.errorbar(x, rate, np.abs(ends - rate), capsize=3, clip_on=False, **look)


def _seconds(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")


def _rates(axis: Axes) -> None:
    axis.set_ylim(0, 1.02)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def draw_learning(path: Path, data: dict[str, Any]) -> None:
    """Each episode as a mark, the mean of the last ones as a line, a colour for each checkpoint."""
    _save(_learning(data, len(data["successes"])), path)


def learning_picture(data: dict[str, Any], shown: int) -> np.ndarray:
    """(H, W, 3) uint8: what `draw_learning` draws, of the first episodes, so many."""
    canvas = FigureCanvasAgg(_learning(data, shown))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _learning(data: dict[str, Any], shown: int) -> Figure:
    """The first episodes; the axes are those of all."""
    figure = Figure((1.8 * PANEL, PANEL), layout="constrained")
    axis = figure.subplots()
    reached, window = np.array(data["successes"], float), data["window"]
    means = [reached[max(0, i + 1 - window) : i + 1].mean() for i in range(shown)]
    axis.plot(range(1, shown + 1), means, color="black", linewidth=1.5)
    first = 0
    for number, phase in enumerate(data["phases"]):
        last = min(first + phase["episodes"], shown)
        if last > first:
            count = int(reached[first:last].sum())
            label = f"{phase['checkpoint']}: {count} of {last - first}"
            colour = f"C{number}"
            axis.axvspan(first + 0.5, last + 0.5, color=colour, alpha=0.12)
            episodes = range(first + 1, last + 1)
            axis.plot(episodes, reached[first:last], "o", color=colour, label=label)
        first = last
    axis.set_xlim(0.5, len(reached) + 0.5)
    axis.set_ylim(-0.05, 1.05)
    axis.set_xlabel("episode")
    axis.set_ylabel(f"goal reached (line: mean of the last {window})")
    if shown:
        axis.legend(loc="lower right")
    return figure


def _save(figure: Figure, path: Path) -> None:
    with written_aside(path) as part:
        figure.savefig(part, dpi=130, bbox_inches="tight")
