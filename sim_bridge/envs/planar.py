"""The tasks of this package: MuJoCo scenes seen from above."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from sim_bridge.envs.scene import SceneEnv
from wm_planner.embodiment import ActionSpace
from wm_planner.errors import TaskError

OBSTACLE_RGBA = (0.55, 0.2, 0.75, 1.0)  # a colour that nothing else has


def slide_action(unit: str, kind: str = "velocity") -> ActionSpace:
    """An action from -1 to 1 along x and along y; `unit` says what 1 is."""
    return ActionSpace(("slide_x", "slide_y"), (-1.0, -1.0), (1.0, 1.0), kind, unit=unit)


def slide_proprio(place: str, speed: str = "") -> dict[str, str]:
    """Units of the proprioception: x and y, and with `speed` their velocities."""
    kinds = {"position": place} | ({"velocity": speed} if speed else {})
    return {f"slide_{axis}/{kind}": kinds[kind] for kind in kinds for axis in "xy"}


class PlanarEnv(SceneEnv):
    """A scene of this package's assets; for the arguments see `TaskEnv`.

    Layout key of all: ``obstacle``, a number; a round body stands at the place drawn from it. It
    leaves `obstacle_gap` on all sides, so that it blocks no way, and no state that is drawn
    touches it.
    """

    obstacle_radius: float  # these are in the scene's unit of length
    obstacle_gap: float
    reached: float
    camera = "top"

    def __init__(self, image_size: int = 64, render: bool = True, layout: dict | None = None):
        super().__init__(image_size, render, layout)
        self._substeps = round(self.task.embodiment.control_dt_s / self.model.opt.timestep)

    def seen_ring(
        self, goal: np.ndarray, width: float = 1.0, height: float = 1.0
    ) -> tuple[float, float, float]:
        """See `TaskEnv`: around `aim_of`, in the orthographic picture from above."""
        camera = self.model.camera(self.camera)
        scale = height / camera.fovy[0]
        x, y = scale * (self.aim_of(goal) - camera.pos[:2])
        return width / 2 + x, height / 2 - y, scale * self.reached

    def aim_of(self, goal: np.ndarray) -> np.ndarray:
        """(2,) place within `reached` of which the goal counts as reached, in the scene's unit."""
        return np.asarray(goal)[:2]

    @abstractmethod
    def _drive(self, action: np.ndarray) -> None:
        """Set controls for one control period."""

    def _run(self, action: np.ndarray) -> None:
        self._drive(action)
        self._mujoco.mj_step(self.model, self.data, self._substeps)
        self._mujoco.mj_forward(self.model, self.data)

    def is_free(self, state: np.ndarray) -> bool:
        """Whether nothing that moves touches a wall or the obstacle; asked of changed layouts."""
        if not self.layout:
            return True
        with self.aside():
            self.set_state(state)
            return not any("world" in pair for pair in self.contacts())

    def is_possible(self, state: np.ndarray) -> bool:
        """Whether all that moves is in the picture, and none of it half or deeper in a wall.

        Contacts are soft: what is driven or pushed against a wall goes a little into it.
        """
        with self.aside():
            self.set_state(state)
            camera = self.model.camera(self.camera)
            offsets = self.data.xpos[1:, :2] - camera.pos[:2]  # body 0 is the world
            return bool(np.abs(offsets).max() <= camera.fovy[0] / 2) and not self._is_inside()

    def _is_inside(self) -> bool:
        """Whether something that moves is half or deeper in a wall or the obstacle."""
        contact, size = self.data.contact, self.model.geom_size
        half = np.where(size > 0, size, np.inf).min(axis=1)
        solid = self.model.geom_bodyid[contact.geom] == 0
        moving = np.where(solid[:, 0], contact.geom[:, 1], contact.geom[:, 0])
        return bool((solid.any(axis=1) & (-contact.dist >= half[moving])).any())

    def _apply_layout(self, spec: Any) -> None:
        """Add the obstacle, among the walls that there are by now."""
        if "obstacle" not in self.layout:
            return
        kinds, rng = self._mujoco.mjtGeom, np.random.default_rng(self.layout["obstacle"])
        walls = [geom for geom in spec.worldbody.geoms if geom.type == kinds.mjGEOM_BOX]
        camera = spec.worldbody.cameras[0]
        for _ in range(10000):
            place = camera.pos[:2] + camera.fovy * rng.uniform(-0.5, 0.5, 2)
            beyond = [np.abs(place - wall.pos[:2]) - wall.size[:2] for wall in walls]
            gap = min(np.linalg.norm(np.maximum(offset, 0.0)) for offset in beyond)
            if gap >= self.obstacle_radius + self.obstacle_gap:
                break
        else:
            raise TaskError(f"task '{self.task.name}': no room for an obstacle in {self.layout}")
        spec.worldbody.add_geom(
            spec.find_default("wall"),  # what a wall stops, it stops
            name="obstacle",
            type=kinds.mjGEOM_CYLINDER,
            pos=[*place, 0.0],
            size=[self.obstacle_radius, walls[0].size[2], 0.0],
            rgba=OBSTACLE_RGBA,
        )
