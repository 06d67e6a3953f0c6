"""The seeds of an ablation's rows put together: rates, intervals, the model's errors, tables."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from wm_planner.errors import ConfigError
from wm_planner.evaluation.stats import (
    GAP,
    mcnemar_p,
    mean_interval,
    paired_difference,
    wilson_interval,
)
from wm_planner.evaluation.summary import compare, percent

Result = dict[str, Any]
NOTE = (
    "Intervals of success and difference, and McNemar's p, count every episode of every seed as an "
    "independent trial: they speak of these models, on targets like these. The interval over seeds "
    "(Student's t of each seed's difference) speaks of trainings like these, on these targets; it "
    "is too narrow where a few seeds agree by chance. Trust a difference when neither holds 0."
)


def pooled(results: list[Result], references: list[Result]) -> dict[str, Any]:
    """One row's results of all seeds, with the reference's of the same seeds and targets.

    'difference' with its interval and 'p_value' (McNemar) count every episode as one trial, though
    seeds share their targets: they speak of these seeds' models, on targets like these.
    'differences', one of each seed, and the 95 % interval of their mean, 'seeds_low' to
    'seeds_high' (Student's t; None with one seed), speak of all models that training may give, on
    these targets; a few seeds that agree by chance make that too narrow.
    """
    trials = sum(result["episodes"] for result in results)
    successes = sum(result["successes"] for result in results)
    low, high = wilson_interval(successes, trials)
    pairs = [compare(a, b) for a, b in zip(results, references, strict=True)]
    only_a, only_b = (sum(pair[key] for pair in pairs) for key in ("only_a", "only_b"))
    difference, *ends = paired_difference(only_a, only_b, trials)
    differences = [pair["difference"] for pair in pairs]
    over_seeds = mean_interval(differences)[1:] if len(pairs) > 1 else (None, None)
    return {
        "episodes": trials,
        "successes": successes,
        "success_rate": successes / trials,
        "interval_low": low,
        "interval_high": high,
        "rates": [result["success_rate"] for result in results],
        "difference": difference,
        "difference_low": ends[0],
        "difference_high": ends[1],
        "p_value": mcnemar_p(only_a, only_b),
        "differences": differences,
        "seeds_low": over_seeds[0],
        "seeds_high": over_seeds[1],
    }


def read_error(file: Path) -> Result:
    """The errors of the one checkpoint that `plot model-error` has written to `file`.

    Raises:
        ConfigError: it cannot be read, or is of another version.
    """
    try:
        (error,) = json.loads(file.read_text())["checkpoints"].values()
        return {key: error[key] for key in ("expert", "planned", "gaps")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ConfigError(
            f"{file}: no result of 'wm-planner plot model-error' ({problem!r}); delete it and run "
            "the same command again"
        ) from problem


def pooled_error(errors: list[Result]) -> dict[str, Any]:
    """A row's model errors of all seeds: means over steps, runs and seeds.

    Args:
        errors: of one checkpoint each, on the same runs.

    Returns:
        'expert', 'planned', and 'gap' with its 95 % interval over the runs, of these models.
    """
    means = {kind: fmean(fmean(error[kind]) for error in errors) for kind in ("expert", "planned")}
    gaps = np.mean([error["gaps"] for error in errors], axis=0).tolist()
    return means | dict(zip(GAP, mean_interval(gaps), strict=True))


def error_table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of `pooled_error` rows, each with 'row'.

    Errors are in units of each encoder's own latent: of different ones only ratios compare.
    """
    lines = [
        "| row | error on expert runs | on plans | ratio | gap (95 %) |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["row"], f"{row['expert']:.3g}", f"{row['planned']:.3g}"]
        cells += [f"{row['planned'] / row['expert']:.2f}"]
        cells += [f"{row['gap']:.3g} ({row['gap_low']:.3g} to {row['gap_high']:.3g})"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ablation_table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of `pooled` rows, each with 'row', 'mode' and 'reference', and its note."""
    columns = (
        "row | mode | success | 95 % interval | each seed | against | difference (95 %) | p "
        "| each seed's | over seeds (95 %)"
    )
    lines = [f"| {columns} |", "|---" * len(columns.split(" | ")) + "|"]
    for row in rows:
        ends = (percent(row[f"difference_{end}"]) for end in ("low", "high"))
        cells = [
            row["row"],
            row["mode"],
            f"{percent(row['success_rate'])} ({row['successes']}/{row['episodes']})",
            f"{percent(row['interval_low'])} to {percent(row['interval_high'])}",
            ", ".join(percent(rate).removesuffix(" %") for rate in row["rates"]),
            row["reference"],
            f"{percent(row['difference'])} ({' to '.join(ends)})",
            f"{row['p_value']:.2g}",
            ", ".join(f"{100 * difference:+.0f}" for difference in row["differences"]),
            "one seed",
        ]
        if row["seeds_low"] is not None:
            cells[-1] = " to ".join(percent(row[f"seeds_{end}"]) for end in ("low", "high"))
        if row["row"] == row["reference"]:
            cells[-5:] = [""] * 5
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", NOTE]) + "\n"
