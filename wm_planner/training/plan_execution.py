"""Whole plans executed in simulators side by side; environments come in as an argument."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

Executed = dict[str, np.ndarray]


class PlanExecution(gymnasium.Env):
    """One step is a whole plan: put the robot into a state, take all actions, see every frame.

    Args:
        make_env: makes the environment of one raw action per step.
        num_steps: model steps of a plan.
        image_size: of the pictures, pixels.
    """

    def __init__(self, make_env: Callable[[bool], Any], num_steps: int, image_size: int) -> None:
        self._env = make_env(True)
        task, body = self._env.task, self._env.task.embodiment
        self._frame_skip = body.frame_skip
        frames, size = num_steps + 1, image_size
        self.action_space = Dict(
            start=Box(-np.inf, np.inf, (len(task.state_names),), np.float64),
            actions=Box(-np.inf, np.inf, (num_steps * body.frame_skip, body.action.size)),
        )
        self._seen: dict[str, Box] = {
            "images": Box(0, 255, (frames, size, size, 3), np.uint8),
            "proprio": Box(-np.inf, np.inf, (frames, len(body.proprio))),
            "states": Box(-np.inf, np.inf, (frames, len(task.state_names)), np.float64),
        }
        self.observation_space = Dict(self._seen)  # type: ignore[arg-type]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Executed, dict[str, Any]]:
        """Nothing to see before a plan: zeros."""
        super().reset(seed=seed)
        return {key: np.zeros(s.shape, s.dtype) for key, s in self._seen.items()}, {}

    def step(self, action: Executed) -> tuple[Executed, float, bool, bool, dict[str, Any]]:
        """Execute 'actions' (H * frame_skip, a) from the state 'start' (S,).

        Returns:
            'images', 'proprio' and 'states' of H + 1 frames, the start first.
        """
        env = self._env
        env.set_state(action["start"])
        states = [env.get_state()]
        for number, raw in enumerate(action["actions"], start=1):
            env.advance(raw)
            if number % self._frame_skip == 0:
                states.append(env.get_state())
        executed = {
            "images": np.stack([env.render_state(state) for state in states]),
            "proprio": np.stack([env.proprio_of(state) for state in states]),
            "states": np.stack(states),
        }
        return executed, 0.0, False, False, {}

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class Simulators:
    """Environments side by side, opened when first used.

    Args:
        make_env: called in every worker; must be picklable by cloudpickle if there are several.
        num_steps, image_size: see `PlanExecution`.
        workers: 1 simulates in this process, more each in its own.
    """

    def __init__(
        self, make_env: Callable[[bool], Any], num_steps: int, image_size: int, workers: int = 1
    ):
        self._make = partial(PlanExecution, make_env, num_steps, image_size)
        self._workers = workers
        self._envs: Any = None

    def run(self, starts: np.ndarray, actions: np.ndarray) -> Executed:
        """Execute (n, H * frame_skip, a) plans from (n, S) states; (n, H + 1, ...) each."""
        if self._envs is None:
            self._envs = self._open()
        done: list[Executed] = []
        for first in range(0, len(starts), self._workers):
            rows = np.arange(first, first + self._workers) % len(starts)  # the last may be short
            observed = self._envs.step({"start": starts[rows], "actions": actions[rows]})[0]
            done.append({key: value.copy() for key, value in observed.items()})
        return {key: np.concatenate([d[key] for d in done])[: len(starts)] for key in done[0]}

    def close(self) -> None:
        """End the workers."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None

    def _open(self) -> Any:
        fns = [self._make] * self._workers
        if self._workers == 1:
            envs: Any = gymnasium.vector.SyncVectorEnv(fns)
        else:  # a forked renderer or thread pool does not work
            envs = gymnasium.vector.AsyncVectorEnv(fns, context="spawn")
        envs.reset()
        return envs
