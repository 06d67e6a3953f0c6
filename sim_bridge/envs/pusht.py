"""PushT: a round pusher moves a T-shaped block."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from sim_bridge.envs.base import TaskEnv, simulated_task
from sim_bridge.envs.planar import PlanarEnv, slide_action, slide_proprio
from sim_bridge.experts import CENTRE, Policy, push_anyhow, push_calmly, random_offset, rotate
from wm_planner.tasks.task import wrapped_angle

REACHED = 20.0  # workspace units from the goal
UNITS = 100.0  # workspace units per metre, and per unit action
BLOCK, PUSHER = slice(0, 3), slice(3, 5)


def pusht_distance(state: np.ndarray, goal: np.ndarray) -> float:
    """Joint distance of pusher and block position, as in the published success test."""
    return float(np.linalg.norm(np.asarray(state)[:4] - np.asarray(goal)[:4]))


def pusht_success(state: np.ndarray, goal: np.ndarray) -> bool:
    """The published success test: near in position, and turned by less than 20 degrees."""
    turned = abs(wrapped_angle(float(state[4]) - float(goal[4])))
    return pusht_distance(state, goal) < REACHED and turned < np.pi / 9


PUSHT = simulated_task(
    "pusht",
    "PushT",
    slide_action("hundred workspace units of displacement of the pusher's target"),
    slide_proprio("workspace unit", "unit/s"),
    image_size=96,
    state_names=("x", "y", "block_x", "block_y", "block_angle_rad", "vx", "vy"),
    distance=pusht_distance,
    is_success=pusht_success,
    distance_unit="workspace units",
    layout=("obstacle",),
    things={"pusher": ("x", "y"), "block": ("block_x", "block_y", "block_angle_rad")},
    angles=("block_angle_rad",),
    metres=1 / UNITS,
    action_step=40.0,  # of the 100 to the target, what the servo reaches in a control period
)


class PushTTask(TaskEnv):
    """Pusher and block, whoever simulates them.

    State: pusher x, y; block x, y, angle; pusher velocity. Proprioception: the pusher's part.
    An action moves the target of the pusher's position servo by 100 units per unit action,
    relative to where the pusher is. The block moves only while it is pushed.
    """

    @abstractmethod
    def contacts(self) -> list[tuple[str, str]]:
        """Names of the bodies that touch, pair by pair."""

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """x, y, vx, vy of the pusher, workspace units (per second)."""
        return np.asarray([state[0], state[1], state[5], state[6]], dtype=np.float32)

    def expert(self, rng: np.random.Generator) -> Policy:
        """Calm pushes."""
        return push_calmly(rng)

    def explore(self, rng: np.random.Generator) -> Policy:
        """Calm pushes, or pushes at any speed and jitter."""
        return push_anyhow(rng)

    def _draw_state(self, rng: np.random.Generator) -> np.ndarray:
        """Pusher and block anywhere, not touching, everything at rest."""
        with self.aside() as world:
            while True:
                angle = rng.uniform(0, 2 * np.pi)
                block = rng.uniform(110, 400, 2)
                pusher = rng.uniform(50, 460, 2)
                if rng.random() < 0.5:
                    # Half of the starts are close to the block, where there is something to learn.
                    near = block + rotate(CENTRE, angle) + random_offset(rng, 60, 130)
                    pusher = np.clip(near, 30, 480)
                state = np.array([*pusher, *block, angle, 0.0, 0.0])
                world.set_state(state)
                if not world.contacts():
                    return state

    def _draw_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The goal is where the expert took the block; it must have moved, and not too little."""

        def is_worth(start: np.ndarray, goal: np.ndarray) -> bool:
            moved = np.linalg.norm(goal[2:4] - start[2:4])
            turned = abs(wrapped_angle(goal[4] - start[4]))
            far = moved >= 10.0 or turned >= np.deg2rad(10)
            return bool(far) and not self.task.is_success(start, goal)

        return self._drive_to_goal(rng, is_worth)


class PushTEnv(PlanarEnv, PushTTask):
    """Pusher and block in this package's simulator."""

    task = PUSHT
    obstacle_radius, obstacle_gap = 0.25, 1.0
    reached = REACHED / UNITS

    def get_state(self) -> np.ndarray:
        """x, y, block_x, block_y, block_angle in [0, 2 pi), vx, vy; workspace units."""
        angle = float(self.data.qpos[2]) % (2 * np.pi)
        block = self.data.qpos[0:2] * UNITS - rotate(CENTRE, angle)
        pusher = self.data.qpos[PUSHER] * UNITS
        return np.array([*pusher, *block, angle, *(self.data.qvel[PUSHER] * UNITS)])

    def aim_of(self, goal: np.ndarray) -> np.ndarray:
        """Where the block's origin, the middle of its bar, lies in the goal."""
        return np.asarray(goal)[2:4] / UNITS

    def _write_state(self, state: np.ndarray) -> None:
        centre = state[2:4] + rotate(CENTRE, state[4])
        self.data.qpos[BLOCK] = [*(centre / UNITS), state[4]]
        self.data.qpos[PUSHER] = state[0:2] / UNITS
        self.data.qvel[PUSHER] = state[5:7] / UNITS
        self.data.ctrl[:] = self.data.qpos[PUSHER]

    def _drive(self, action: np.ndarray) -> None:
        self.data.ctrl[:] = self.data.qpos[PUSHER] + action
