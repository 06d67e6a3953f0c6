"""`python -m benchmarks.physics`: do re-made tasks end where the originals do?

Same start, same actions of the exploration policy, one episode of 25 raw actions. A run agrees when
the task's own test of success would take one end for the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wm_planner.evaluation.episode import EnvMaker
from wm_planner.evaluation.stats import wilson_interval
from wm_planner.evaluation.table import interval, markdown
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import Shifts

ACTIONS = 25  # raw ones, as long as the published segments
Map = Callable[[np.ndarray], np.ndarray]


def same(values: np.ndarray) -> np.ndarray:
    """Both worlds have the same coordinates."""
    return values


def maze_turned(state: np.ndarray) -> np.ndarray:
    """PointMaze's state in Gymnasium-Robotics' maze: about its middle, turned by a quarter."""
    x, y, vx, vy = state
    return np.array([y - 1.8, 1.8 - x, vy, -vx])


def turned(action: np.ndarray) -> np.ndarray:
    """A force of PointMaze there."""
    return np.array([action[1], -action[0]])


# (re-made task, original, state and action of the former in the latter)
PAIRS: tuple[tuple[str, str, Map, Map], ...] = (
    ("pusht", "gym_pusht", same, same),
    ("pusht_published", "gym_pusht", same, same),
    ("point_maze", "gym_point_maze", maze_turned, turned),
    ("point_maze_published", "gym_point_maze", maze_turned, turned),
)


@dataclass(frozen=True)
class Agreement:
    """Of R runs.

    Attributes:
        agree: (R,) whether the ends pass for each other.
        apart: (R,) the task's distance of the two ends.
    """

    agree: np.ndarray
    apart: np.ndarray


def agreement(task: str, original: str, state: Map, action: Map, runs: int, seed: int) -> Agreement:
    """Run both worlds; run i is drawn from (seed, i)."""
    remade, real = (EnvMaker(name, 64, Shifts())(False) for name in (task, original))
    spec, agree, apart = get_task(task), [], []
    for i in range(runs):
        rng = np.random.default_rng([seed, i])
        start = remade.sample_state(rng)
        policy = remade.explore(rng)
        remade.set_state(start)
        real.set_state(state(start))
        for _ in range(ACTIONS):
            taken = np.asarray(policy(remade.get_state()))
            remade.advance(taken)
            real.advance(action(taken))
        ends = state(remade.get_state()), real.get_state()
        agree.append(spec.is_success(*ends))
        apart.append(spec.distance(*ends))
    for env in (remade, real):
        env.close()
    return Agreement(np.array(agree), np.array(apart))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = []
    for task, original, *maps in PAIRS:
        found = agreement(task, original, *maps, args.runs, args.seed)
        count = int(found.agree.sum())
        limits = interval(*wilson_interval(count, args.runs))
        unit = get_task(task).distance_unit
        median, far = np.quantile(found.apart, (0.5, 0.9))
        rows.append(
            (task, original, f"{count}/{args.runs}", limits, f"{median:.2g}, {far:.2g} {unit}")
        )
    print(markdown("task | original | agree | 95 % interval | apart: median, 90 %", rows))


if __name__ == "__main__":
    main()
