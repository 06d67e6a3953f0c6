"""Wall: a dot in two rooms joined by a door."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_bridge.envs.base import simulated_task
from sim_bridge.envs.planar import PlanarEnv, slide_action, slide_proprio
from sim_bridge.experts import Policy, hold
from wm_planner.errors import TaskError
from wm_planner.tasks.task import xy_distance

SPEED = 20.0  # pixels per second for a unit action: 2 pixels per control period
REACHED = 4.5  # pixels from the goal
BORDER, WALL_HALF, DOOR_HALF, MARGIN = 5.0, 3.0, 4.0, 3.4

WALL = simulated_task(
    "wall",
    "Wall",
    slide_action("two pixels of displacement per control period"),
    slide_proprio("px"),
    image_size=64,
    state_names=("x", "y"),
    distance=xy_distance,
    is_success=lambda state, goal: xy_distance(state, goal) < REACHED,
    distance_unit="px",
    layout=("obstacle", "wall_x", "door_y"),
    things={"dot": ("x", "y")},
    metres=0.01,
    action_step=2.0,
)


class WallEnv(PlanarEnv):
    """State and proprioception: the dot's x and y, pixels.

    The dot has no memory beyond its position: it takes the commanded velocity at once.
    Layout keys beside the common one: ``wall_x`` (10 to 55) and ``door_y`` (12 to 53), pixels.
    """

    task = WALL
    obstacle_radius, obstacle_gap = 4.0, 5.0
    reached = REACHED
    wall_x = 32.0
    door_y = 30.0
    lowest = BORDER + MARGIN  # of x and y that are drawn

    def get_state(self) -> np.ndarray:
        """x, y in pixels."""
        return self.data.qpos.copy()

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """x, y in pixels."""
        return np.asarray(state[:2], dtype=np.float32)

    def _draw_state(self, rng: np.random.Generator) -> np.ndarray:
        """Uniform over both rooms, a fifth of the draws in or near the door."""
        if rng.random() < 0.2:
            x = self.wall_x + rng.uniform(-8, 8)
            return np.array([x, self.door_y + rng.uniform(-1, 1) * (DOOR_HALF - 2.0)])
        return self._in_room(rng, right=bool(rng.random() < 0.5))

    def _draw_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Start and goal uniform in opposite rooms."""
        right = bool(rng.random() < 0.5)
        return self._in_room(rng, right), self._in_room(rng, not right)

    def expert(self, rng: np.random.Generator) -> Policy:
        """Wander with held velocities; every other stretch heads through the door."""

        def draw(state: np.ndarray) -> Policy:
            if rng.random() < 0.5:
                speed = rng.uniform(0.2, 1.0)
                target = self._in_room(rng, right=bool(state[0] < self.wall_x))
                return lambda now: self._through_door(now, target, speed)
            action = rng.normal(0.0, 0.6, 2)
            return lambda now: action + rng.normal(0.0, 0.1, 2)

        return hold(rng, 5, 20, draw)

    def _write_state(self, state: np.ndarray) -> None:
        self.data.qpos[:] = state

    def _drive(self, action: np.ndarray) -> None:
        self.data.ctrl[:] = SPEED * action
        self.data.qvel[:] = SPEED * action

    def _in_room(self, rng: np.random.Generator, right: bool) -> np.ndarray:
        low, high = self.lowest, 65.0 - BORDER - MARGIN
        if right:
            x = rng.uniform(self.wall_x + WALL_HALF + MARGIN, high)
        else:
            x = rng.uniform(low, self.wall_x - WALL_HALF - MARGIN)
        return np.array([x, rng.uniform(low, high)])

    def _through_door(self, now: np.ndarray, target: np.ndarray, speed: float) -> np.ndarray:
        waypoint = target
        before = (now[0] - self.wall_x) * (target[0] - self.wall_x) < 0
        if before or abs(now[0] - self.wall_x) < WALL_HALF + 2:
            side = np.sign(target[0] - self.wall_x)
            lined_up = abs(now[1] - self.door_y) < 1.5
            ahead = self.wall_x + side * (6.0 if lined_up else -7.0)
            waypoint = np.array([ahead, self.door_y])
        offset = waypoint - now
        return speed * offset / max(float(np.linalg.norm(offset)), 2.0 * speed)

    def _apply_layout(self, spec: Any) -> None:
        for key, low, high in (("wall_x", 10.0, 55.0), ("door_y", 12.0, 53.0)):
            value = self.layout.get(key, getattr(self, key))
            if not low <= value <= high:
                raise TaskError(f"layout {key} must be from {low} to {high} pixels, got {value}")
            setattr(self, key, float(value))
        bottom = self.door_y - DOOR_HALF - BORDER
        top = 65.0 - BORDER - self.door_y - DOOR_HALF
        for name, y, half in (
            ("below_door", BORDER + bottom / 2, bottom / 2),
            ("above_door", self.door_y + DOOR_HALF + top / 2, top / 2),
        ):
            geom = spec.geom(name)
            geom.pos = [self.wall_x, y, 0.0]
            geom.size = [WALL_HALF, half, 2.0]
        super()._apply_layout(spec)
