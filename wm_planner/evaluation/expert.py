"""What a task's scripted expert does: trajectories with known actions, to compare plans with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_planner.errors import TaskError
from wm_planner.evaluation.goals import MAX_DRAWS


@dataclass(frozen=True)
class ExpertRuns:
    """N runs of H model steps; the goal of each is where it ended.

    Attributes:
        states: (N, H + 1, S) full states, one per model step.
        actions: (N, H * frame_skip, a) raw actions between them.
    """

    states: np.ndarray
    actions: np.ndarray


def expert_runs(env: Any, seed: int, count: int, horizon: int) -> ExpertRuns:
    """Run i is drawn from (seed, i); one that ends where it started is drawn again.

    Raises:
        TaskError: the expert hardly ever leaves the start.
    """
    states, actions = [], []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        for _ in range(MAX_DRAWS):
            start, driven = _drive(env, rng, horizon)
            passed = execute(env, start, driven)
            if not env.task.is_success(passed[0], passed[-1]):
                break
        else:
            raise TaskError(
                f"all {MAX_DRAWS} runs of the expert of task '{env.task.name}' end where they "
                f"start; take a longer horizon than {horizon}"
            )
        states.append(passed)
        actions.append(driven)
    return ExpertRuns(np.array(states), np.array(actions))


def execute(env: Any, start: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """(H + 1, S) states at the model steps of raw actions (H * frame_skip, a) from `start`."""
    env.set_state(start)
    states = [env.get_state()]
    for period, action in enumerate(actions, start=1):
        env.advance(action)
        if period % env.task.embodiment.frame_skip == 0:
            states.append(env.get_state())
    return np.array(states)


def _drive(env: Any, rng: np.random.Generator, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    start = env.sample_state(rng)
    policy, actions = env.expert(rng), []
    env.set_state(start)
    for _ in range(horizon * env.task.embodiment.frame_skip):
        actions.append(
            np.clip(
                policy(env.get_state()),
                env.task.embodiment.action.low,
                env.task.embodiment.action.high,
            )
        )
        env.advance(actions[-1])
    return start, np.array(actions)
