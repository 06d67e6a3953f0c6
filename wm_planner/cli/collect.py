"""`wm-planner collect`: exploration trajectories of a simulated task, as a training store."""

from __future__ import annotations

import argparse
import functools
import logging
import multiprocessing

import numpy as np

from wm_planner.cli.options import add_options, check_least
from wm_planner.cli.parser import whole
from wm_planner.errors import ConfigError

logger = logging.getLogger(__name__)

_ENVS: dict = {}  # one environment per worker process


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("collect", help="collect exploration trajectories")
    add_options(parser, "--task", "--seed", "--output")
    parser.add_argument("--num-trajectories", type=whole, required=True)
    parser.add_argument("--steps", type=whole, default=20, help="model steps each (default 20)")
    parser.add_argument("--image-size", type=whole, help="pixels (default: the task's)")
    parser.add_argument("--workers", type=whole, default=2, help="processes (default 2)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Collect; the result depends on the seed, not on the number of workers."""
    from tqdm import tqdm

    from wm_planner.data.store import write_store
    from wm_planner.provenance import command_line
    from wm_planner.tasks import get_task, resized

    task = get_task(args.task)
    check_least(args, num_trajectories=1, steps=1, workers=1)
    if args.output.exists():
        raise ConfigError(f"--output {args.output}: exists already; choose another directory")
    if args.image_size is None:
        args.image_size = task.embodiment.image_size
    job = functools.partial(
        collect_trajectory, args.task, steps=args.steps, size=args.image_size, seed=args.seed
    )
    meta = {
        "embodiment": resized(task.embodiment, args.image_size).to_json(),
        "seed": args.seed,
        "command": command_line(),
    }
    context = multiprocessing.get_context("spawn")
    with context.Pool(args.workers) as pool:
        trajectories = pool.imap(job, range(args.num_trajectories), chunksize=4)
        bar = tqdm(trajectories, total=args.num_trajectories, desc="collect", unit="trajectory")
        store = write_store(args.output, args.num_trajectories, bar, meta)
    logger.info("%s: %s frames", args.output, store.images.shape[:2])
    return 0


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
