"""`wm-planner import`: a released DINO-WM checkpoint becomes one of ours."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from wm_planner.cli.options import add_option
from wm_planner.cli.parser import path
from wm_planner.config import from_dict, from_yaml, read_yaml
from wm_planner.errors import ConfigError

if TYPE_CHECKING:
    from wm_planner.models.reference_sizes import Variant
    from wm_planner.tasks import Task


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of one raw action and of proprioception, physical units."""

    action_mean: tuple[float, ...]
    action_std: tuple[float, ...]
    proprio_mean: tuple[float, ...]
    proprio_std: tuple[float, ...]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("import", help="convert a released checkpoint")
    parser.add_argument("path", type=path, help=".pth file, or directory of a released run")
    add_option(parser, "--output", help="checkpoint directory to write")
    parser.add_argument("--task", help="wall, point_maze or pusht (default: what hydra.yaml says)")
    parser.add_argument(
        "--config", type=path, help="its hydra.yaml (default: beside the file or one level above)"
    )
    parser.add_argument(
        "--encoder",
        default="official",
        metavar="FILE",
        help="DINOv2 weights, .pth or .safetensors (default: the official ones, downloaded once)",
    )
    parser.add_argument(
        "--encoder-variant",
        metavar="s|b|l|DIM,DEPTH,HEADS",
        help="sizes of the DINOv2 (default: by hydra.yaml, or by the size of a token)",
    )
    parser.add_argument(
        "--statistics",
        type=path,
        metavar="PATH",
        help="normalisation: the data set it was trained on, or a YAML file with action_mean, "
        "action_std, proprio_mean, proprio_std (default for pusht: the published constants)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert, and write what was mapped, dropped and missing as YAML to stdout.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    from wm_planner.models.checkpoint import save_bundle
    from wm_planner.models.reference import find_config, find_task, import_released, locate

    file = locate(args.path)
    config_file = args.config or find_config(file)
    config = {} if config_file is None else read_yaml(config_file)
    source = f"{file} (no hydra.yaml; see --config)" if config_file is None else str(config_file)
    task = find_task(config, args.task, source)
    statistics, origin = _statistics(args.statistics, task, config)
    variant = _variant(args.encoder_variant)
    bundle, report = import_released(
        file, task, asdict(statistics), config, source, args.encoder, variant
    )
    bundle.info["statistics"] = origin
    save_bundle(bundle, args.output)
    description = {
        "checkpoint": str(args.output),
        "imported_from": str(file),
        "config": None if config_file is None else str(config_file),
        "task": task.name,
        "statistics": origin,
        **asdict(report),
    }
    description["named_and_not_called"] = description.pop("inert")
    yaml.safe_dump(description, sys.stdout, sort_keys=False, default_flow_style=None, width=100)
    return 0


def _statistics(path: Path | None, task: Task, config: Mapping[str, Any]) -> tuple[Statistics, str]:
    """The statistics, and in words where they come from."""
    from wm_planner.models.reference_sizes import value_at

    if path is not None and not path.is_dir():
        return from_yaml(Statistics, path), path.name
    if value_at(config, "env.dataset.normalize_action") is False:
        action, proprio = task.embodiment.action.size, len(task.embodiment.proprio)
        plain = ((0.0,) * action, (1.0,) * action, (0.0,) * proprio, (1.0,) * proprio)
        return Statistics(*plain), "none: trained with normalize_action False"
    if path is not None:
        from wm_planner.data.layouts import open_dataset

        limit = value_at(config, "env.dataset.n_rollout")
        dataset = open_dataset(path, limit)
        if dataset.name != task.name:
            raise ConfigError(
                f"--statistics {path}: holds '{dataset.name}', the checkpoint is for '{task.name}'"
            )
        return _of(dataset.stats()), f"{path.name}: {dataset.stats_rule}"
    from wm_planner.data.dino_wm import PushT

    if task.name != PushT.task:
        raise ConfigError(
            f"no constants were published for task '{task.name}': its statistics are those of the "
            "training data. Give --statistics, the data set's directory or a YAML file"
        )
    return _of(PushT.CONSTANTS), PushT.stats_rule


def _of(stats: Mapping[str, tuple[float, ...]]) -> Statistics:
    wanted = {name: stats[name] for name in Statistics.__dataclass_fields__ if name in stats}
    return from_dict(Statistics, wanted, "statistics")


def _variant(text: str | None) -> Variant | None:
    if text is None or "," not in text:
        return text
    try:
        dim, depth, heads = (int(number) for number in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--encoder-variant {text}: expected s, b, l or DIM,DEPTH,HEADS"
        ) from error
    return dim, depth, heads
