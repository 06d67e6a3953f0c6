"""Rope: a rod sweeps a rope into the place and shape of a goal."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim_bridge.envs.sweep import REACH, SweepEnv, sweep_task
from sim_bridge.experts import random_offset, rotate

BEADS, SPACING, RADIUS = 30, 0.010, 0.007  # number; m between neighbours; m
CHORD = 0.019  # m, least distance of a bead from the next but one: bends of 16 mm radius and more
MASS, DRAG = 0.003, 0.3  # of a bead: kg; N s/m, by which it stops within a hundredth of a second
# What a usual sweep changes (docs/experiments/sweeps.md). Beads are then off by 12.5 mm on average,
# by less than the rope is thick.
REACHED_M = 0.025
MOST_TURN = np.pi / 2  # of a goal from its start
MOST_SHIFT = 0.05  # m, likewise
LEAST_WAY_M = 2 * REACHED_M

ROPE = sweep_task(
    "rope",
    "Rope",
    tuple(f"bead{bead}_{axis}" for bead in range(BEADS) for axis in "xy"),
    stride=2,
    reached=REACHED_M,
)


class RopeEnv(SweepEnv):
    """State: x and y of the beads from one end of the rope to the other, m, and see `SweepEnv`.

    Beads slide against a drag, each at a fixed distance from the next. The rope is limp down to
    its least radius: it stays as it lies.
    """

    task = ROPE
    stride = 2
    tool_radius = 0.009

    def _add_things(self, spec: Any) -> None:
        kinds = self._mujoco
        spec.body("tool").add_geom(
            name="tool",
            type=kinds.mjtGeom.mjGEOM_SPHERE,
            size=[self.tool_radius, 0, 0],
            mass=0,
            conaffinity=2,
        )
        for bead in range(BEADS):
            body = spec.worldbody.add_body(name=f"bead{bead}")
            for axis, direction in (("x", [1, 0, 0]), ("y", [0, 1, 0])):
                body.add_joint(
                    name=f"bead{bead}_{axis}",
                    type=kinds.mjtJoint.mjJNT_SLIDE,
                    axis=direction,
                    damping=[DRAG, 0, 0],
                )
            body.add_geom(
                spec.find_default("thing"),
                type=kinds.mjtGeom.mjGEOM_SPHERE,
                size=[RADIUS, 0, 0],
                mass=MASS,
            )
            body.add_site(name=f"bead{bead}")
        for first in range(BEADS - 2):
            self._join(spec, first, first + 2, range=[CHORD, 1.0], solref_limit=[0.008, 1])
        for first in range(BEADS - 1):
            spec.add_equality(
                name1=self._join(spec, first, first + 1),
                type=kinds.mjtEq.mjEQ_TENDON,
                objtype=kinds.mjtObj.mjOBJ_TENDON,
                data=[SPACING, *[0.0] * 11],  # all beads are in one place before a state is put
                solref=[0.008, 1],
                solimp=[0.99, 0.999, 0.001, 0.5, 2],
            )

    @staticmethod
    def _join(spec: Any, first: int, second: int, **settings: Any) -> str:
        """Name of a new tendon between two beads, which no longer touch each other."""
        names = f"bead{first}", f"bead{second}"
        tendon = spec.add_tendon(name="-".join(names), **settings)
        for name in names:
            tendon.wrap_site(name)
        spec.add_exclude(bodyname1=names[0], bodyname2=names[1])
        return str(tendon.name)

    def _draw_state(self, rng: np.random.Generator) -> np.ndarray:
        """A rope with up to one bend and back, within the tool's reach, not over itself."""
        while True:
            bend, phase = rng.uniform(0.0, 1.2), rng.uniform(0, 2 * np.pi)
            waves = rng.uniform(0.3, 1.0)
            along = np.linspace(0.0, 2 * np.pi * waves, BEADS - 1)
            heading = rng.uniform(0, 2 * np.pi) + bend * np.sin(along + phase)
            links = SPACING * np.stack([np.cos(heading), np.sin(heading)], axis=1)
            places = np.concatenate([np.zeros((1, 2)), links.cumsum(axis=0)])
            places += rng.uniform(-0.06, 0.06, 2) - places.mean(axis=0)
            if np.abs(places).max() < REACH and _is_apart(places):
                return self.state_of(places)

    def _draw_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The goal is the rope of the start, turned by 0 to 90 degrees either way, and shifted."""
        while True:
            start = self._draw_state(rng)
            places = self.places_of(start)
            middle = places.mean(axis=0)
            turn = rng.uniform(-MOST_TURN, MOST_TURN)
            turned = np.array([rotate(place - middle, turn) for place in places])
            turned += middle + random_offset(rng, 0.0, MOST_SHIFT)
            in_reach, goal = np.abs(turned).max() < REACH, self.state_of(turned)
            if in_reach and self.task.distance(start, goal) >= LEAST_WAY_M:
                return start, goal


def _is_apart(places: np.ndarray) -> bool:
    """Whether no two beads overlap, but for neighbours."""
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    return bool(apart[np.triu_indices(len(places), k=2)].min() > 2 * RADIUS)
