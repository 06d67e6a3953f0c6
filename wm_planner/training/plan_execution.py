"""Whole plans executed in simulators side by side; environments come in as an argument."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

Executed = dict[str, np.ndarray]
_opened: list[Any] = []  # the environment of a worker


def execute(env: Any, start: np.ndarray, actions: np.ndarray) -> Executed:
    """Put the robot into the state `start` (S,), take all (H * frame_skip, a) raw actions.

    Returns:
        'images' uint8, 'proprio' float32 and 'states' float64 of H + 1 frames, the start first.
    """
    env.set_state(start)
    states = [env.get_state()]
    for number, raw in enumerate(actions, start=1):
        env.advance(raw)
        if number % env.task.embodiment.frame_skip == 0:
            states.append(env.get_state())
    return {
        "images": np.stack([env.render_state(state) for state in states]),
        "proprio": np.stack([env.proprio_of(state) for state in states]).astype(np.float32),
        "states": np.stack(states).astype(np.float64),
    }


class Simulators:
    """Environments side by side, opened when first used.

    Args:
        make_env: called in every worker; must be picklable if there are several.
        workers: 1 simulates in this process, more each in its own.
    """

    def __init__(self, make_env: Callable[[bool], Any], workers: int = 1) -> None:
        self._make_env, self._workers = make_env, workers
        self._env: Any = None
        self._pool: ProcessPoolExecutor | None = None

    def run(self, starts: np.ndarray, actions: np.ndarray) -> Executed:
        """Execute (n, H * frame_skip, a) plans from (n, S) states; (n, H + 1, ...) each."""
        if self._workers == 1:
            self._env = self._env or self._make_env(True)
            done = [execute(self._env, *plan) for plan in zip(starts, actions, strict=True)]
        else:
            if self._pool is None:
                # A forked renderer or thread pool does not work.
                spawn = get_context("spawn")
                self._pool = ProcessPoolExecutor(self._workers, spawn, _open, (self._make_env,))
            done = list(self._pool.map(_execute_there, starts, actions))
        return {key: np.stack([each[key] for each in done]) for key in done[0]}

    def close(self) -> None:
        """Close the environment, or end the workers."""
        if self._env is not None:
            self._env.close()
        if self._pool is not None:
            self._pool.shutdown()
        self._env = self._pool = None


def _open(make_env: Callable[[bool], Any]) -> None:
    _opened.append(make_env(True))


def _execute_there(start: np.ndarray, actions: np.ndarray) -> Executed:
    return execute(_opened[0], start, actions)
