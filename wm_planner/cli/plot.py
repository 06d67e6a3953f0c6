"""`wm-planner plot`: a figure, and its numbers as JSON; or one of results that are there."""

from __future__ import annotations

import argparse
import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_planner.cli import plot_learning
from wm_planner.cli.eval import make_job
from wm_planner.cli.options import add_option, add_options, check_numbers, check_writable
from wm_planner.cli.parser import path, whole
from wm_planner.errors import ConfigError
from wm_planner.tasks import get_task

if TYPE_CHECKING:
    from wm_planner.evaluation.cell import CellResult
    from wm_planner.evaluation.job import Job
    from wm_planner.planning import Planner

logger = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("plot", help="loss landscape, model error, results, learning")
    figures = parser.add_subparsers(dest="figure", metavar="FIGURE", required=True)
    helps = {
        "landscape": "planning loss over the plane of the expert's actions and two plans: of two "
        "checkpoints, or of gbp and cem with one",
        "model-error": "latent model error on expert against on planned trajectories",
    }
    for name, text in helps.items():
        figure = figures.add_parser(name, help=text)
        add_options(figure, "--task", "--seed", "--horizon", "--set", "--threads", "--device")
        figure.add_argument(
            "--checkpoint",
            action="append",
            help="variant (default base), shipped name, or directory; may be repeated",
        )
        written = "figure to write; its numbers go beside it, into FILE.json"
        add_option(figure, "--output", metavar="FILE.png", help=written)
    what = "success over recorded episodes, and which checkpoint planned them"
    plot_learning.add_arguments(figures.add_parser("learning", help=what))
    landscape, model_error = (figures.choices[name] for name in helps)
    landscape.add_argument("--size", type=whole, default=41, help="points on a side (default 41)")
    add_option(model_error, "--episodes", default=50, help="expert runs (default 50)")
    results = figures.add_parser(
        "results", help="success against seconds per plan: a table of 'wm-planner results'"
    )
    results.add_argument("file", type=path, metavar="RESULTS.json", help="of 'wm-planner results'")
    add_option(results, "--output", metavar="FILE.png", help="figure to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compute, then write FILE.png and FILE.json; results are computed already.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    from wm_planner.cli import figures
    from wm_planner.files import write_json

    if args.figure == "learning":
        return plot_learning.run(args)
    if args.output.suffix != ".png" or not args.output.resolve().parent.is_dir():
        raise ConfigError(f"--output {args.output}: expected FILE.png in an existing directory")
    if args.figure == "results":
        check_writable("--output", args.output)
        figures.draw_results(args.output, _results(args.file))
        logger.info("written: %s", args.output)
        return 0
    get_task(args.task)
    for file in (args.output, args.output.with_suffix(".json")):
        check_writable("--output", file)
    # An interval needs two runs, a surface two points on a side.
    runs = 2 if args.figure == "model-error" else 1
    check_numbers(args, episodes=runs, size=2)
    args.checkpoint = list(dict.fromkeys(args.checkpoint or ["base"]))
    data = {"task": args.task, "seed": args.seed, **_COMPUTE[args.figure](args)}
    write_json(args.output.with_suffix(".json"), data)
    getattr(figures, f"draw_{args.figure.replace('-', '_')}")(args.output, data)
    logger.info("written: %s", args.output)
    return 0


def _landscape(args: argparse.Namespace) -> dict[str, Any]:
    from wm_planner.evaluation.figures import expert_runs, landscape

    if len(args.checkpoint) > 2:
        raise ConfigError(f"--checkpoint: a plane has two axes, got {len(args.checkpoint)} plans")
    first, second = args.checkpoint[0], args.checkpoint[-1]
    job, one = _planner(args, first, "gbp")
    if first == second:
        axes = ("gbp", "cem")
        planners = {"gbp": one, "cem": _planner(args, first, "cem")[1]}
    else:
        axes = (first, second)
        planners = {first: one, second: _planner(args, second, "gbp")[1]}
    with closing(job.make_env()(True)) as env:
        runs = expert_runs(env, args.seed, 1, job.planner.horizon)
        data = landscape(planners, axes, env, runs, args.size)
    if first == second:  # one model: both planners look at the same surface
        data["losses"] = {first: data["losses"]["gbp"]}
    return data


def _model_error(args: argparse.Namespace) -> dict[str, Any]:
    from wm_planner.evaluation.figures import expert_runs, less_first, model_error

    results: dict[str, dict[str, Any]] = {}
    for checkpoint in args.checkpoint:
        job, planner = _planner(args, checkpoint, "gbp")
        with closing(job.make_env()(True)) as env:
            runs = expert_runs(env, args.seed, args.episodes, job.planner.horizon)
            results[checkpoint] = model_error(planner, env, runs)
    first, *others = results.values()
    for other in others:
        other |= less_first(first["gaps"], other["gaps"])
    return {"checkpoints": results}


def _results(file: Path) -> list[CellResult]:
    """Rows of a table of results."""
    from wm_planner.evaluation.cell import CellResult
    from wm_planner.files import read_json

    content = read_json(file)
    try:
        rows = [CellResult.from_json(row, str(file)) for row in content["rows"]]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{file}: not a results.json of 'wm-planner results'") from error
    if not rows:
        raise ConfigError(f"{file}: holds no rows; run 'wm-planner results'")
    return rows


def _job(args: argparse.Namespace, checkpoint: str, planner: str) -> tuple[Job, Any]:
    """The job of `wm-planner eval` with these arguments, and its checkpoint."""
    plain: dict[str, Any] = {"shifts": [], "latency": None, "mode": "mpc", "batch_size": 1}
    plain["max_steps"] = None
    chosen = {"checkpoint": checkpoint, "planner": planner}
    return make_job(argparse.Namespace(**{**plain, **vars(args), **chosen}))


def _planner(args: argparse.Namespace, checkpoint: str, planner: str) -> tuple[Job, Planner]:
    import torch

    from wm_planner.planning import Planner

    job, bundle = _job(args, checkpoint, planner)
    torch.set_num_threads(job.threads)
    return job, Planner(bundle, job.planner)


_COMPUTE = {"landscape": _landscape, "model-error": _model_error}
