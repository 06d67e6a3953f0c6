"""`wm-planner eval`: success and planning time of a checkpoint and a planner, without ROS."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_planner.cli.filmed import check_film
from wm_planner.cli.options import (
    add_option,
    add_options,
    check_numbers,
    check_writable,
    cluster_of,
)
from wm_planner.cli.parser import path, whole, written
from wm_planner.cli.targets import add_arguments, find_targets
from wm_planner.errors import ConfigError
from wm_planner.evaluation.table import interval, listing, percent, reached, result_table
from wm_planner.tasks import task_names

if TYPE_CHECKING:
    from wm_planner.evaluation.job import Job
    from wm_planner.evaluation.result import Result
    from wm_planner.models.bundle import Bundle
    from wm_planner.planning import PlannerConfig


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("eval", help="evaluate a checkpoint and a planner without ROS")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--task",
        help=f"simulated task: {', '.join(task_names())}; without one, --data says what to "
        "evaluate on",
    )
    what.add_argument(
        "--compare",
        type=path,
        nargs=2,
        metavar=("A.json", "B.json"),
        help="instead: compare two results on the same targets, pair by pair",
    )
    add_options(parser, "--checkpoint", "--planner", "--mode", "--horizon", "--set")
    add_option(parser, "--episodes", default=50, help="or goals of --data; default 50")
    add_option(parser, "--seed", help="of the targets and of the planner (default 0)")
    add_arguments(parser)
    parser.add_argument(
        "--max-steps",
        type=whole,
        metavar="N",
        help="model steps after which an episode has failed (default: the task's)",
    )
    what = "difference from the trained world, for example process_noise=0.2, obstacle=1 or, for "
    add_option(parser, "--shift", help=f"{what}point_maze, maze=open; may be repeated")
    parser.add_argument(
        "--latency",
        metavar="SECONDS|measured",
        help="the world goes on while the planner thinks, for so long or for as long as it takes",
    )
    parser.add_argument(
        "--batch-size",
        type=whole,
        help="episodes planned together (default: what fits); seconds per plan are those of a "
        "planning call divided by its episodes, so 1 measures latency",
    )
    add_option(parser, "--processes", help="default 1; results are the same")
    add_options(parser, "--ray", "--threads", "--device", "--json")
    parser.add_argument(
        "--output",
        type=written,
        help="directory for result, table, settings, targets and every episode; one that was "
        "begun with the same settings is finished",
    )
    add_option(parser, "--film", help="write a film of the first episode, at its speed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print one table.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    if args.compare is not None:
        print(comparison(*args.compare))
        return 0
    if args.task is None:
        if args.data is None:
            raise ConfigError(
                "what is to be evaluated? Give --task (a simulated one), --data (recordings) or "
                "--compare (two results)"
            )
        from wm_planner.cli.eval_recorded import run_recorded

        return run_recorded(args)
    from wm_planner.evaluation.job import run_job
    from wm_planner.evaluation.record import TARGETS, Record
    from wm_planner.evaluation.result import Result
    from wm_planner.files import write_json, write_text
    from wm_planner.tasks import get_task

    task = get_task(args.task)
    check_numbers(args, episodes=1, batch_size=1, processes=1, ahead=1, max_steps=1)
    check_writable("--json", args.json)
    check_film(args.film)
    if args.targets is not None and not args.targets.exists():
        check_writable("--targets", args.targets)
    job, bundle = make_job(args)
    record = None
    if args.output is not None:
        from wm_planner.provenance import provenance

        record = Record(args.output, job, provenance())
    targets = find_targets(args, job)
    if record is not None:
        targets.save(args.output / TARGETS)
    from tqdm import tqdm

    total = job.num_periods(targets)
    with cluster_of(args) as cluster, tqdm(total=total, desc="eval", unit="period") as bar:
        evaluation = run_job(job, targets, record, args.processes, bundle, bar.update, cluster)
    result = Result.of(job, args.seed, targets, evaluation)
    if args.json is not None:
        write_json(args.json, result.to_json())
    if args.output is not None:
        write_json(args.output / "result.json", result.to_json())
        write_text(args.output / "result.md", result_table(result))
    print(table(result, task.distance_unit), flush=True)
    if args.film is not None:  # last: a result is not lost with it
        from wm_planner.cli.eval_film import film_first

        film_first(args.film, job, targets, bundle)
    return 0


def make_job(args: argparse.Namespace) -> tuple[Job, Bundle]:
    """The evaluation that the command line asks for, and its checkpoint.

    Raises:
        WmPlannerError: the checkpoint, or an argument, cannot be used.
    """
    from wm_planner.evaluation.episode import Loop
    from wm_planner.evaluation.job import Job, default_batch
    from wm_planner.models import checkpoint
    from wm_planner.models.catalog import CARD, checksum, read_card, resolve_checkpoint
    from wm_planner.tasks.shifts import parse_shifts

    shifts = parse_shifts(args.shifts)
    latency = args.latency
    with suppress(ValueError):  # a word, which Loop knows or not
        latency = float(latency) if latency is not None else None
    try:
        loop = Loop(args.mode, latency, shifts.delayed_frames, args.max_steps)
    except ValueError as error:
        option = "--max-steps" if str(error).startswith("max_steps") else "--latency"
        raise ConfigError(f"{option}: {error}") from error
    bundle = checkpoint.load_bundle(args.checkpoint, args.device, args.task)
    config = planner_settings(bundle.planner, args)
    batch_size = args.batch_size or default_batch(config, loop)
    if latency == "measured" and batch_size > 1:
        raise ConfigError(f"--latency measured needs --batch-size 1, got {batch_size}")
    job = Job(
        task=args.task,
        checkpoint=str(args.checkpoint),
        weights_sha256=checksum(read_card(resolve_checkpoint(args.checkpoint, args.task) / CARD)),
        image_size=bundle.preprocess.image_size,
        planner=config,
        loop=loop,
        shifts=shifts,
        batch_size=batch_size,
        device=args.device,
        threads=args.threads,
    )
    return job, bundle


def planner_settings(recommended: dict[str, Any], args: argparse.Namespace) -> PlannerConfig:
    """Settings of the checkpoint, changed by the command line.

    Raises:
        ConfigError: --planner, --horizon or --set cannot be used; the message names which was
            given.
    """
    from wm_planner.config import suggest
    from wm_planner.planning import SOLVERS, planner_config

    if args.planner not in SOLVERS:
        raise ConfigError(f"unknown planner '{args.planner}'.{suggest(args.planner, SOLVERS)}")
    base = {**recommended, "solver": args.planner, "seed": args.seed}
    changes, given = list(args.settings), ["--set"] if args.settings else []
    if args.horizon is not None:
        changes.insert(0, f"horizon={args.horizon}")
        given.insert(0, "--horizon")
    return planner_config(base, changes, " and ".join(given) or f"checkpoint {args.checkpoint}")


def comparison(file_a: Path, file_b: Path) -> str:
    """Two results, pair by pair, for people.

    Raises:
        ConfigError: a file is no result, or the two are of different targets.
    """
    from wm_planner.evaluation.result import compare, read_result

    c = compare(read_result(file_a), read_result(file_b))
    ends = interval(c.difference_low, c.difference_high)
    rows = [
        ("A", f"{percent(c.rate_a)}  {file_a}"),
        ("B", f"{percent(c.rate_b)}  {file_b}"),
        ("A - B", f"{percent(c.difference)}  (95 % interval {ends})"),
        ("solved by one", f"A alone {c.only_a}, B alone {c.only_b}"),
        ("McNemar's test", f"p = {c.p_value:.3g}  (exact, two-sided)"),
        ("time, A to B", f"{c.time_ratio:.3g} times the seconds per plan (p50)"),
    ]
    if (ratio := c.episode_time_ratio) is not None:
        rows.append(("", f"{ratio:.3g} times the seconds of planning per episode"))
    return "\n".join(listing(rows))


def table(r: Result, distance_unit: str) -> str:
    """The result for people."""
    p50, p99 = 1000 * r.plan_seconds_p50, 1000 * r.plan_seconds_p99
    rows = [
        ("success", reached(r.successes, r.episodes)),
        ("plan p50, p99", f"{p50:.0f} ms, {p99:.0f} ms  (batch of {r.batch_size})"),
        ("rollouts per plan", f"{r.plan_evaluations:.0f}"),
        ("model calls", f"{r.model_calls:.0f} per episode"),
        ("memory", f"{r.memory_mib:.0f} MiB at most"),
        ("distance left", f"median {r.distance_median:.3g} {distance_unit}"),
    ]
    if r.distance_mean is not None:
        ends = f"{r.distance_low:.3g} to {r.distance_high:.3g}"
        mean = f"mean {r.distance_mean:.3g} (95 % interval {ends}), {r.distance_start:.3g} at start"
        rows.append(("", mean))
    if r.dropped:
        rows.insert(1, ("dropped", f"{r.dropped} targets that start solved"))
    return "\n".join([f"{r.task} {r.checkpoint} {r.planner} {r.mode}", *listing(rows)])
