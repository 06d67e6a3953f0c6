"""`wm-planner plot learning`: success over recorded episodes, and which checkpoint planned them."""

from __future__ import annotations

import argparse
import logging
from itertools import groupby
from pathlib import Path
from typing import Any

from wm_planner.cli.filmed import check_film
from wm_planner.cli.options import add_option, check_least, check_writable
from wm_planner.cli.parser import directory, whole
from wm_planner.errors import ConfigError

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument(
        "bags", type=directory, metavar="BAGS", help="directory of the recorded episodes"
    )
    parser.add_argument(
        "--window", type=whole, default=10, metavar="N", help="mean of N episodes (default 10)"
    )
    what = "figure to write; its numbers go beside it, into FILE.json"
    add_option(parser, "--output", metavar="FILE.png", help=what)
    add_option(parser, "--film", help="of all episodes, beside the success so far")


def run(args: argparse.Namespace) -> int:
    """Write FILE.png, FILE.json and the film, and print successes by checkpoint.

    Raises:
        WmPlannerError: there are no bags, or the figure cannot be written.
    """
    from wm_planner.cli.figures import draw_learning
    from wm_planner.data.outcomes import outcomes
    from wm_planner.evaluation.stats import wilson_interval
    from wm_planner.evaluation.table import listing, reached
    from wm_planner.files import write_json

    if args.output.suffix != ".png":
        raise ConfigError(f"--output {args.output}: expected FILE.png")
    check_least(args, window=1)
    check_writable("--output", args.output)
    check_film(args.film)
    told = [each for each in outcomes(args.bags) if each.outcome]
    if not told:
        raise ConfigError(f"{args.bags}: no episode says how it came out")
    phases: list[dict[str, Any]] = []
    # By its weights: one checkpoint has a name in the catalog, and a directory.
    for _, group in groupby(told, key=lambda each: each.sha256 or each.checkpoint):
        episodes = list(group)
        reached_goals = [each.outcome == "success" for each in episodes]
        checkpoint = Path(episodes[-1].checkpoint).name
        low, high = wilson_interval(sum(reached_goals), len(reached_goals))
        phase = {"checkpoint": checkpoint, "episodes": len(reached_goals)}
        phase |= {"successes": sum(reached_goals), "interval_low": low, "interval_high": high}
        phases.append(phase)
    data = {
        "window": args.window,
        "successes": [each.outcome == "success" for each in told],
        "phases": phases,
    }
    write_json(args.output.with_suffix(".json"), data)
    draw_learning(args.output, data)
    rows = [(p["checkpoint"], reached(p["successes"], p["episodes"])) for p in phases]
    print("\n".join(listing(rows)))
    logger.info("written: %s", args.output)
    if args.film is not None:
        from wm_planner.cli.learning_film import write_learning_film
        from wm_planner.data.layouts import open_dataset

        # Last: a figure is not lost with it.
        write_learning_film(args.film, open_dataset(args.bags), told, data)
        logger.info("written: %s", args.film)
    return 0
