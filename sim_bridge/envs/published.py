"""The published tasks with the physics that they were published with.

wall, point_maze and pusht differ from them in details that the shipped checkpoints were trained
with. These variants do not: their outcomes are compared with the originals that can be installed
(`python -m benchmarks.physics`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sim_bridge.envs.point_maze import POINT_MAZE, PointMazeEnv
from sim_bridge.envs.pusht import BLOCK, PUSHER, PUSHT, UNITS, PushTEnv
from sim_bridge.envs.wall import DOOR_HALF, MARGIN, WALL, WALL_HALF, WallEnv
from wm_planner.tasks import Task

LOW, HIGH = 4.0, 60.0  # Wall: the border's inner edges, pixels
STEP, BOUNCE, OFF_WALL = 2.0, 0.5, 0.3  # Wall: pixels, of a unit action and off what was hit
STEP_S = 0.01  # PushT: of physics
KP, KV = 100.0, 20.0  # PushT: the pusher's PD law, 1/s^2 and 1/s
INERTIA = 0.3  # PushT: the block's, kg m^2; its mass is 1 kg
HEAVY_KG = 1e6  # PushT: a pusher that no contact slows
# PushT: a step of physics stops what approaches, and takes back 1 - 0.9^0.6 of how deep it is.
SOLREF, HARD = [-(1 - 0.9**0.6) / STEP_S**2, -1 / STEP_S], [0.9999, 0.9999, 0.001, 0.5, 2.0]
WORKSPACE = 512.0 / UNITS  # PushT: side of the workspace that targets are clipped to, metres
# MuJoCo's and D4RL's own contacts: PointMaze.
SOLIMP, CONTACT_MARGIN_M = (0.9, 0.95, 0.001, 0.5, 2.0), 0.002


def _published(task: Task, env: str, **changes: Any) -> Task:
    body = replace(task.embodiment, name=f"{task.name}_published")
    return replace(task, embodiment=body, env_id=f"wm_planner/{env}-v0", **changes)


PUSHT_PUBLISHED = _published(PUSHT, "PushTPublished", layout=())
POINT_MAZE_PUBLISHED = _published(POINT_MAZE, "PointMazePublished")
WALL_PUBLISHED = _published(WALL, "WallPublished", layout=("wall_x", "door_y"))


class PushTPublishedEnv(PushTEnv):
    """PushT as in Pymunk: its step, walls that stop the block alone, any reachable goal.

    The pusher goes where its PD law moves it, and no contact slows it. The block keeps no velocity
    from one step of physics to the next: it takes the one that its contacts give it, divided
    between moving and turning by its mass and moment of inertia. Contacts are without friction.

    Pymunk moves everything first, then finds the contacts, then the block's next velocity, so that
    `_run` does the same around MuJoCo's contacts. Its solver is of Pymunk's kind, with as many
    iterations: where the pusher squeezes the block against a wall, no velocity fits all contacts.
    """

    task = PUSHT_PUBLISHED
    asset = "pusht"

    def _apply_layout(self, spec: Any) -> None:
        spec.option.solver, spec.option.iterations = self._mujoco.mjtSolver.mjSOL_PGS, 10
        spec.option.timestep = STEP_S
        for geom in spec.geoms:
            geom.solref, geom.solimp = SOLREF, HARD
        for name, axis, at in (
            ("left", 0, -0.43),
            ("right", 0, 5.54),
            ("bottom", 1, -0.43),
            ("top_wall", 1, 5.54),
        ):
            wall = spec.geom(name)
            wall.pos[axis] = at
            wall.conaffinity = 2  # the block
        for joint in spec.joints:
            joint.damping[0] = 0.0
        block, pusher = spec.body("block"), spec.geom("pusher")
        block.explicitinertial = True
        block.mass, block.inertia, block.ipos = 1.0, [INERTIA] * 3, [0.0, 0.0, 0.0]
        # MuJoCo has a formula for a sphere on a box. At corners its search for those of a cylinder
        # is off. The sphere's middle is lower than the block's top, and its own top is not.
        pusher.type, pusher.pos = self._mujoco.mjtGeom.mjGEOM_SPHERE, [0.0, 0.0, 0.1]
        pusher.mass, pusher.conaffinity = HEAVY_KG, 2
        for servo in spec.actuators:  # `_run` moves the pusher
            servo.gainprm[0], servo.biasprm[:3] = 0.0, [0.0] * 3

    def _run(self, action: np.ndarray) -> None:
        place, speed = self.data.qpos, self.data.qvel
        target = np.clip(place[PUSHER] + action, 0.0, WORKSPACE)
        for _ in range(self._substeps):
            speed[PUSHER] += STEP_S * (KP * (target - place[PUSHER]) - KV * speed[PUSHER])
            place += STEP_S * speed
            speed[BLOCK] = 0.0
            self._mujoco.mj_forward(self.model, self.data)
            speed[BLOCK] = STEP_S * self.data.qacc[BLOCK]
            self.data.time += STEP_S

    def _draw_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Where 25 raw actions of exploration lead, as in the published segments of data."""
        return self._drive_to_goal(rng, lambda start, goal: True)


