"""`wm-planner collect`: exploration trajectories of a simulated task, as a training store."""

from __future__ import annotations

import argparse
import itertools
import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_planner.cli.options import add_options, check_least, cluster_of
from wm_planner.cli.parser import whole

if TYPE_CHECKING:
    from wm_planner.cluster import Cluster

logger = logging.getLogger(__name__)

PART = 4  # trajectories that a process collects at a time
_ENVS: dict = {}  # one environment per worker process


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("collect", help="collect exploration trajectories")
    add_options(parser, "--task", "--seed", "--output")
    parser.add_argument("--num-trajectories", type=whole, required=True)
    parser.add_argument("--steps", type=whole, default=20, help="model steps each (default 20)")
    parser.add_argument("--image-size", type=whole, help="pixels (default: the task's)")
    parser.add_argument("--workers", type=whole, default=2, help="processes (default 2)")
    add_options(parser, "--ray")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Collect what is missing; the result depends on the seed, not on who collects."""
    from tqdm import tqdm

    from wm_planner.data.begun_store import BegunStore
    from wm_planner.provenance import command_line
    from wm_planner.tasks import get_task, resized

    task = get_task(args.task)
    check_least(args, num_trajectories=1, steps=1, workers=1)
    if args.image_size is None:
        args.image_size = task.embodiment.image_size
    meta = {
        "embodiment": resized(task.embodiment, args.image_size).to_json(),
        "seed": args.seed,
        "steps": args.steps,
        "command": command_line(),
    }
    begun = BegunStore(args.output, args.num_trajectories, meta)
    if begun.written:
        told = "%s: %d of %d trajectories are there already; going on with the others"
        logger.info(told, args.output, begun.written, args.num_trajectories)
    parts = [
        (args.task, range(first, min(first + PART, args.num_trajectories)))
        + (args.steps, args.image_size, args.seed)
        for first in range(begun.written, args.num_trajectories, PART)
    ]
    with cluster_of(args) as cluster, _results(cluster, parts, args.workers) as results:
        bar = tqdm(
            itertools.chain.from_iterable(results),
            initial=begun.written,
            total=args.num_trajectories,
            desc="collect",
            unit="trajectory",
        )
        store = begun.write(bar)
    logger.info("%s: %s frames", args.output, store.images.shape[:2])
    return 0


@contextmanager
def _results(
    cluster: Cluster | None, parts: list[tuple[Any, ...]], workers: int
) -> Iterator[Iterator[list[dict[str, np.ndarray]]]]:
    """What `collect_part` makes of each part, in their order."""
    if cluster is not None:
        yield (result for _, result in cluster.run(collect_part, parts, in_order=True))
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield pool.imap(_collect_part, parts)


def _collect_part(arguments: tuple[Any, ...]) -> list[dict[str, np.ndarray]]:
    return collect_part(*arguments)


def collect_part(
    task: str, numbers: range, steps: int, size: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """Trajectories of some numbers, see `collect_trajectory`."""
    return [collect_trajectory(task, number, steps, size, seed) for number in numbers]


def collect_trajectory(
    task: str, index: int, steps: int, size: int, seed: int
) -> dict[str, np.ndarray]:
    """One trajectory of the task's exploration policy from a random state.

    Returns:
        images (T+1, S, S, 3), proprio (T+1, P), actions (T, f*a), states (T+1, S).
    """
    import gymnasium

    from wm_planner.tasks import get_task

    spec = get_task(task)
    if (task, size) not in _ENVS:
        made = gymnasium.make(spec.env_id, image_size=size)
        _ENVS[task, size] = made.unwrapped
    env = _ENVS[task, size]
    rng = np.random.default_rng([seed, index])
    env.set_state(env.sample_state(rng))
    policy = env.explore(rng)
    frames, actions = [env.observe()], []
    for _ in range(steps):
        taken = []
        for _ in range(spec.embodiment.frame_skip):
            action = policy(env.get_state())
            env.advance(action)
            taken.append(action)
        actions.append(np.concatenate(taken))
        frames.append(env.observe())
    return {
        "images": np.stack([frame["image"] for frame in frames]),
        "proprio": np.stack([frame["proprio"] for frame in frames]),
        "states": np.stack([frame["state"] for frame in frames]),
        "actions": np.stack(actions).astype(np.float32),
    }
