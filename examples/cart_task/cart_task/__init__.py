"""A simulated task in a package of its own: a cart on a rail, driven by its velocity."""

from __future__ import annotations

import gymnasium
import numpy as np

from sim_bridge.envs.scene import SceneEnv
from sim_bridge.experts import Policy, hold
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.tasks import Task


def distance(state: np.ndarray, goal: np.ndarray) -> float:
    """Between two places of the cart, m."""
    return abs(float(state[0]) - float(goal[0]))


CART = Task(
    embodiment=Embodiment(
        name="cart",
        control_dt_s=0.1,
        frame_skip=5,
        action=ActionSpace(names=("cart",), low=(-1.0,), high=(1.0,), unit="m/s"),
        proprio=("cart/position",),
        proprio_units=("m",),
        cameras=(Camera("side", 96),),
    ),
    env_id="cart_task/Cart-v0",
    state_names=("x",),
    max_model_steps=8,
    distance=distance,
    is_success=lambda state, goal: distance(state, goal) < 0.05,
    distance_unit="m",
)


class CartEnv(SceneEnv):
    """State and proprioception: where the cart is, m."""

    task = CART
    camera = "side"

    def get_state(self) -> np.ndarray:
        """x, m."""
        return self.data.qpos.copy()

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """x, m."""
        return np.asarray(state, np.float32)

    def expert(self, rng: np.random.Generator) -> Policy:
        """Stretches of random velocity."""

        def draw(_state: np.ndarray) -> Policy:
            velocity = rng.uniform(-1, 1, 1)
            return lambda _: velocity

        return hold(rng, 3, 12, draw)

    def _write_state(self, state: np.ndarray) -> None:
        self.data.qpos[:] = state

    def _run(self, action: np.ndarray) -> None:
        self.data.ctrl[:] = action
        self._mujoco.mj_step(self.model, self.data, 10)
        self._mujoco.mj_forward(self.model, self.data)

    def _draw_state(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-0.75, 0.75, 1)

    def _draw_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self._draw_state(rng), self._draw_state(rng)


gymnasium.register(CART.env_id, "cart_task:CartEnv")