class PointMazePublishedEnv(PointMazeEnv):
    """D4RL's PointMaze: contacts without friction, integrated by Euler's method."""

    task = POINT_MAZE_PUBLISHED
    asset = "point_maze"

    def _apply_layout(self, spec: Any) -> None:
        super()._apply_layout(spec)
        spec.option.integrator = self._mujoco.mjtIntegrator.mjINT_EULER
        for geom in spec.geoms:
            geom.condim = 1
            geom.solimp = list(SOLIMP)
        spec.geom("ball").margin = CONTACT_MARGIN_M


class WallPublishedEnv(WallEnv):
    """The published dot: a point that takes its step at once and bounces off what it meets."""

    task = WALL_PUBLISHED
    asset = "wall"
    lowest = LOW + MARGIN

    def _run(self, action: np.ndarray) -> None:
        now = self.data.qpos.copy()
        self.data.qpos[:] = step_of_point(now, STEP * action, self.wall_x, self.door_y)
        self._mujoco.mj_forward(self.model, self.data)


def step_of_point(now: np.ndarray, move: np.ndarray, wall_x: float, door_y: float) -> np.ndarray:
    """Where a step of the published dot ends.

    A point that meets the border, the wall or an edge of the door goes back by half a pixel, and by
    half a pixel upwards or to the right along what it met, which is the published rule.

    Args:
        now: (2,) x, y, pixels.
        move: (2,) pixels.
        wall_x, door_y: middle of the wall and of its door.
    """
    then = now + move
    for side in (1, -1):  # upper and lower edge of the door
        edge = door_y + side * DOOR_HALF
        if side * (edge - now[1]) > 0 and side * (then[1] - edge) > 0:
            x = _crossing(now, then, 1, edge)
            if abs(x - wall_x) <= WALL_HALF:
                return np.array([x + BOUNCE, edge - side * BOUNCE])
    low, high = np.full(2, LOW), np.full(2, HIGH)
    if now[0] < wall_x:
        high[0] = wall_x - WALL_HALF
    else:
        low[0] = wall_x + WALL_HALF
    hits = []
    for axis in (0, 1):
        for plane in (low[axis], high[axis]):
            if then[axis] == now[axis] or (now[axis] - plane) * (then[axis] - plane) > 0:
                continue
            along = _crossing(now, then, axis, plane)
            in_door = abs(along - door_y) <= DOOR_HALF
            if axis == 0 and plane not in (LOW, HIGH) and in_door:
                continue
            at, bounce = np.full(2, along), np.full(2, BOUNCE)
            at[axis] = plane
            bounce[axis] *= np.sign(now[axis] - plane)
            hits.append((float(np.linalg.norm(at - now)), -axis, at + bounce))
            break
    if not hits:
        return then
    end = min(hits, key=lambda hit: hit[:2])[2]
    end = np.where(end <= low, low + OFF_WALL, end)
    return np.where(end >= high, high - OFF_WALL, end)


def _crossing(now: np.ndarray, then: np.ndarray, axis: int, plane: float) -> float:
    """The other coordinate where the step crosses x or y = `plane`."""
    part = (plane - now[axis]) / (then[axis] - now[axis])
    return float(now[1 - axis] + part * (then[1 - axis] - now[1 - axis]))
