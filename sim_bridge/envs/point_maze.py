"""PointMaze: a force-driven ball in D4RL's U maze."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_bridge.envs.base import TaskEnv, simulated_task
from sim_bridge.envs.mazes import MAZES, Maze
from sim_bridge.envs.planar import PlanarEnv, slide_action, slide_proprio
from sim_bridge.experts import Policy, roam_maze
from wm_planner.config import suggest
from wm_planner.errors import TaskError
from wm_planner.tasks.task import xy_distance

REACHED = 0.5  # metres from the goal
MAX_SPEED = 5.0  # metres per second, clipped before each control period
START_SPEED = 5.2262554  # bound of the random start and goal velocities, as published
CORNERS = np.array([[0.8, 0.8], [0.8, 2.8], [2.8, 2.8], [2.8, 0.8]])  # along the U

POINT_MAZE = simulated_task(
    "point_maze",
    "PointMaze",
    slide_action("hundred newtons of force", "effort"),
    slide_proprio("m", "m/s"),
    image_size=64,
    control_dt_s=0.05,
    state_names=("x", "y", "vx", "vy"),
    distance=xy_distance,
    is_success=lambda state, goal: xy_distance(state, goal) < REACHED,
    distance_unit="m",
    layout=("obstacle", "maze"),
    things={"ball": ("x", "y")},
)


class PointMazeTask(TaskEnv):
    """A ball in a maze, whoever simulates it.

    State and proprioception: x, y in metres and their velocities in metres per second.
    """

    maze: Maze

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """x, y, vx, vy."""
        return np.asarray(state, dtype=np.float32)

    def is_possible(self, state: np.ndarray) -> bool:
        """Whether the ball is in the maze, and its centre in no wall."""
        return self.maze.has(np.asarray(state)[:2])

    def expert(self, rng: np.random.Generator) -> Policy:
        """Waypoints through the maze under a noisy PD law, or stretches of random force."""
        return roam_maze(rng, lambda: self.sample_state(rng)[:2], self._next_waypoint)

    def _draw_state(self, rng: np.random.Generator) -> np.ndarray:
        """Uniform over the maze, uniform velocity."""
        point = self.maze.sample(rng)
        return np.array([*point, *rng.uniform(-START_SPEED, START_SPEED, 2)])

    def _draw_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Independent random states."""
        return self.sample_state(rng), self.sample_state(rng)

    def _next_waypoint(self, here: np.ndarray, target: np.ndarray) -> np.ndarray:
        return self.maze.next_waypoint(here, target)


class PointMazeEnv(PlanarEnv, PointMazeTask):
    """The ball in this package's simulator.

    Layout key beside the common one: ``maze``, one of `MAZES`; the usual one is 'u'.
    """

    task = POINT_MAZE
    obstacle_radius, obstacle_gap = 0.15, 0.25
    reached = REACHED
    maze = MAZES["u"]

    def get_state(self) -> np.ndarray:
        """x, y, vx, vy."""
        return np.concatenate([self.data.qpos, self.data.qvel])

    def _write_state(self, state: np.ndarray) -> None:
        self.data.qpos[:] = state[:2]
        self.data.qvel[:] = state[2:]

    def _drive(self, action: np.ndarray) -> None:
        self.data.qvel[:] = np.clip(self.data.qvel, -MAX_SPEED, MAX_SPEED)
        self.data.ctrl[:] = action

    def _apply_layout(self, spec: Any) -> None:
        name = self.layout.get("maze", "u")
        if name not in MAZES:
            raise TaskError(f"layout maze: there is no maze '{name}'.{suggest(str(name), MAZES)}")
        self.maze = MAZES[name]
        if self.maze is not MAZES["u"]:
            spec.delete(spec.geom("middle"))
            wall = spec.find_default("wall")
            for x, y in self.maze.cells("#").values():
                spec.worldbody.add_geom(wall, pos=[x, y, 0.0], size=[0.5, 0.5, 0.3])
        super()._apply_layout(spec)

    def _next_waypoint(self, here: np.ndarray, target: np.ndarray) -> np.ndarray:
        """In the U, the corner rule that the shipped checkpoint's data were collected with."""
        if self.maze is not MAZES["u"]:
            return super()._next_waypoint(here, target)

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
