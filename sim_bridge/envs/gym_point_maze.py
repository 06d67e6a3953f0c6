"""PointMaze of Gymnasium-Robotics, ``PointMaze_UMaze-v3``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from sim_bridge.envs.foreign import ForeignEnv, control_of
from sim_bridge.envs.mazes import Maze
from sim_bridge.envs.point_maze import POINT_MAZE, PointMazeTask
from sim_bridge.rendering import check_rendering, load_mujoco

GYM_POINT_MAZE = control_of(POINT_MAZE, "GymPointMaze")
CAMERA = {"distance": 4.7, "azimuth": 90.0, "elevation": -90.0, "lookat": np.zeros(3)}


class GymPointMazeEnv(ForeignEnv, PointMazeTask):
    """The ball in Gymnasium-Robotics' MuJoCo scene; state, action and success as of point_maze.

    The foreign environment runs at 100 Hz: one step is one of 0.01 s, whatever its page says. A
    raw action is the force of five of its steps, which makes the control period of 0.05 s that
    the published PointMaze has, and a model step of `frame_skip` 5 lasts 0.25 s. It clips the
    velocity before each of the five.

    The renderer is its own; the camera looks straight down on the three by three cells instead
    of askance at all five by five, and the mark of the goal, which is no part of the state, is
    not drawn. The maze is D4RL's U turned by a quarter, about the origin.
    """

    task = GYM_POINT_MAZE
    package = "gymnasium_robotics"
    maze = Maze(("...", "##.", "..."), -1.3, 1.3)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        load_mujoco()  # before the package does, without a GL library chosen
        super().__init__(*args, **kwargs)

    def get_state(self) -> np.ndarray:
        """x, y, vx, vy."""
        data = self.foreign.data
        return np.concatenate([data.qpos, data.qvel])

    def _make(self) -> Any:
        mujoco = load_mujoco()
        if self._renders:
            check_rendering()
        env: Any = gymnasium.make(
            "PointMaze_UMaze-v3",
            render_mode="rgb_array" if self._renders else None,
            width=self.image_size,
            height=self.image_size,
        ).unwrapped
        Path(env.tmp_xml_file_path).unlink()  # it has been read, and nobody else removes it
        env.reset(seed=0)
        env.model.site_rgba[env.target_site_id] = 0.0
        env.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        env.point_env.mujoco_renderer.default_cam_config = CAMERA
        return env

    def _put(self, state: np.ndarray) -> None:
        load_mujoco().mj_resetData(self.foreign.model, self.foreign.data)
        self.foreign.point_env.set_state(state[:2], state[2:])

    def _run(self, action: np.ndarray) -> None:
        for _ in range(round(self.task.embodiment.control_dt_s / self.foreign.point_env.dt)):
            self.foreign.step(action)

    def _draw(self) -> np.ndarray:
        viewer = self.foreign.point_env.mujoco_renderer.viewer
        if viewer is not None:  # another renderer of this process may have drawn last
            viewer.make_context_current()
        return self.foreign.render().copy()
