"""PointMaze: a force-driven ball in D4RL's U maze."""

from __future__ import annotations

import numpy as np

from sim_bridge.envs.base import PlanarEnv, Policy

MAX_SPEED = 5.0  # metres per second, clipped before each control period
START_SPEED = 5.2262554  # bound of the random start and goal velocities, as published
CORNERS = np.array([[0.8, 0.8], [0.8, 2.8], [2.8, 2.8], [2.8, 0.8]])  # along the U


class PointMazeEnv(PlanarEnv):
    """State and proprioception: x, y in metres and their velocities in metres per second."""

    task_name = "point_maze"

    def get_state(self) -> np.ndarray:
        """x, y, vx, vy."""
        return np.concatenate([self.data.qpos, self.data.qvel])

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """x, y, vx, vy."""
        return np.asarray(state, dtype=np.float32)

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """Uniform over the U, uniform velocity."""
        while True:
            x, y = rng.uniform(0.5, 3.1, 2)
            if x <= 1.1 or x >= 2.5 or y >= 2.5:
                velocity = rng.uniform(-START_SPEED, START_SPEED, 2)
                return np.array([x, y, *velocity])

    def sample_problem(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Independent random states."""
        return self.sample_state(rng), self.sample_state(rng)

    def expert(self, rng: np.random.Generator) -> Policy:
        """Waypoints along the U under a noisy PD law, or stretches of random force."""

        def draw(state: np.ndarray) -> Policy:
            if rng.random() < 0.4:
                force = rng.normal(0.0, 0.6, 2)
                return lambda now: force + rng.normal(0.0, 0.2, 2)
            target = self.sample_state(rng)[:2]
            gain = rng.uniform(0.6, 2.0)

            def pursue(now: np.ndarray) -> np.ndarray:
                waypoint = self._next_waypoint(now[:2], target)
                force = gain * (waypoint - now[:2]) - 0.25 * now[2:]
                return force + rng.normal(0.0, 0.2, 2)

            return pursue

        return self._hold(rng, 5, 30, draw)

    def _write_state(self, state: np.ndarray) -> None:
        self.data.qpos[:] = state[:2]
        self.data.qvel[:] = state[2:]

    def _drive(self, action: np.ndarray) -> None:
        self.data.qvel[:] = np.clip(self.data.qvel, -MAX_SPEED, MAX_SPEED)
        self.data.ctrl[:] = action

    @staticmethod
    def _next_waypoint(here: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The target, or the next corner of the U on the way to it."""

        def segment(point: np.ndarray) -> int:
            if point[1] >= 2.3:
                return 1
            return 0 if point[0] < 1.8 else 2

        now, then = segment(here), segment(target)
        if now == then:
            return target
        if now == 1:
            # Over the leg first, then down it.
            corner = CORNERS[1] if then == 0 else CORNERS[2]
            return target if abs(here[0] - corner[0]) < 0.3 else corner
        return CORNERS[1] if now == 0 else CORNERS[2]
