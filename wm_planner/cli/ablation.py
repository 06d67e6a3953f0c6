"""`wm-planner ablation`: ways to train, side by side over seeds, from one file."""

from __future__ import annotations

import argparse
import logging
import shlex
import socket
import subprocess
import sys
from collections.abc import Hashable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from wm_planner.cli.options import add_option, add_table_options, check_threads, cluster_of
from wm_planner.cli.parser import path, whole
from wm_planner.end_with_parent import with_parent
from wm_planner.errors import ConfigError
from wm_planner.evaluation.table import ablation_table, error_table
from wm_planner.files import write_json, write_text

if TYPE_CHECKING:
    from wm_planner.cluster import Cluster
    from wm_planner.evaluation.ablation import Ablation, Stage
    from wm_planner.training.recipe import Recipe

logger = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "ablation", help="train and evaluate a recipe's variants over seeds into one table"
    )
    add_table_options(parser, "ablation", "every run", "next to no training, two episodes")
    parser.add_argument(
        "--data",
        type=path,
        help="directory of 'collect' (default: collected below OUTPUT, as the recipe says)",
    )
    one = "only this one; may be repeated"
    parser.add_argument("--row", action="append", help=one)
    parser.add_argument("--seed", action="append", type=whole, help=one)
    add_option(parser, "--threads", default=2)
    add_option(
        parser,
        "--ray",
        help="train and evaluate on the Ray cluster there: auto (this machine's) or HOST:PORT; its "
        "machines share the working directory and OUTPUT (docs/scale.md)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run what is missing; print the table.

    Raises:
        WmPlannerError: the file cannot be used, or a command failed.
    """
    from wm_planner.config import to_dict
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.evaluation.ablation import MODEL_ERROR, collected_name, pooled_error
    from wm_planner.evaluation.result import pooled
    from wm_planner.provenance import provenance

    ablation, recipe = _read(args)
    if ablation.model_error_runs:
        import wm_planner.cli.figures  # noqa: F401 - what it needs is missed now, not after hours
    wanted = set(args.row or ablation.rows)
    while not wanted.issuperset(references := {ablation.reference_of(name) for name in wanted}):
        wanted |= references
    names = [name for name in ablation.rows if name in wanted]
    collects = args.data is None
    if collects:
        args.data = args.output / collected_name(recipe)
    else:
        TrajectoryStore.open(args.data)
    for name in names:
        _check(args, ablation, name, recipe)
    with cluster_of(args) as cluster:
        if collects and not args.data.exists():
            _collect(args, recipe)
        if cluster is not None:
            _run_on(cluster, args, ablation, names, recipe)
    results: dict[tuple[str, str], list[Any]] = {}
    kinds = (*ablation.modes, *([MODEL_ERROR] if ablation.model_error_runs else []))
    for seed in ablation.seeds:
        for name in names:
            for kind, result in zip(kinds, _one(args, ablation, name, seed, recipe), strict=True):
                results.setdefault((name, kind), []).append(result)
    rows = [
        pooled(name, mode, reference, results[name, mode], results[reference, mode])
        for mode in ablation.modes
        for name, reference in ((name, ablation.reference_of(name)) for name in names)
    ]
    errors = []
    if ablation.model_error_runs:
        errors = [pooled_error(name, results[name, MODEL_ERROR]) for name in names]
    table = ablation_table(rows) + ("\n" + error_table(errors) if errors else "")
    content = {"ablation": ablation, "recipe": recipe, "rows": rows, "model_error": errors}
    write_json(args.output / "ablation.json", {**provenance(), **to_dict(content)})
    write_text(args.output / "ablation.md", table)
    print(table, end="")
    return 0


def _collect(args: argparse.Namespace, recipe: dict) -> None:
    """Collect the recipe's data, on the cluster where one is named."""
    sizes = [f"--{key.replace('_', '-')}={value}" for key, value in recipe["collect"].items()]
    args.data.parent.mkdir(parents=True, exist_ok=True)
    on = [] if args.ray is None else ["--ray", args.ray]
    _command(["collect", "--task", recipe["task"], *sizes, *on, "--output", str(args.data)])


def _read(args: argparse.Namespace) -> tuple[Ablation, dict]:
    """What to compare, and the recipe; both changed by the command line.

    Raises:
        ConfigError: a file or an option cannot be used.
    """
    from wm_planner.config import from_yaml, read_yaml, suggest
    from wm_planner.evaluation.ablation import Ablation, merged

    check_threads(args.threads)
    ablation = from_yaml(Ablation, args.config)
    file = args.config.parent / ablation.recipe
    recipe = read_yaml(file)
    _understood(recipe, str(file))
    if args.quick:
        recipe = merged(recipe, ablation.quick)
        _understood(recipe, f"{args.config}: quick")
        runs = min(2, ablation.model_error_runs)
        ablation = replace(ablation, episodes=2, seeds=ablation.seeds[:1], model_error_runs=runs)
    if args.seed:
        try:
            ablation = replace(ablation, seeds=tuple(args.seed))
        except ValueError as error:
            raise ConfigError(f"--seed: {error}") from error
    for name in args.row or ():
        if name not in ablation.rows:
            raise ConfigError(f"--row {name}: not in {args.config}.{suggest(name, ablation.rows)}")
    return ablation, recipe


def _check(args: argparse.Namespace, ablation: Ablation, name: str, recipe: dict) -> None:
    """Raises:
    ConfigError: a command of the row would refuse a setting, after hours of others.
    """
    from wm_planner.training.finetune import check_method

    where = f"{args.config}: rows: {name}"
    row = ablation.row(name)
    last = _training(args, ablation, name, ablation.seeds[0], recipe)[-1]
    known = _understood(last.recipe or {}, where, ablation.planner_changes(name))
    if row.finetune is not None:
        try:
            check_method(row.finetune["method"], known.finetune)
        except ConfigError as error:
            raise ConfigError(f"{where}: finetune: {error}") from error


def _understood(recipe: dict, source: str, changes: Iterable[str] = ()) -> Recipe:
    """A recipe whose planner settings, with the changes, `wm-planner eval` takes.

    Raises:
        ConfigError: something is not understood.
    """
    from wm_planner.config import from_dict
    from wm_planner.planning import planner_config
    from wm_planner.training.recipe import Recipe

    known = from_dict(Recipe, recipe, source)
    base = {**known.planner, "solver": "gbp"}  # eval's own, whatever the checkpoint recommends
    planner_config(base, changes, f"{source}: planner")
    return known


def _training(
    args: argparse.Namespace, ablation: Ablation, name: str, seed: int, recipe: dict
) -> list[Stage]:
    from wm_planner.evaluation.ablation import training_stages

    return list(training_stages(ablation.row(name), recipe, seed, args.data, args.output))


def _stages(
    args: argparse.Namespace, ablation: Ablation, name: str, seed: int, recipe: dict
) -> tuple[list[Stage], list[Stage]]:
    """Those that train a row, one after the other, and those that evaluate what came of it."""
    from wm_planner.evaluation.ablation import evaluation_stages

    training = _training(args, ablation, name, seed, recipe)
    checkpoint = training[-1].done
    evaluating = evaluation_stages(ablation, name, seed, recipe["task"], checkpoint, args.output)
    return training, list(evaluating)


def _one(
    args: argparse.Namespace, ablation: Ablation, name: str, seed: int, recipe: dict
) -> list[Any]:
    """Of a row and seed: a `Result` of each mode, then the model's error."""
    from wm_planner.evaluation.ablation import read_error
    from wm_planner.evaluation.result import read_result

    training, evaluating = _stages(args, ablation, name, seed, recipe)
    for stage in training:
        _run(stage, _more(stage, args.threads), f"{name}, seed {seed}")
    results = []
    for stage in evaluating:
        _run(stage, [], f"{name}, seed {seed}")
        read = read_result if stage.arguments[0] == "eval" else read_error
        results.append(read(stage.done))
    return results


def _run_on(
    cluster: Cluster, args: argparse.Namespace, ablation: Ablation, names: list[str], recipe: dict
) -> None:
    """Run all that is missing on a cluster: a task for each stage, after the one that it needs.

    Rows that share a stage wait for the same task.
    """
    from wm_planner.cluster import Task

    tasks: dict[Hashable, Task] = {}
    what: dict[Hashable, str] = {}
    here = Path.cwd()
    for seed in ablation.seeds:
        for name in names:
            before: tuple[Hashable, ...] = ()
            training, evaluating = _stages(args, ablation, name, seed, recipe)
            for stage in (*training, *evaluating):
                trains = stage in training
                if not stage.done.exists():
                    more = _more(stage, args.threads) if trains else []
                    tasks.setdefault(stage.output, Task((stage, more, here), before))
                    what.setdefault(stage.output, f"{name}, seed {seed}: {stage.output.name}")
                if trains and not stage.done.exists():
                    before = (stage.output,)
    for number, key in enumerate(cluster.run_graph(run_stage, tasks, args.threads), start=1):
        logger.info("%s: finished, %d of %d", what[key], number, len(tasks))


def run_stage(stage: Stage, more: list[str], directory: Path) -> None:
    """A stage on a machine of a cluster; what it prints goes into OUTPUT.log.

    Args:
        stage: see `Stage`; its paths are those of the machine that the ablation was started on.
        more: further arguments.
        directory: where the ablation was started.

    Raises:
        ConfigError: the directory is not there, or the command failed.
    """
    machine = socket.gethostname()
    if not directory.is_dir():
        raise ConfigError(
            f"{directory} is not there on machine {machine} of the cluster: start the ablation in "
            "a directory that all machines share"
        )
    log = directory / stage.output.with_name(stage.output.name + ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    if stage.recipe is not None:
        write_text(directory / stage.recipe_file, yaml.safe_dump(stage.recipe, sort_keys=False))
    command = [*stage.arguments, *more]
    with log.open("ab") as stream:
        code = subprocess.run(
            # Two at once would write into one directory: Ray runs a task again whose process dies.
            with_parent([sys.executable, "-m", "wm_planner.cli.main", *command]),
            cwd=directory,
            stdout=stream,
            stderr=stream,
            check=False,
        ).returncode
    if code:
        raise ConfigError(
            f"'{shlex.join(['wm-planner', *command])}' failed on machine {machine} with exit code "
            f"{code}; see {log}, mend what it says and run the same command again"
        )


def _more(stage: Stage, threads: int) -> list[str]:
    """What a training stage is told beside its own arguments."""
    return ["--resume", "--threads", str(threads), "--recipe", str(stage.recipe_file)]


def _run(stage: Stage, more: list[str], what: str) -> None:
    if stage.done.exists():
        return
    stage.output.parent.mkdir(parents=True, exist_ok=True)
    if stage.recipe is not None:
        write_text(stage.recipe_file, yaml.safe_dump(stage.recipe, sort_keys=False))
    logger.info("%s: %s", what, shlex.join(["wm-planner", *stage.arguments, *more]))
    _command([*stage.arguments, *more])


def _command(arguments: list[str]) -> None:
    """A process of its own: nothing of one run lingers in the next."""
    # Its table would be taken for this command's result.
    code = subprocess.run(
        [sys.executable, "-m", "wm_planner.cli.main", *arguments], stdout=sys.stderr, check=False
    ).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise ConfigError(
            f"'{shlex.join(['wm-planner', *arguments])}' failed with exit code {code}; mend what "
            "it says and run the same command again, which goes on from there"
        )
