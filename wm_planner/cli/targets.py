"""Which targets `wm-planner eval` runs: from a file, or drawn as the command line says."""

from __future__ import annotations

import argparse
import logging
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_planner.cli.parser import path, whole
from wm_planner.errors import ConfigError
from wm_planner.yaml_text import parse_yaml

if TYPE_CHECKING:
    from wm_planner.evaluation.job import Job
    from wm_planner.evaluation.target import Targets

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what the targets are."""
    parser.add_argument(
        "--targets", type=path, help="file of targets: read when it exists, else written"
    )
    parser.add_argument(
        "--goals",
        choices=("random", "explored", "dataset", "image"),
        default="random",
        help="random states (default); where exploration gets in --ahead raw actions; a data set's "
        "state HORIZON model steps after the start; or one image, which is all that the planner is "
        "shown",
    )
    parser.add_argument(
        "--ahead", type=whole, metavar="N", help="for --goals explored: raw actions to the goal"
    )
    parser.add_argument(
        "--data",
        type=path,
        help="without --task: recordings to evaluate on, a directory of 'dataset build'; with "
        "--goals dataset: a data set with states",
    )
    parser.add_argument("--goal-image", type=path, metavar="FILE", help="for --goals image")
    parser.add_argument(
        "--goal-state",
        metavar="[X, Y, ...]",
        help="full state that the goal image shows, for the test of success",
    )


def find_targets(args: argparse.Namespace, job: Job) -> Targets:
    """The file's targets, without those that start solved; or new ones, written to the file.

    Raises:
        WmPlannerError: the file, data set or image cannot be used, or not in the job's layout.
    """
    if args.targets is not None and args.targets.exists():
        if args.goals != "random":
            logger.info(
                "--targets %s exists: its targets are taken, --goals %s is not looked at",
                args.targets,
                args.goals,
            )
        targets = _read(args)
        _check_free(targets, job, f"--targets {args.targets}")
        return targets
    _check_goals(args)
    targets = _draw(args, job)
    if args.goals in ("dataset", "image"):  # the others were drawn where there is room
        source = {"dataset": ("data", args.data), "image": ("goal-state", args.goal_state)}
        _check_free(targets, job, "--{} {}".format(*source[args.goals]))
    if args.targets is not None:
        targets.save(args.targets)
    return targets


def _read(args: argparse.Namespace) -> Targets:
    from wm_planner.evaluation.target import Targets

    targets = Targets.load(args.targets, args.task)
    if len(targets) < args.episodes:
        raise ConfigError(
            f"--targets {args.targets}: holds {len(targets)} targets, "
            f"--episodes asks for {args.episodes}"
        )
    kept = targets.part(slice(args.episodes)).without_solved()
    if len(kept) < args.episodes:
        left_out = args.episodes - len(kept)
        logger.warning("%s: %d of the targets start solved: dropped", args.targets, left_out)
    if not len(kept):
        raise ConfigError(f"--targets {args.targets}: every target starts solved")
    return kept


def _draw(args: argparse.Namespace, job: Job) -> Targets:
    from wm_planner.evaluation import target

    if args.goals == "dataset":
        from wm_planner.data.layouts import open_dataset

        dataset = open_dataset(args.data)
        horizon = job.planner.horizon
        return target.dataset_targets(dataset, args.task, horizon, args.seed, args.episodes)
    if args.goals == "image":
        image, state = _read_image(args.goal_image), _read_state(args.goal_state)
    # The first environment must draw: MuJoCo chooses its GL library only once.
    with closing(job.make_env(disturbed=False)(True)) as env:
        if args.goals == "random":
            return target.sample_targets(env, args.seed, args.episodes)
        if args.goals == "explored":
            return target.explored_targets(env, args.ahead, args.seed, args.episodes)
        return target.image_targets(env, image, state, args.seed, args.episodes)


def _check_free(targets: Targets, job: Job, source: str) -> None:
    """What somebody wrote, or was drawn in another layout, can lie where nothing can be."""
    with closing(job.make_env(disturbed=False)(True)) as env:  # see `_draw`
        blocked = [
            [state for state in pair if not (env.is_possible(state) and env.is_free(state))]
            for pair in zip(targets.starts, targets.goals, strict=True)
        ]
    found = [states[0] for states in blocked if states]
    if not found:
        return
    where, way_out = "something solid", "give others, or let --goals random draw them"
    if layout := job.shifts.layout():
        where = f"walls or obstacle of {layout}"
        way_out = "let this --shift draw them: --goals random, to a new --targets"
    raise ConfigError(
        f"{source}: {len(found)} of {len(targets)} targets lie in {where}, or outside the scene, "
        f"the first at {found[0].tolist()}; {way_out}"
    )


def _read_image(file: Path) -> Any:
    import imageio.v3 as imageio
    from PIL.Image import DecompressionBombError

    from wm_planner.data.goal_file import MOST_BYTES
    from wm_planner.files import read_bytes

    content = read_bytes(file, MOST_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a picture that is too large to be one
            return imageio.imread(content, mode="RGB", plugin="pillow")
    except (OSError, ValueError, SyntaxError, EOFError, Warning, DecompressionBombError) as error:
        said = str(error).partition("\n")[0]
        raise ConfigError(f"--goal-image {file}: no readable image: {said}") from error


def _read_state(text: str) -> np.ndarray:
    try:
        state = np.array(parse_yaml(text), np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"--goal-state {text}: expected a list of numbers") from error
    if state.ndim != 1 or not np.isfinite(state).all():
        raise ConfigError(f"--goal-state {text}: expected a list of finite numbers")
    return state


def _check_goals(args: argparse.Namespace) -> None:
    needs = {"explored": ("ahead",), "dataset": ("data",), "image": ("goal_image", "goal_state")}
    for goals, names in needs.items():
        for name in names:
            given, option = getattr(args, name) is not None, f"--{name.replace('_', '-')}"
            if given != (args.goals == goals):
                how = "is for" if given else "is needed by"
                raise ConfigError(f"{option} {how} --goals {goals}")
