"""Where problems come from: random states, a data set's futures, or one goal image.

Problem i is drawn from (seed, i): a longer set begins with the shorter one. A pair that starts
solved is drawn again from the same generator, and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wm_planner.data.dataset import Dataset
from wm_planner.errors import DatasetError, TaskError
from wm_planner.evaluation.problems import Problems
from wm_planner.tasks import get_task

MAX_DRAWS = 100  # of one problem
Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def sample_problems(env: Any, seed: int, count: int) -> Problems:
    """Random start and goal states, as the task's environment draws them.

    The simulator's bridge draws the same ones.

    Raises:
        TaskError: nearly all pairs start solved.
    """
    return _draw(env.task.name, env.sample_problem, seed, count)


def image_problems(
    env: Any, image: np.ndarray, goal_state: np.ndarray, seed: int, count: int
) -> Problems:
    """Random starts towards one picture, the only thing that the planner is told of its goal.

    Args:
        env: environment of the task.
        image: (H, W, 3) uint8.
        goal_state: (S,) what the picture shows, for the test of success.
        seed, count: see the module.

    Raises:
        TaskError: the state does not fit the task, or nearly all starts lie at the goal.
    """
    env.set_state(goal_state)
    goal = env.get_state()
    problems = _draw(env.task.name, lambda rng: (env.sample_problem(rng)[0], goal), seed, count)
    images = np.repeat(image[None], count, axis=0)
    return Problems(env.task.name, problems.starts, problems.goals, images, problems.dropped)


def dataset_problems(dataset: Dataset, task: str, horizon: int, seed: int, count: int) -> Problems:
    """Start and goal `horizon` model steps apart on a stored trajectory: goals known reachable.

    Raises:
        DatasetError: the data are of another task, hold no states or such as are not finite, are
            too short, or nearly all pairs start solved.
    """
    spec = get_task(task)
    if dataset.name != task:
        raise DatasetError(f"{dataset.path}: holds '{dataset.name}', not task '{task}'")
    states = dataset.states(0)
    size = len(spec.state_names)
    if states is None or states.shape[1] != size:
        got = "none" if states is None else f"{states.shape[1]} entries"
        raise DatasetError(
            f"{dataset.path}: goals need full simulator states of {size} entries, it has {got}; "
            "take data of 'wm-planner collect'"
        )
    windows = dataset.windows(1, horizon, spec.embodiment.frame_skip)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        trajectory, start = windows.locate(int(rng.integers(len(windows))))
        along = dataset.states(trajectory)
        assert along is not None
        return along[start], along[start + horizon * windows.stride]

    try:
        return _draw(task, draw, seed, count)
    except (TaskError, ValueError) as error:  # the latter: states that are no numbers
        raise DatasetError(f"{dataset.path}: {error}") from error


def _draw(task: str, draw: Draw, seed: int, count: int) -> Problems:
    spec, pairs, dropped = get_task(task), [], 0
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        for _ in range(MAX_DRAWS):
            start, goal = draw(rng)
            if not spec.is_success(start, goal):
                break
            dropped += 1
        else:
            raise TaskError(
                f"all {MAX_DRAWS} draws of problem {i} start solved; choose goals further away"
            )
        pairs.append((start, goal))
    starts, goals = (np.array(states, np.float64) for states in zip(*pairs, strict=True))
    return Problems(task, starts, goals, dropped=dropped)
