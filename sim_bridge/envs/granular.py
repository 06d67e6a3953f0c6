"""Granular: a board sweeps a heap of grains into the places of a goal."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_bridge.envs.sweep import REACH, SweepEnv, sweep_along, sweep_task
from sim_bridge.experts import Policy, random_offset, unit

GRAINS, RADIUS, HALF_LENGTH = 50, 0.0065, 0.0045  # number; of each: a bean of 22 x 13 mm, lying
MASS, DRAG, TURN_DRAG = 0.003, 0.3, 1e-5  # kg; N s/m; N m s
BOARD_HALF = 0.045  # m, half the width of the board, without its round ends
# What a usual sweep changes (docs/experiments/sweeps.md). Grains are then off by 15 mm on average,
# by less than they are long.
REACHED_M = 0.03
NEAR, FAR = (1, 0.10), (5, 0.05)  # sweeps from a start to its goal, and how far each leads, m
LEAST_WAY_M = 2 * REACHED_M

GRANULAR = sweep_task(
    "granular",
    "Granular",
    tuple(f"grain{grain}_{axis}" for grain in range(GRAINS) for axis in ("x", "y", "angle_rad")),
    stride=3,
    reached=REACHED_M,
)


class GranularEnv(SweepEnv):
    """State: x, y, m, and angle, rad, of each grain, and see `SweepEnv`.

    Grains slide and turn against a drag, and rub against each other. The board stands across the
    line that it sweeps along.
    """

    task = GRANULAR
    stride = 3
    tool_radius = 0.006

    def _add_things(self, spec: Any) -> None:
        kinds = self._mujoco
        capsule, slide = kinds.mjtGeom.mjGEOM_CAPSULE, kinds.mjtJoint.mjJNT_SLIDE
        spec.body("tool").add_geom(
            name="tool",
            type=capsule,
            size=[self.tool_radius, BOARD_HALF, 0],
            quat=[1, 1, 0, 0],  # along y, across its way
            mass=0,
            conaffinity=2,
        )
        joints = (
            ("x", slide, [1, 0, 0], DRAG),
            ("y", slide, [0, 1, 0], DRAG),
            ("angle", kinds.mjtJoint.mjJNT_HINGE, [0, 0, 1], TURN_DRAG),
        )
        for grain in range(GRAINS):
            body = spec.worldbody.add_body(name=f"grain{grain}")
            for name, kind, axis, drag in joints:
                body.add_joint(
                    name=f"grain{grain}_{name}", type=kind, axis=axis, damping=[drag, 0, 0]
                )
            body.add_geom(
                spec.find_default("thing"),
                type=capsule,
                size=[RADIUS, HALF_LENGTH, 0],
                quat=[1, 0, 1, 0],  # along x
                mass=MASS,
                condim=3,
                friction=[0.3, 0.005, 0.0001],
            )

    def _draw_state(self, rng: np.random.Generator) -> np.ndarray:
        """A heap: grains around a place, none across another, pushed apart until they touch."""
        middle, spread = rng.uniform(-0.09, 0.09, 2), rng.uniform(0.03, 0.05, 2)
        places = np.zeros((0, 2))
        while len(places) < GRAINS:
            place = np.clip(rng.normal(middle, spread), -REACH, REACH)
            if (np.linalg.norm(places - place, axis=1) > 2 * RADIUS).all():
                places = np.vstack([places, place])
        angles = rng.uniform(0, 2 * np.pi, (GRAINS, 1))
        with self.aside():
            self.set_state(self.state_of(np.hstack([places, angles])))
            self._mujoco.mj_step(self.model, self.data, self._steps(0.2))
            return self.get_state()

    def _draw_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The goal is where one sweep, or five, carried the grains: no other is sure to exist."""
        sweeps, most = NEAR if rng.random() < 0.5 else FAR
        while True:
            start = self.sample_state(rng)
            with self.aside():
                self.set_state(start)
                inwards = -self.places_of(start).mean(axis=0) / REACH
                ahead = unit(inwards + random_offset(rng, 0.0, 1.0))
                for _ in range(sweeps):
                    self.advance(self._carry(rng, self.get_state(), ahead, most))
                goal = self.get_state()
            if self.is_possible(goal) and self.task.distance(start, goal) >= LEAST_WAY_M:
                return start, goal

    def expert(self, rng: np.random.Generator) -> Policy:
        """Half of the sweeps begin behind the grains and carry them along; others as for a rope."""
        others = super().expert(rng)

        def act(state: np.ndarray) -> np.ndarray:
            if rng.random() < 0.5:
                return others(state)
            inwards = -self.places_of(state).mean(axis=0) / REACH
            return self._carry(rng, state, unit(inwards + random_offset(rng, 0.0, 1.0)), 0.12)

        return act

    def _carry(
        self, rng: np.random.Generator, state: np.ndarray, ahead: np.ndarray, most: float
    ) -> np.ndarray:
        """A sweep along `ahead` from behind all grains that are in the way of the board.

        It ends up to `most` m beyond one of them.
        """
        places = self.places_of(state)
        through = places[rng.integers(GRAINS)]
        offsets = places - through
        aside = np.abs(offsets @ np.array([-ahead[1], ahead[0]]))
        behind = (offsets @ ahead)[aside < BOARD_HALF + 2 * RADIUS].min() - 0.02
        return sweep_along(through + behind * ahead, through + rng.uniform(0.3, 1.0) * most * ahead)
