"""Whole plans executed in simulators side by side; simulators come in as an argument."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol

import numpy as np

Executed = dict[str, np.ndarray]
_opened: list[Simulator] = []  # the simulator of a worker


class Simulator(Protocol):
    """What executes plans. The services of any simulator fit behind it."""

    def reset(self, state: np.ndarray) -> np.ndarray:
        """Put the robot into a state (S,) float64; the state that it is in then."""

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Take the raw actions (frame_skip, a) of a model step; the state after them, (S,)."""

    def look(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Picture (S, C * S, 3) uint8 and proprioception (P,) of a state that was returned."""

    def close(self) -> None:
        """Free what it holds."""


class EnvSimulator:
    """A task's environment as a simulator.

    Args:
        env: see `evaluation.episode.Env`.
    """

    def __init__(self, env: Any) -> None:
        self.env = env

    def reset(self, state: np.ndarray) -> np.ndarray:
        """See `Simulator`."""
        self.env.set_state(state)
        return np.asarray(self.env.get_state())

    def step(self, actions: np.ndarray) -> np.ndarray:
        """See `Simulator`."""
        for raw in actions:
            self.env.advance(raw)
        return np.asarray(self.env.get_state())

    def look(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Simulator`."""
        return self.env.render_state(state), self.env.proprio_of(state)

    def close(self) -> None:
        """See `Simulator`."""
        self.env.close()


@dataclass(frozen=True)
class EnvSimulatorMaker:
    """Makes the simulator of an environment that `make_env` makes."""

    make_env: Callable[[bool], Any]

    def __call__(self) -> Simulator:
        return EnvSimulator(self.make_env(True))


def execute(simulator: Simulator, start: np.ndarray, plan: np.ndarray) -> Executed:
    """Put the robot into the state `start` (S,), take the plan (H, frame_skip, a) of raw actions.

    Returns:
        'images' uint8, 'proprio' float32 and 'states' float64 of H + 1 frames, the start first.
    """
    states = [simulator.reset(start)]
    states += [simulator.step(actions) for actions in plan]
    images, proprio = zip(*(simulator.look(state) for state in states), strict=True)
    return {
        "images": np.stack(images),
        "proprio": np.stack(proprio).astype(np.float32),
        "states": np.stack(states).astype(np.float64),
    }


class Simulators:
    """Simulators side by side, opened when first used.

    Args:
        make: called in every worker; must be picklable if there are several.
        frame_skip: raw actions of a model step.
        workers: 1 simulates in this process, more each in its own.
    """

    def __init__(self, make: Callable[[], Simulator], frame_skip: int, workers: int = 1) -> None:
        self._make, self._frame_skip, self._workers = make, frame_skip, workers
        self._simulator: Simulator | None = None
        self._pool: ProcessPoolExecutor | None = None

    def run(self, starts: np.ndarray, actions: np.ndarray) -> Executed:
        """Execute (n, H * frame_skip, a) plans from (n, S) states; (n, H + 1, ...) each."""
        plans = actions.reshape(len(actions), -1, self._frame_skip, actions.shape[-1])
        if self._workers == 1:
            self._simulator = self._simulator or self._make()
            done = [execute(self._simulator, *plan) for plan in zip(starts, plans, strict=True)]
        else:
            if self._pool is None:
                # A forked renderer or thread pool does not work.
                spawn = get_context("spawn")
                self._pool = ProcessPoolExecutor(self._workers, spawn, _open, (self._make,))
            done = list(self._pool.map(_execute_there, starts, plans))
        return {key: np.stack([each[key] for each in done]) for key in done[0]}

    def close(self) -> None:
        """Close the simulator, or end the workers."""
        if self._simulator is not None:
            self._simulator.close()
        if self._pool is not None:
            self._pool.shutdown()
        self._simulator = self._pool = None


def _open(make: Callable[[], Simulator]) -> None:
    _opened.append(make())


def _execute_there(start: np.ndarray, plan: np.ndarray) -> Executed:
    return execute(_opened[0], start, plan)
