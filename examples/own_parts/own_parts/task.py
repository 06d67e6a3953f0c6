"""A simulated task: a dot that moves by its action, on a plate of 32 by 32."""

import contextlib
import copy

import gymnasium
import numpy as np

from sim_bridge.envs.base import TaskEnv
from sim_bridge.experts import hold
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.tasks import Task
from wm_planner.tasks.task import xy_distance

DOT = Task(
    embodiment=Embodiment(
        name="dot",
        control_dt_s=0.1,
        frame_skip=2,
        action=ActionSpace(("x", "y"), (-1.0, -1.0), (1.0, 1.0), unit="pixels per period"),
        proprio=("x/position", "y/position"),
        cameras=(Camera("front", 32),),
    ),
    env_id="own_parts/Dot-v0",
    state_names=("x", "y"),
    max_model_steps=10,
    distance=xy_distance,
    is_success=lambda state, goal: xy_distance(state, goal) < 4,
    distance_unit="pixels",
)


class DotEnv(TaskEnv):
    """State and proprioception are the dot's place."""

    task = DOT

    def get_state(self):
        return self.place.copy()

    def proprio_of(self, state):
        return np.asarray(state, np.float32)

    def aside(self):
        return contextlib.nullcontext(copy.copy(self))

    def render(self):
        ys, xs = np.mgrid[: self.image_size, : self.image_size] * 32 / self.image_size
        near = np.hypot(xs - self.place[0], ys - self.place[1]) < 4
        return np.where(near[..., None], (255, 0, 0), 255).astype(np.uint8)

    def expert(self, rng):
        def draw(_state):
            action = rng.uniform(-1, 1, 2)
            return lambda _: action

        return hold(rng, 2, 8, draw)

    def _put(self, state):
        self.place = np.array(state)

    def _run(self, action):
        self.place = np.clip(self.place + action, 4, 28)

    def _draw_state(self, rng):
        return rng.uniform(4, 28, 2)

    def _draw_target(self, rng):
        return self._draw_state(rng), self._draw_state(rng)


gymnasium.register(DOT.env_id, "own_parts.task:DotEnv")
