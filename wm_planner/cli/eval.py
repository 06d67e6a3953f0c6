"""`wm-planner eval`: success and planning time of a checkpoint and a planner, without ROS."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_planner.errors import ConfigError

if TYPE_CHECKING:
    from wm_planner.evaluation.episodes import Evaluation
    from wm_planner.evaluation.problems import Problems
    from wm_planner.planning import PlannerConfig

MAX_ROLLOUTS = 512  # candidates that are rolled out together, unless --batch-size says otherwise


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("eval", help="evaluate a checkpoint and a planner without ROS")
    parser.add_argument("--task", required=True, help="wall, point_maze or pusht")
    parser.add_argument(
        "--checkpoint", default="base", help="variant (default base), shipped name, or directory"
    )
    parser.add_argument(
        "--planner", default="gbp", help="gbp (default), cem, mppi, gradient-cem or lbfgs"
    )
    parser.add_argument(
        "--mode",
        choices=("open-loop", "mpc"),
        default="mpc",
        help="mpc (default) replans; open-loop executes one plan to its end",
    )
    parser.add_argument("--episodes", type=int, default=50, help="default 50")
    parser.add_argument("--seed", type=int, default=0, help="of the problems and of the planner")
    parser.add_argument("--horizon", type=int, help="model steps planned ahead")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="planner setting, for example horizon=6; may be repeated",
    )
    parser.add_argument(
        "--targets", type=Path, help="file of problems: read when it exists, else written"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        help="episodes planned together (default: what fits); seconds per plan are those of a "
        "planning call divided by its episodes, so 1 measures latency",
    )
    parser.add_argument("--device", default="cpu", help="torch device: cpu (default) or cuda")
    parser.add_argument("--json", type=Path, help="file for the result as one JSON object")
    parser.add_argument(
        "--output", type=Path, help="directory for result, settings, problems and every episode"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print one table.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    import gymnasium

    from wm_planner.evaluation.summary import summarise
    from wm_planner.models.checkpoint import load_bundle
    from wm_planner.planning import Planner
    from wm_planner.tasks import get_task

    task = get_task(args.task)
    _check(args)
    bundle = load_bundle(args.checkpoint, args.device, task.name)
    planner = Planner(bundle, planner_settings(bundle.planner, args))
    image_size = bundle.preprocess.image_size

    def make_env(render: bool) -> Any:
        name = f"sim_bridge:{task.env_id}"
        return gymnasium.make(name, image_size=image_size, render=render).unwrapped

    problems = _problems(args, make_env)
    batch_size = args.batch_size or max(1, MAX_ROLLOUTS // candidates(planner.config))
    evaluation = _evaluate(planner, make_env, problems, args.mode, batch_size)
    result = {
        "task": task.name,
        "checkpoint": str(args.checkpoint),
        "planner": planner.config.solver,
        "mode": args.mode,
        "seed": args.seed,
        **summarise(evaluation),
        "horizon": planner.config.horizon,
        "batch_size": min(batch_size, len(problems)),
    }
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if args.output is not None:
        _write_output(args, planner.config, problems, evaluation, result)
    print(table(result, task.distance_unit))
    return 0


def planner_settings(recommended: dict[str, Any], args: argparse.Namespace) -> PlannerConfig:
    """Settings of the checkpoint, changed by the command line.

    Raises:
        ConfigError: --planner, --horizon or --set cannot be used.
    """
    from wm_planner.config import suggest
    from wm_planner.planning import SOLVERS, planner_config

    if args.planner not in SOLVERS:
        raise ConfigError(f"unknown planner '{args.planner}'.{suggest(args.planner, SOLVERS)}")
    base = {**recommended, "solver": args.planner, "seed": args.seed}
    changes = list(args.settings)
    if args.horizon is not None:
        changes.insert(0, f"horizon={args.horizon}")
    return planner_config(base, changes, "--set")


def candidates(config: PlannerConfig) -> int:
    """Action sequences that the solver rolls out together for each problem."""
    return config.num_restarts if config.solver in ("gbp", "lbfgs") else config.num_samples


def table(result: dict[str, Any], distance_unit: str) -> str:
    """The result for people."""
    p50, p99 = (1000 * result[f"plan_seconds_{p}"] for p in ("p50", "p99"))
    interval = f"95 % interval {result['interval_low']:.2f} to {result['interval_high']:.2f}"
    rows = [
        ("success", f"{result['successes']}/{result['episodes']}  ({interval})"),
        ("plan p50, p99", f"{p50:.0f} ms, {p99:.0f} ms  (batch of {result['batch_size']})"),
        ("rollouts per plan", f"{result['plan_evaluations']:.0f}"),
        ("distance left", f"median {result['distance_median']:.3g} {distance_unit}"),
    ]
    title = " ".join(str(result[key]) for key in ("task", "checkpoint", "planner", "mode"))
    return "\n".join([title, *(f"  {name:<18}{value}" for name, value in rows)])


def _check(args: argparse.Namespace) -> None:
    for name, least in (("episodes", 1), ("seed", 0), ("batch_size", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    for name in ("json", "targets"):
        file = getattr(args, name)
        if file is not None and not file.resolve().parent.is_dir():
            raise ConfigError(f"--{name} {file}: no directory {file.resolve().parent}")
    if args.output is not None and args.output.exists():
        raise ConfigError(f"--output {args.output}: exists already; choose another directory")


def _problems(args: argparse.Namespace, make_env: Any) -> Problems:
    from wm_planner.evaluation.problems import Problems, sample_problems

    if args.targets is not None and args.targets.exists():
        problems = Problems.load(args.targets, args.task)
        if len(problems) < args.episodes:
            raise ConfigError(
                f"--targets {args.targets}: holds {len(problems)} problems, "
                f"--episodes asks for {args.episodes}"
            )
        starts, goals = problems.starts[: args.episodes], problems.goals[: args.episodes]
        return Problems(args.task, starts, goals)
    env = make_env(True)  # the first one must draw: MuJoCo chooses its GL library only once
    problems = sample_problems(env, args.seed, args.episodes)
    env.close()
    if args.targets is not None:
        problems.save(args.targets)
    return problems


def _evaluate(
    planner: Any, make_env: Any, problems: Problems, mode: str, batch_size: int
) -> Evaluation:
    from tqdm import tqdm

    from wm_planner.evaluation.episodes import evaluate

    steps = planner.task.max_model_steps if mode == "mpc" else planner.config.horizon
    with tqdm(total=steps * len(problems), desc="eval", unit="step") as bar:
        return evaluate(planner, make_env, problems, mode, batch_size, bar.update)


def _write_output(
    args: argparse.Namespace,
    config: PlannerConfig,
    problems: Problems,
    evaluation: Evaluation,
    result: dict[str, Any],
) -> None:
    args.output.mkdir(parents=True)
    problems.save(args.output / "targets.npz")
    command = "wm-planner " + " ".join(sys.argv[1:])
    files = {
        "result": result,
        "config": {"command": command, "planner": asdict(config)},
        "episodes": [asdict(episode) for episode in evaluation.episodes],
    }
    for name, content in files.items():
        (args.output / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
