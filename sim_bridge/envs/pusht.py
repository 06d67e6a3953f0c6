"""PushT: a round pusher moves a T-shaped block."""

from __future__ import annotations

import numpy as np

from sim_bridge.envs.base import PlanarEnv, Policy
from wm_planner.tasks.spec import wrapped_angle

UNITS = 100.0  # workspace units per metre, and per unit action
CENTRE = np.array([0.0, 45.0])  # centre of gravity in the block's frame, workspace units
BLOCK, PUSHER = slice(0, 3), slice(3, 5)


class PushTEnv(PlanarEnv):
    """State: pusher x, y; block x, y, angle; pusher velocity. Proprioception: the pusher's part.

    An action moves the target of the pusher's position servo by 100 units per unit action,
    relative to where the pusher is. The block moves only while it is pushed.
    """

    task_name = "pusht"

    def get_state(self) -> np.ndarray:
        """x, y, block_x, block_y, block_angle in [0, 2 pi), vx, vy; workspace units."""
        angle = float(self.data.qpos[2]) % (2 * np.pi)
        block = self.data.qpos[0:2] * UNITS - _rotate(CENTRE, angle)
        pusher = self.data.qpos[PUSHER] * UNITS
        return np.array([*pusher, *block, angle, *(self.data.qvel[PUSHER] * UNITS)])

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """x, y, vx, vy of the pusher, workspace units (per second)."""
        return np.asarray([state[0], state[1], state[5], state[6]], dtype=np.float32)

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """Pusher and block anywhere, not touching, everything at rest."""
        present = self._snapshot()
        while True:
            angle = rng.uniform(0, 2 * np.pi)
            block = rng.uniform(110, 400, 2)
            pusher = rng.uniform(50, 460, 2)
            if rng.random() < 0.5:
                # Half of the starts are close to the block, where there is something to learn.
                around = rng.uniform(0, 2 * np.pi)
                reach = rng.uniform(60, 130) * np.array([np.cos(around), np.sin(around)])
                pusher = np.clip(block + _rotate(CENTRE, angle) + reach, 30, 480)
            state = np.array([*pusher, *block, angle, 0.0, 0.0])
            self.set_state(state)
            if self.data.ncon == 0:
                self._restore(present)
                return state

    def sample_problem(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The goal is where the exploration policy took the block in 25 raw actions.

        Goals for which the block hardly moves are drawn again: they test nothing.
        """
        present = self._snapshot()
        while True:
            start = self.sample_state(rng)
            self.set_state(start)
            policy = self.expert(rng)
            for _ in range(25):
                self.advance(policy(self.get_state()))
            goal = self.get_state()
            moved = np.linalg.norm(goal[2:4] - start[2:4])
            turned = abs(wrapped_angle(goal[4] - start[4]))
            if (moved >= 10.0 or turned >= np.deg2rad(10)) and not self.task.is_success(
                start, goal
            ):
                self._restore(present)
                return start, goal

    def expert(self, rng: np.random.Generator) -> Policy:
        """Calm pushes: three quarters of the stretches head through the block near its centre."""
        return self._hold(rng, 4, 14, lambda state: self._push(rng, rng.uniform(0.1, 0.4), 0.03))

    def explore(self, rng: np.random.Generator) -> Policy:
        """Half of the episodes are the expert's; the others push at any speed and jitter.

        A planner is free in every single action. A model that has only seen smooth pushes is
        wrong about the jerky ones, and a gradient finds that out.
        """
        if rng.random() < 0.5:
            return self.expert(rng)

        def draw(state: np.ndarray) -> Policy:
            return self._push(rng, rng.uniform(0.05, 0.7), 10 ** rng.uniform(-1.5, -0.5))

        return self._hold(rng, 2, 10, draw)

    def _push(self, rng: np.random.Generator, speed: float, jitter: float) -> Policy:
        if rng.random() < 0.75:
            offset = rng.normal(0.0, 30.0, 2)

            def push(now: np.ndarray) -> np.ndarray:
                target = now[2:4] + _rotate(CENTRE, now[4]) + offset
                return speed * _unit(target - now[:2]) + rng.normal(0.0, jitter, 2)

            return push
        heading = rng.uniform(0, 2 * np.pi)
        direction = speed * np.array([np.cos(heading), np.sin(heading)])
        return lambda now: direction + rng.normal(0.0, jitter, 2)

    def _write_state(self, state: np.ndarray) -> None:
        centre = state[2:4] + _rotate(CENTRE, state[4])
        self.data.qpos[BLOCK] = [*(centre / UNITS), state[4]]
        self.data.qpos[PUSHER] = state[0:2] / UNITS
        self.data.qvel[PUSHER] = state[5:7] / UNITS
        self.data.ctrl[:] = self.data.qpos[PUSHER]

    def _drive(self, action: np.ndarray) -> None:
        self.data.ctrl[:] = self.data.qpos[PUSHER] + action


def _rotate(vector: np.ndarray, angle_rad: float) -> np.ndarray:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-6)
