"""PushT of the package gym-pusht, ``gym_pusht/PushT-v0``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from sim_bridge.envs.foreign import INSTALL, ForeignEnv, control_of
from sim_bridge.envs.pusht import PUSHT, UNITS, PushTTask

GYM_PUSHT = control_of(PUSHT, "GymPushT")


class GymPushTEnv(ForeignEnv, PushTTask):
    """Pusher and block in gym-pusht's Pymunk world; state, action and success as of pusht.

    One of its steps is a control period, 0.1 s: ten of physics under its PD law. It takes where
    the pusher shall go; a raw action, as in the published task, is relative to where the pusher
    is, in hundreds of its units, and cut off at the bounds of its action space. A model step of
    `frame_skip` 5 lasts 0.5 s.

    Its own success test, the block's overlap with the one green goal, is not asked: goals are
    states, as in the published task, and the green goal is a mark in every picture. The block's
    velocity, which lasts no longer than one step of physics, is not part of the state either.
    """

    task = GYM_PUSHT
    package = "gym_pusht"
    # Its requirement opencv-python brings the same files as opencv-python-headless, over them.
    install = (
        f"{INSTALL}, and beside it pip install --no-deps gym-pusht (its pymunk<7 has wheels for "
        "Python before 3.14, and none for Linux on aarch64)"
    )

    def get_state(self) -> np.ndarray:
        """x, y, block_x, block_y, block_angle in [0, 2 pi), vx, vy; workspace units."""
        pusher, block = self.foreign.agent, self.foreign.block
        angle = block.angle % (2 * np.pi)
        return np.array([*pusher.position, *block.position, angle, *pusher.velocity])

    def contacts(self) -> list[tuple[str, str]]:
        """Names of the bodies that touch, pair by pair; walls are the 'world'."""
        names = {self.foreign.agent: "pusher", self.foreign.block: "block"}
        return [
            (name, names.get(hit.shape.body, "world"))
            for body, name in names.items()
            for shape in body.shapes
            for hit in self.foreign.space.shape_query(shape)
            if hit.shape.body is not body
        ]

    def _make(self) -> Any:
        env: Any = gymnasium.make(
            "gym_pusht/PushT-v0",
            obs_type="state",
            observation_width=self.image_size,
            observation_height=self.image_size,
        ).unwrapped
        env._get_coverage = lambda: 0.0  # a quarter of its time, for a test that is not asked
        env.reset(seed=0)
        return env

    def _put(self, state: np.ndarray) -> None:
        env = self.foreign
        env._setup()  # `reset` also runs a step, whose contacts would be remembered
        env.agent.position, env.agent.velocity = tuple(state[:2]), tuple(state[5:])
        env.block.angle = float(state[4])  # turns about the centre of gravity: position comes after
        env.block.position = tuple(state[2:4])
        for body in (env.agent, env.block):
            env.space.reindex_shapes_for_body(body)

    def _run(self, action: np.ndarray) -> None:
        bounds = self.foreign.action_space
        target = np.array(self.foreign.agent.position) + UNITS * action
        self.foreign.step(np.clip(target, bounds.low, bounds.high))

    def _draw(self) -> np.ndarray:
        return self.foreign._render()  # `render` also marks the last action
