"""A world whose model is exact: a dot on a 65 px field that each raw action moves by two pixels.

Image, proprioception and state all tell the dot's position, so that plans have known answers and
evaluation needs neither simulator nor trained weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from wm_planner.models.bundle import Bundle
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import Latent
from wm_planner.tasks import get_task
from wm_planner.types import Goal, Observation

FIELD, SIZE = 65.0, 4
SCALE = 2.0 / FIELD  # field to [-1, 1]
MEAN, STD = (0.1, -0.2), (0.5, 0.4)


class DotModel(nn.Module):
    """Tokens are the position in [-1, 1]; `drift` per model step makes the model wrong."""

    def __init__(self, drift: float = 0.0) -> None:
        super().__init__()
        self.drift, self.modes, self.frames = drift, set(), set()
        self.num_hist, self.device = 3, torch.device("cpu")
        self.predictor = nn.Module()  # training switches it to evaluation and back

    def encode(self, images: Tensor, proprio: Tensor) -> Latent:
        return Latent(images[..., :2, 0, 0].unsqueeze(2), proprio)

    def rollout(self, latent, actions, past_actions=None, mode="markov") -> Latent:
        frames = latent.visual.shape[1]
        assert frames == 1 or past_actions.shape[1] == frames - 1
        self.modes.add(mode)
        self.frames.add(frames)
        raw = actions.unflatten(2, (5, 2)) * torch.tensor(STD) + torch.tensor(MEAN)
        moved = (2.0 * SCALE * raw.sum(dim=2) + self.drift).cumsum(dim=1)
        moved = torch.cat([torch.zeros_like(moved[:, :1]), moved], dim=1)
        return Latent(latent.visual[:, -1:] + moved[:, :, None], latent.proprio[:, -1:] + moved)


def dot_bundle(drift: float = 0.0, action: dict | None = None, **planner) -> Bundle:
    """Of task 'wall', the task with the simplest test of success; `action` changes its actions."""
    half = FIELD / 2
    preprocess = Preprocess(SIZE, 5, MEAN, STD, (half, half), (half, half))
    body = get_task("wall").embodiment
    if action is not None:
        body = replace(body, action=replace(body.action, **action))
    return Bundle(DotModel(drift), preprocess, body, planner)


def picture(position) -> np.ndarray:
    """(S, S, 3) uint8 of one colour, which is the position."""
    colour = np.round(np.clip(np.asarray(position) / FIELD, 0, 1) * 255).astype(np.uint8)
    return np.broadcast_to(np.append(colour, 0).astype(np.uint8), (SIZE, SIZE, 3)).copy()


def observation(position, stamp_ns: int = 0) -> Observation:
    return Observation(picture(position)[None], np.float32([position]), stamp_ns)


def goal(position, proprio: bool = True) -> Goal:
    return Goal(picture(position), np.float32(position) if proprio else None)


class DotEnv:
    """What evaluation uses of an environment. `stuck` robots do not move."""

    def __init__(self, render: bool = True, stuck: bool = False) -> None:
        self.task, self.stuck, self.actions = get_task("wall"), stuck, []
        self._state = self.goal_state = np.zeros(2)

    @property
    def unwrapped(self) -> DotEnv:
        return self

    def set_state(self, state: np.ndarray) -> None:
        self._state = np.array(state, dtype=np.float64)

    def get_state(self) -> np.ndarray:
        return self._state.copy()

    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        return np.float32(state)

    def render_state(self, state: np.ndarray) -> np.ndarray:
        return picture(state)

    def sample_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rng.uniform(5, 25, 2), rng.uniform(40, 60, 2)

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(20, 40, 2)

    def explore(self, rng: np.random.Generator):
        action = 0.75 * rng.choice([-1.0, 1.0], 2)
        return lambda state: action

    def is_possible(self, state: np.ndarray) -> bool:
        return bool(((state >= 0) & (state <= FIELD)).all())

    def is_free(self, state: np.ndarray) -> bool:
        return True

    def advance(self, action: np.ndarray) -> None:
        assert np.abs(action).max() <= 1.0
        self.actions.append(action)
        if not self.stuck:
            self._state = self._state + 2.0 * action

    def close(self) -> None:
        pass
