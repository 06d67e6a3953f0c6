"""The figures of `wm-planner plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from wm_planner.files import written_aside

PANEL = 4.2  # inches
GAMMA = 0.6  # of the landscape's colours: the basin is where the small differences are


def draw_landscape(path: Path, data: dict[str, Any]) -> None:
    """A panel for each model: loss in colour, the expert's actions and both plans as marks."""
    names = list(data["losses"])
    figure = Figure((PANEL * len(names) + 0.6, PANEL), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(names)))
    for axis, name in zip(axes, names, strict=True):
        loss, side = np.array(data["losses"][name]), data["coordinates"]
        low, high = loss.min(), loss.max()
        shown = ((loss - low) / max(high - low, 1e-12)) ** GAMMA
        axis.contourf(side, side, shown, 40, cmap="viridis")
        axis.contour(side, side, shown, 20, colors="white", linewidths=0.3)
        for x, y, label in ((0, 0, "expert"), (1, 0, data["axes"][0]), (0, 1, data["axes"][1])):
            axis.plot(x, y, "o", color="red", markeredgecolor="white")
            side_of = {"xytext": (-5, 5), "ha": "right"} if x else {"xytext": (5, 5)}
            axis.annotate(label, (x, y), textcoords="offset points", color="white", **side_of)
        axis.set_title(f"{name}: loss {low:.3g} to {high:.3g}")
        axis.set_xlabel(f"towards {data['axes'][0]}")
        axis.set_ylabel(f"towards {data['axes'][1]}")
    _save(figure, path)


def draw_frontier(path: Path, data: dict[str, Any]) -> None:
    """Success, with its interval, against seconds: of each planner a line along the first plan's
    budget and a dashed one along the warm plans', which meet at the tuned point."""
    figure = Figure((2 * PANEL, 1.2 * PANEL), layout="constrained")
    axis = figure.subplots()
    names = dict.fromkeys(point["planner"] for point in data["points"])
    for number, planner in enumerate(names):
        colour = f"C{number % 10}"
        own = [point for point in data["points"] if point["planner"] == planner]
        for sweep, line in (("first", "-"), ("warm", "--"), ("fixed", "")):
            points = [point for point in own if point["sweep"] in (sweep, "tuned")]
            points.sort(key=lambda point: point["seconds"])
            if sweep == "fixed" or len(points) < 2:
                points = [point for point in points if point["sweep"] == sweep]
            _with_intervals(axis, points, color=colour, linestyle=line, marker=".")
        middle = [point for point in own if point["sweep"] in ("tuned", "fixed")]
        _with_intervals(axis, middle, color=colour, linestyle="", marker="o", label=planner)
    axis.set_xscale("log")
    low = min(point["interval_low"] for point in data["points"])
    axis.set_ylim(max(-0.03, low - 0.03), 1.01)
    axis.set_xlabel(
        f"{data['unit']} of planning per episode (solid: first plan's budget, dashed: warm plans')"
    )
    axis.set_ylabel("success rate, 95 % interval")
    axis.set_title(f"{data['task']}, {data['points'][0]['episodes']} targets; dots: as tuned")
    axis.legend()
    _save(figure, path)


def _with_intervals(axis: Any, points: list[dict[str, Any]], **style: Any) -> None:
    if not points:
        return
    rate = np.array([point["success_rate"] for point in points])
    ends = [[point[f"interval_{end}"] for point in points] for end in ("low", "high")]
    seconds = [point["seconds"] for point in points]
    axis.errorbar(seconds, rate, np.abs(np.array(ends) - rate), elinewidth=0.5, capsize=2, **style)


def draw_model_error(path: Path, data: dict[str, Any]) -> None:
    """A panel for each checkpoint: error by step, on the expert's actions and on plans."""
    results = data["checkpoints"]
    figure = Figure((PANEL * len(results), PANEL), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(results), sharey=True))
    for axis, (name, result) in zip(axes, results.items(), strict=True):
        for kind in ("expert", "planned"):
            axis.plot(range(1, len(result[kind]) + 1), result[kind], marker="o", label=kind)
        interval = f"{result['gap_low']:.3g} to {result['gap_high']:.3g}"
        axis.set_title(f"{name}: gap {result['gap']:.3g} ({interval})")
        axis.set_xlabel("model step")
        axis.set_xticks(range(1, len(result["planned"]) + 1))
        axis.legend()
    axes[0].set_ylabel("latent model error")
    axes[0].set_ylim(bottom=0)  # last: it ends the growth that all panels share
    _save(figure, path)


def draw_step_errors(path: Path, errors: dict[str, Any], name: str) -> None:
    """Held-out error of each imagined step, beside copying the first frame."""
    figure = Figure((1.2 * PANEL, PANEL), layout="constrained")
    axis = figure.subplots()
    steps = range(1, len(errors["model"]) + 1)
    axis.plot(steps, errors["model"], marker="o", label="model")
    axis.plot(steps, errors["copy"], marker="o", linestyle="--", label="copying the first frame")
    axis.set_title(f"{name}: {errors['windows']} held-out windows")
    axis.set_xlabel("model step")
    axis.set_xticks(list(steps))
    axis.set_ylabel("latent error")
    axis.set_ylim(bottom=0)
    axis.legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with written_aside(path) as part:
        figure.savefig(part, dpi=120)
