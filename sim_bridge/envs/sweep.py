"""Sweeps of a tool over a tray: what `rope` and `granular` share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from sim_bridge.envs.scene import SceneEnv
from sim_bridge.experts import Policy, unit
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.tasks import Task

TRAY_HALF = 0.20  # m, from the middle of the tray to its rim
REACH = 0.17  # m, from the middle of the tray: where the tool may be
PARKED = np.array([0.0, -0.5])  # m: where the tool waits, out of the picture
SPEED = 0.3  # m/s, of the tool
SHORTEST = 1e-3  # m: for a shorter sweep the tool is not lowered
LOWERING_S = 0.1  # the tool is tapered: what is under it is moved aside meanwhile
ARRIVING_S = 0.05  # the servo's lag
SETTLING_S = 0.2  # after the tool is up again; what was moved stops within a tenth of a second
PERIOD_S = 2.0  # of a sweep: the longest one takes 1.95 s
# Of the things as a whole, after their own entries. A picture shows these; which bead or grain is
# which, or which end of a rope comes first, it does not show.
SEEN = ("middle_x", "middle_y", "spread_x", "spread_y", "spread_xy")
SWEEP = ActionSpace(
    names=("from_x", "from_y", "to_x", "to_y"),
    low=(-REACH,) * 4,
    high=(REACH,) * 4,
    unit="m from the middle of the tray; a sweep of no length leaves all as it is",
)


def chamfer(points: np.ndarray, others: np.ndarray) -> float:
    """Chamfer distance of points (n, 2) and (m, 2), in their unit.

    The mean distance from a point to the nearest of the others, and the mean the other way round,
    added up: two sets that are one distance apart everywhere are two of it apart.
    """
    apart = np.linalg.norm(np.asarray(points)[:, None] - np.asarray(others)[None], axis=2)
    return float(apart.min(axis=1).mean() + apart.min(axis=0).mean())


def places_in(state: np.ndarray, stride: int) -> np.ndarray:
    """(n, 2) places of the things of a state, m, each of which has `stride` entries."""
    return np.reshape(state[: -len(SEEN)], (-1, stride))[:, :2]


def sweep_task(name: str, env: str, entries: tuple[str, ...], stride: int, reached: float) -> Task:
    """A task of things in the tray, `stride` of the entries each: x, y and what is not compared."""

    def distance(state: np.ndarray, goal: np.ndarray) -> float:
        """Chamfer distance of the things' places, m."""
        return chamfer(places_in(state, stride), places_in(goal, stride))

    body = Embodiment(
        name=name,
        control_dt_s=PERIOD_S,
        frame_skip=1,
        action=SWEEP,
        proprio=("tool/position",),
        proprio_units=("m from where it waits",),
        cameras=(Camera("front", 96),),
    )
    return Task(
        body,
        f"wm_planner/{env}-v0",
        state_names=(*entries, *SEEN),
        max_model_steps=10,
        distance=distance,
        is_success=lambda state, goal: distance(state, goal) < reached,
        distance_unit="m",
        things={"heap" if name == "granular" else name: SEEN},
    )


