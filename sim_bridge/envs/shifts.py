"""A world that differs from the one that a model was trained in."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from sim_bridge.envs.base import TaskEnv
from sim_bridge.envs.scene import SceneEnv
from sim_bridge.rendering import load_mujoco
from wm_planner.errors import TaskError
from wm_planner.tasks.shifts import Shifts

_IMAGE, _PROPRIO, _PROCESS = range(3)  # streams of noise


class ShiftedEnv(gymnasium.Wrapper):
    """Changes fields of the environment's MuJoCo model, and adds noise to what goes in and out.

    The noise of a picture is a function of the state that it shows, and that of the actions of the
    state that the episode starts from: targets see the same noise whatever runs beside them.
    The goal is pictured by the same camera, under the same light, as everything else.

    Args:
        env: a task's environment; the model of a `SceneEnv` is changed for good.
        shifts: what differs, but for what the environment's layout and the loop do.

    Raises:
        TaskError: more than noise for an environment that is not one of this package's scenes.
    """

    def __init__(self, env: gymnasium.Env, shifts: Shifts) -> None:
        super().__init__(env)
        inner = env.unwrapped
        assert isinstance(inner, TaskEnv)
        self._inner, self._gain = inner, shifts.gain
        self._std = {
            _IMAGE: shifts.image_noise,
            _PROPRIO: shifts.proprio_noise,
            _PROCESS: shifts.process_noise,
        }
        self._noise = _generator(_PROCESS, inner.get_state())
        beyond = [name for name in shifts.disturbances() if not name.endswith("_noise")]
        if isinstance(inner, SceneEnv):
            self._change(inner, shifts)
        elif beyond:
            raise TaskError(
                f"task '{inner.task.name}' is not simulated by this package and can have noise, "
                f"but not {', '.join(beyond)}"
            )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def set_state(self, state: np.ndarray) -> None:
        """As the environment's; the noise begins again."""
        self._inner.set_state(state)
        self._noise = _generator(_PROCESS, self._inner.get_state())

    def command(self, velocities: np.ndarray) -> None:
        """As an arm's, of the disturbed velocities."""
        inner: Any = self._inner
        inner.command(self._disturbed(velocities))

    def advance(self, action: np.ndarray) -> None:
        """As the environment's, of the disturbed action."""
        self._inner.advance(self._disturbed(action))

    def render(self) -> np.ndarray:
        """As the environment's, with noise."""
        return self._noisy_image(self._inner.render(), self._inner.get_state())

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """As the environment's, with noise."""
        return self._noisy_image(self._inner.render_state(state), state)

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """As the environment's, with noise."""
        return self._noisy_proprio(self._inner.proprio_of(state), state)

    def reset(self, **options: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(**options)
        self._noise = _generator(_PROCESS, observation["state"])
        goal = info["goal_state"]
        info["goal_image"] = self._noisy_image(info["goal_image"], goal)
        info["goal_proprio"] = self._noisy_proprio(info["goal_proprio"], goal)
        return self._noisy(observation), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], Any, bool, bool, dict]:
        """Apply one raw action."""
        observation, reward, done, cut, info = self.env.step(self._disturbed(action))
        return self._noisy(observation), reward, done, cut, info

    def _disturbed(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action, np.float64)
        if self._std[_PROCESS]:
            action = action + self._noise.normal(0.0, self._std[_PROCESS], action.shape)
        return self._gain * action

    def _noisy(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        state = observation["state"]
        return {
            "image": self._noisy_image(observation["image"], state),
            "proprio": self._noisy_proprio(observation["proprio"], state),
            "state": state,
        }

    def _noisy_image(self, image: np.ndarray, state: np.ndarray) -> np.ndarray:
        return np.rint(self._with_noise(_IMAGE, image, state)).clip(0, 255).astype(np.uint8)

    def _noisy_proprio(self, proprio: np.ndarray, state: np.ndarray) -> np.ndarray:
        return self._with_noise(_PROPRIO, proprio, state).astype(np.float32)

    def _with_noise(self, stream: int, values: np.ndarray, state: np.ndarray) -> np.ndarray:
        std = self._std[stream]
        return values + _generator(stream, state).normal(0.0, std, values.shape) if std else values

    @staticmethod
    def _change(env: SceneEnv, shifts: Shifts) -> None:
        model = env.model
        for name in ("geom_friction", "dof_frictionloss", "dof_damping"):
            getattr(model, name)[:] *= shifts.friction
        for name in ("body_mass", "body_inertia"):
            getattr(model, name)[:] *= shifts.mass
        load_mujoco().mj_setConst(model, env.data)
        _move_camera(model, env.camera, shifts)
        for rgba in model.geom_rgba:
            hue, lightness, saturation = colorsys.rgb_to_hls(*(float(c) for c in rgba[:3]))
            rgba[:3] = colorsys.hls_to_rgb((hue + shifts.hue_deg / 360) % 1, lightness, saturation)
        lights = (model.vis.headlight.ambient, model.vis.headlight.diffuse, model.light_diffuse)
        for light in lights:
            light[:] *= shifts.brightness
        # The bounds are those of the command: it saturates, the stronger motor does not.
        gain, body = shifts.gain, env.task.embodiment
        low, high = (tuple(gain * np.array(bound)) for bound in (body.action.low, body.action.high))
        action = replace(body.action, low=low, high=high)
        env.task = replace(env.task, embodiment=replace(body, action=action))
        model.actuator_ctrlrange[:] *= gain


def _move_camera(model: Any, name: str, shifts: Shifts) -> None:
    """Move the camera across its line of sight, turn it about that line, and zoom."""
    mujoco = load_mujoco()
    camera = model.camera(name).id
    axes = np.empty(9)
    mujoco.mju_quat2Mat(axes, model.cam_quat[camera])
    across = axes.reshape(3, 3)[:, :2]  # to the right and upwards in the picture
    if model.cam_projection[camera] == mujoco.mjtProjection.mjPROJ_ORTHOGRAPHIC:
        width = model.cam_fovy[camera]  # in units of length
        model.cam_fovy[camera] = width / shifts.camera_zoom
    else:
        half = np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
        width = 2 * half * np.linalg.norm(model.cam_pos[camera] - model.stat.center)
        model.cam_fovy[camera] = 2 * np.rad2deg(np.arctan(half / shifts.camera_zoom))
    model.cam_pos[camera] += width * across @ np.array([shifts.camera_x, shifts.camera_y])
    half_rad, turned = np.deg2rad(shifts.camera_turn_deg) / 2, np.empty(4)
    turn = np.array([np.cos(half_rad), 0.0, 0.0, np.sin(half_rad)])
    mujoco.mju_mulQuat(turned, model.cam_quat[camera], turn)
    model.cam_quat[camera] = turned


def _generator(stream: int, state: np.ndarray) -> np.random.Generator:
    words = np.frombuffer(np.asarray(state, np.float64).tobytes(), np.uint32)
    return np.random.default_rng([stream, *words.tolist()])
