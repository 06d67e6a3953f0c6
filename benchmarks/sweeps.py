"""`python -m benchmarks.sweeps`: what the thresholds of rope and granular were derived from.

A goal counts as reached below what one usual sweep changes, rounded to 5 mm. That must be above
what the same sweep changes when it is repeated, and sweeps that the simulator itself chooses must
arrive there.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy as np

from sim_bridge.envs.sweep import SEEN
from wm_planner.evaluation.stats import wilson_interval
from wm_planner.tasks import get_task

STEPS = 5  # sweeps of an episode that is explored: later ones find everything at the rim
OFF_M = 0.001  # by which a repeated start differs, in every entry that is a length
TOUCHED_M = 1e-4  # Chamfer distance from which on a sweep has touched something
CANDIDATES = 24  # sweeps that are tried out before each one that is chosen
LIMITS_M = (0.020, 0.025, 0.030, 0.035)  # thresholds that might have been chosen


def changes(env: Any, episodes: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """What sweeps of the exploration policy change, and what they change when repeated, m.

    Returns:
        Chamfer distances before to after, of the sweeps that touch something; those between the
        results of such a sweep and of the same one from places that are off by `OFF_M`; the share
        of the sweeps that touch something.
    """
    changed, repeated, count = [], [], 0
    for episode in range(episodes):
        rng = np.random.default_rng([seed, episode])
        env.set_state(env.sample_state(rng))
        policy = env.explore(rng)
        for _ in range(STEPS):
            before = env.get_state()
            action = policy(before)
            env.advance(action)
            after = env.get_state()
            count += 1
            if env.task.distance(before, after) < TOUCHED_M:
                continue
            changed.append(env.task.distance(before, after))
            off = before[: -len(SEEN)].reshape(-1, env.stride).copy()
            off[:, :2] += rng.normal(0.0, OFF_M, (len(off), 2))
            env.set_state(env.state_of(off))
            env.advance(action)
            repeated.append(env.task.distance(after, env.get_state()))
            env.set_state(after)
    return np.array(changed), np.array(repeated), len(changed) / count


def greedy(env: Any, targets: int, seed: int) -> np.ndarray:
    """(targets, sweeps + 1) Chamfer distances to go, m, of the best of `CANDIDATES` each time.

    The simulator itself tries them out, so this is what a perfect model that looks one sweep ahead
    would reach.
    """
    rows = []
    for number in range(targets):
        rng = np.random.default_rng([seed, number])
        state, goal = env.sample_target(rng)
        policy, row = env.explore(rng), [env.task.distance(state, goal)]
        for _ in range(env.task.max_model_steps):
            tried = [state]
            for _ in range(CANDIDATES):
                env.set_state(state)
                env.advance(policy(state))
                tried.append(env.get_state())
            state = min(tried, key=lambda reached: env.task.distance(reached, goal))
            row.append(env.task.distance(state, goal))
        rows.append(row)
    return np.array(rows)


def quartiles(values: np.ndarray) -> str:
    """Median and quartiles, in mm."""
    low, middle, high = 1000 * np.percentile(values, [25, 50, 75])
    return f"median {middle:.1f} mm, quartiles {low:.1f} to {high:.1f} mm"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=["rope", "granular"])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in args.tasks:
        env: Any = gymnasium.make(get_task(name).env_id, render=False).unwrapped
        changed, repeated, share = changes(env, args.episodes, args.seed)
        print(f"{name}: {share:.0%} of {STEPS * args.episodes} sweeps touch something")
        print(f"  one of those changes      {quartiles(changed)}")
        print(f"  repeated, {1000 * OFF_M:.0f} mm off        {quartiles(repeated)}")
        to_go = greedy(env, args.targets, args.seed)
        for sweeps in (0, 1, 5, to_go.shape[1] - 1):
            print(f"  to go after {sweeps:2d} sweeps     {quartiles(to_go[:, sweeps])}")
        for limit in LIMITS_M:
            solved = int((to_go[:, -1] < limit).sum())
            low, high = wilson_interval(solved, args.targets)
            rate = f"{solved} of {args.targets} (95 % interval {low:.2f} to {high:.2f})"
            print(f"  within {1000 * limit:.0f} mm              {rate}", flush=True)


if __name__ == "__main__":
    main()
