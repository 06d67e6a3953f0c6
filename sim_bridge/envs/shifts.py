"""A world that differs from the one that a model was trained in."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from sim_bridge.envs.base import PlanarEnv
from sim_bridge.rendering import load_mujoco

_IMAGE, _PROPRIO, _PROCESS = range(3)  # streams of noise


class ShiftedEnv(gymnasium.Wrapper):
    """Changes fields of the environment's MuJoCo model, and adds noise to what goes in and out.

    The noise of a picture is a function of the state that it shows, and that of the actions of the
    state that the episode starts from: problems see the same noise whatever runs beside them.
    The goal is pictured by the same camera, under the same light, as everything else.

    Args:
        env: a planar environment; its model is changed for good.
        process_noise: standard deviation added to each raw action, action units.
        image_noise: standard deviation added to each pixel and channel, grey levels of 255.
        proprio_noise: standard deviation added to each entry, in its unit.
        friction: factor of contact friction, joint friction loss and joint damping.
        mass: factor of every mass and inertia.
        gain: factor of what a raw action does.
        camera_x, camera_y: move of the camera, in widths of its view.
        camera_turn_deg: turn of the camera about its axis, degrees.
        camera_zoom: factor of the size of things in the picture.
        hue_deg: turn of all colours on the colour wheel, degrees.
        brightness: factor of the light.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        *,
        process_noise: float = 0.0,
        image_noise: float = 0.0,
        proprio_noise: float = 0.0,
        friction: float = 1.0,
        mass: float = 1.0,
        gain: float = 1.0,
        camera_x: float = 0.0,
        camera_y: float = 0.0,
        camera_turn_deg: float = 0.0,
        camera_zoom: float = 1.0,
        hue_deg: float = 0.0,
        brightness: float = 1.0,
    ) -> None:
        super().__init__(env)
        inner = env.unwrapped
        assert isinstance(inner, PlanarEnv)
        self._inner, self._gain = inner, gain
        self._std = {_IMAGE: image_noise, _PROPRIO: proprio_noise, _PROCESS: process_noise}
        self._noise = _generator(_PROCESS, inner.get_state())
        model = inner.model
        for name in ("geom_friction", "dof_frictionloss", "dof_damping"):
            getattr(model, name)[:] *= friction
        for name in ("body_mass", "body_inertia"):
            getattr(model, name)[:] *= mass
        load_mujoco().mj_setConst(model, inner.data)
        self._move_camera(camera_x, camera_y, np.deg2rad(camera_turn_deg), camera_zoom)
        for rgba in model.geom_rgba:
            hue, lightness, saturation = colorsys.rgb_to_hls(*(float(c) for c in rgba[:3]))
            rgba[:3] = colorsys.hls_to_rgb((hue + hue_deg / 360) % 1, lightness, saturation)
        model.vis.headlight.ambient[:] *= brightness
        # The bounds are those of the command: it saturates, the stronger motor does not.
        low, high = (gain * np.array(x) for x in (inner.task.action_low, inner.task.action_high))
        inner.task = replace(inner.task, action_low=tuple(low), action_high=tuple(high))
        model.actuator_ctrlrange[:] *= gain

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def set_state(self, state: np.ndarray) -> None:
        """As the environment's; the noise begins again."""
        self._inner.set_state(state)
        self._noise = _generator(_PROCESS, self._inner.get_state())

    def advance(self, action: np.ndarray) -> None:
        """As the environment's, of the disturbed action."""
        self._inner.advance(self._disturbed(action))

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
        if not self._std[_IMAGE]:
            return image
        noise = _generator(_IMAGE, state).normal(0.0, self._std[_IMAGE], image.shape)
        return np.rint(image + noise).clip(0, 255).astype(np.uint8)

    def _noisy_proprio(self, proprio: np.ndarray, state: np.ndarray) -> np.ndarray:
        if not self._std[_PROPRIO]:
            return proprio
        noise = _generator(_PROPRIO, state).normal(0.0, self._std[_PROPRIO], proprio.shape)
        return (proprio + noise).astype(np.float32)

    def _move_camera(self, x: float, y: float, turn_rad: float, zoom: float) -> None:
        model = self._inner.model
        camera = model.camera("top").id
        width = model.cam_fovy[camera]  # of an orthographic camera, in units of length
        model.cam_pos[camera, :2] += width * np.array([x, y])
        model.cam_fovy[camera] = width / zoom
        mujoco, turned = load_mujoco(), np.empty(4)
        turn = np.array([np.cos(turn_rad / 2), 0.0, 0.0, np.sin(turn_rad / 2)])
        mujoco.mju_mulQuat(turned, model.cam_quat[camera], turn)
        model.cam_quat[camera] = turned


def _generator(stream: int, state: np.ndarray) -> np.random.Generator:
    words = np.frombuffer(np.asarray(state, np.float64).tobytes(), np.uint32)
    return np.random.default_rng([stream, *words.tolist()])
