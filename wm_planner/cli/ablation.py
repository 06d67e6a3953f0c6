"""`wm-planner ablation`: ways to train, side by side over seeds, from one file."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wm_planner.cli.options import add_option, add_table_options, check_threads, cluster_of
from wm_planner.cli.parser import path, whole
from wm_planner.errors import ConfigError
from wm_planner.evaluation.table import ablation_table, error_table
from wm_planner.files import write_json, write_text

if TYPE_CHECKING:
    from wm_planner.cli.ablation_run import AblationRun
    from wm_planner.evaluation.ablation import Ablation
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
    from wm_planner.cli.ablation_run import AblationRun
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
    stages = AblationRun(ablation, recipe, args.data, args.output, args.threads)
    for name in names:
        _check(args, stages, name)
    with cluster_of(args) as cluster:
        if collects and not args.data.exists():
            _collect(args, recipe)
        if cluster is not None:
            stages.on(cluster, names)
    results: dict[tuple[str, str], list[Any]] = {}
    kinds = (*ablation.modes, *([MODEL_ERROR] if ablation.model_error_runs else []))
    for seed in ablation.seeds:
        for name in names:
            for kind, result in zip(kinds, stages.results(name, seed), strict=True):
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
    from wm_planner.cli.ablation_run import run_command

    sizes = [f"--{key.replace('_', '-')}={value}" for key, value in recipe["collect"].items()]
    args.data.parent.mkdir(parents=True, exist_ok=True)
    on = [] if args.ray is None else ["--ray", args.ray]
    run_command(["collect", "--task", recipe["task"], *sizes, *on, "--output", str(args.data)])


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


def _check(args: argparse.Namespace, stages: AblationRun, name: str) -> None:
    """Raises:
    ConfigError: a command of the row would refuse a setting, after hours of others.
    """
    from wm_planner.training.finetune import check_method

    where = f"{args.config}: rows: {name}"
    ablation, row = stages.ablation, stages.ablation.row(name)
    last = stages.training(name, ablation.seeds[0])[-1]
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