class SweepEnv(SceneEnv):
    """Things in a tray, and a tool that sweeps over them; for the arguments see `TaskEnv`.

    An action is one sweep, `frame_skip` 1: the tool is lowered at (from_x, from_y), moves along
    the line to (to_x, to_y) and is raised. Then all comes to rest, and the picture is taken, from
    above, with the tool out of it. So the state is where the things are, with what follows from it:
    the middle of their places and the standard deviations of these along x, y and the line between
    the two, m. A sweep is a function of this state: nothing of the sweeps before is remembered.

    The tool is free: a servo of limited force moves it, no arm holds it.

    Attributes:
        stride: state entries of each thing; x and y are the first two.
        tool_radius: of the lowered tool, m.
    """

    stride: int
    tool_radius: float
    camera = "top"

    def __init__(self, image_size: int = 96, render: bool = True, layout: dict | None = None):
        super().__init__(image_size, render, layout)
        self._tool = self.model.geom("tool").id
        self._tool_body = self.model.body("tool").id
        self._raise_tool()
        self._mujoco.mj_forward(self.model, self.data)

    @abstractmethod
    def _add_things(self, spec: Any) -> None:
        """Add the things and the tool's geom to the scene."""

    def places_of(self, state: np.ndarray) -> np.ndarray:
        """(n, 2) places of the things, m."""
        return places_in(state, self.stride)

    def state_of(self, entries: np.ndarray) -> np.ndarray:
        """The whole state, of the entries of all things (n, stride)."""
        places = entries[:, :2]
        x, y = places.T
        spread = [x.std(), y.std(), ((x + y) / np.sqrt(2)).std()]
        return np.concatenate([entries.ravel(), places.mean(axis=0), spread])

    def get_state(self) -> np.ndarray:
        """Entries of all things, one thing after the other, and of the things as a whole."""
        return self.state_of(self.data.qpos[2:].reshape(-1, self.stride))

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """Zero: whenever it is asked, the tool is where it waits."""
        return np.zeros(1, np.float32)

    def is_possible(self, state: np.ndarray) -> bool:
        """Whether all is in the tray."""
        return bool(np.abs(self.places_of(state)).max() < TRAY_HALF)

    def expert(self, rng: np.random.Generator) -> Policy:
        """Sweeps through a thing, half of them towards the middle of the tray; some anywhere."""

        def act(state: np.ndarray) -> np.ndarray:
            if rng.random() < 0.1:
                return rng.uniform(-REACH, REACH, 4).astype(np.float32)
            places = self.places_of(state)
            through = places[rng.integers(len(places))] + rng.normal(0.0, 0.01, 2)
            around = rng.uniform(0, 2 * np.pi)
            ahead = np.array([np.cos(around), np.sin(around)])
            if rng.random() < 0.5:
                ahead = unit(ahead - through / (0.5 * TRAY_HALF))
            start = through - rng.uniform(0.01, 0.10) * ahead
            return sweep_along(start, through + rng.uniform(0.02, 0.15) * ahead)

        return act

    def _write_state(self, state: np.ndarray) -> None:
        self.data.qpos[2:] = state[: -len(SEEN)]  # the rest follows
        self._raise_tool()

    def _apply_layout(self, spec: Any) -> None:
        self._add_things(spec)

    def _run(self, action: np.ndarray) -> None:
        start, way = action[:2], action[2:] - action[:2]
        length = float(np.linalg.norm(way))
        if length < SHORTEST:
            return
        self._put(self.get_state())
        try:
            self._lower_tool(start, way)
            moving = self._steps(length / SPEED)
            for step in range(1, moving + 1):
                self.data.ctrl[:] = start + way * step / moving
                self._mujoco.mj_step(self.model, self.data)
            self._mujoco.mj_step(self.model, self.data, self._steps(ARRIVING_S))
        finally:
            self._raise_tool()
        self._mujoco.mj_step(self.model, self.data, self._steps(SETTLING_S))
        self._put(self.get_state())

    def _lower_tool(self, place: np.ndarray, way: np.ndarray) -> None:
        """Its cross-section grows from nothing, as that of a tapered tool that goes down."""
        half = np.arctan2(way[1], way[0]) / 2
        self.model.body_quat[self._tool_body] = [np.cos(half), 0.0, 0.0, np.sin(half)]
        self.data.qpos[:2] = self.data.ctrl[:] = place
        self.model.geom_contype[self._tool] = 4
        lowering = self._steps(LOWERING_S)
        for step in range(1, lowering + 1):
            self.model.geom_size[self._tool, 0] = self.tool_radius * step / lowering
            self._mujoco.mj_step(self.model, self.data)

    def _raise_tool(self) -> None:
        self.model.geom_contype[self._tool] = 0
        self.data.qpos[:2] = self.data.ctrl[:] = PARKED
        self.data.qvel[:2] = 0.0

    def _steps(self, seconds: float) -> int:
        return max(1, round(seconds / self.model.opt.timestep))


def sweep_along(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(4,) float32 action of a sweep, within the tool's reach."""
    return np.clip(np.concatenate([start, end]), -REACH, REACH).astype(np.float32)
