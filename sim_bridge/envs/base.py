"""What the planar tasks share: stepping, rendering, resetting to a given state."""

from __future__ import annotations

import importlib.resources
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from sim_bridge.rendering import choose_backend, load_mujoco, open_renderer
from wm_planner.errors import TaskError
from wm_planner.tasks import TaskSpec, get_task

Policy = Callable[[np.ndarray], np.ndarray]


class PlanarEnv(gymnasium.Env, ABC):
    """A MuJoCo scene seen from above.

    Subclasses say how a state is written and read, how an action drives the scene, and which
    states and problems occur.

    Args:
        image_size: side of the square image, pixels.
        render: False gives black images and skips the renderer (pure physics).
        layout: changes of the scene, by name; see the subclass.
    """

    metadata = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"
    task_name: str

    def __init__(self, image_size: int = 64, render: bool = True, layout: dict | None = None):
        if not 16 <= image_size <= 1024:
            raise TaskError(f"image_size must be from 16 to 1024 pixels, got {image_size}")
        if render:
            choose_backend()
        mujoco = load_mujoco()
        self._mujoco = mujoco
        self.task: TaskSpec = get_task(self.task_name)
        self.image_size = image_size
        spec = mujoco.MjSpec.from_string(self._asset())
        self._apply_layout(spec, layout or {})
        self.model = spec.compile()
        # A diverged simulation must be seen, not silently begun again.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.data = mujoco.MjData(self.model)
        self._renderer = open_renderer(self.model, image_size) if render else None
        low, high = (np.array(x, np.float32) for x in (self.task.action_low, self.task.action_high))
        self.action_space = gymnasium.spaces.Box(low, high)
        self.observation_space = gymnasium.spaces.Dict(
            image=gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
            proprio=gymnasium.spaces.Box(-np.inf, np.inf, (len(self.task.proprio_names),)),
            state=gymnasium.spaces.Box(-np.inf, np.inf, (len(self.task.state_names),), np.float64),
        )
        self._substeps = round(self.task.control_dt_s / self.model.opt.timestep)
        self.goal_state = np.zeros(len(self.task.state_names))

    # What a subclass says ------------------------------------------------------------------

    @abstractmethod
    def get_state(self) -> np.ndarray:
        """(S,) float64 full state, in the order of the task's state names."""

    @abstractmethod
    def _write_state(self, state: np.ndarray) -> None:
        """Put the scene into `state`; memory of earlier steps is cleared already."""

    @abstractmethod
    def _drive(self, action: np.ndarray) -> None:
        """Set controls for one control period."""

    @abstractmethod
    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """(P,) float32 proprioception in `state`."""

    @abstractmethod
    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """A random valid state, as training data starts from."""

    @abstractmethod
    def sample_problem(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A random (start state, goal state), as evaluation uses."""

    def expert(self, rng: np.random.Generator) -> Policy:
        """A policy that does what the task is about, for one episode: state -> raw action."""
        raise NotImplementedError

    def explore(self, rng: np.random.Generator) -> Policy:
        """The policy that training data comes from, for one episode."""
        return self.expert(rng)

    def _apply_layout(self, spec: Any, layout: dict) -> None:
        if layout:
            raise TaskError(f"task '{self.task_name}' has no layout to change, got {layout}")

    # What all share ------------------------------------------------------------------------

    def set_state(self, state: np.ndarray) -> None:
        """Put the scene into `state`, with no memory of what was before.

        Raises:
            TaskError: wrong shape or non-finite entries.
        """
        state = np.asarray(state, dtype=np.float64)
        names = self.task.state_names
        if state.shape != (len(names),) or not np.isfinite(state).all():
            raise TaskError(
                f"state of task '{self.task_name}' needs {len(names)} finite entries "
                f"({', '.join(names)}), got {state.tolist()}"
            )
        self._mujoco.mj_resetData(self.model, self.data)
        self._write_state(state)
        self._mujoco.mj_forward(self.model, self.data)

    def observe(self) -> dict[str, np.ndarray]:
        """Image, proprioception and full state of now."""
        state = self.get_state()
        return {"image": self._render(), "proprio": self.proprio_of(state), "state": state}

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """(S, S, 3) uint8 picture of `state`; the present state is left as it was."""
        present = self._snapshot()
        self.set_state(state)
        image = self._render()
        self._restore(present)
        return image

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; options 'state' and 'goal_state' override the random problem."""
        super().reset(seed=seed)
        options = options or {}
        unknown = set(options) - {"state", "goal_state"}
        if unknown:
            raise TaskError(f"unknown reset options {sorted(unknown)}; choices: state, goal_state")
        start, goal = options.get("state"), options.get("goal_state")
        if start is None or goal is None:
            random_start, random_goal = self.sample_problem(self.np_random)
            start = random_start if start is None else start
            goal = random_goal if goal is None else goal
        self.set_state(goal)
        self.goal_state = self.get_state()
        goal_image = self._render()
        self.set_state(start)
        info = self._info()
        info["goal_image"] = goal_image
        info["goal_proprio"] = self.proprio_of(self.goal_state)
        return self.observe(), info

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Apply one raw action for one control period; reward is minus the distance to go."""
        self.advance(action)
        info = self._info()
        return self.observe(), -info["distance"], info["is_success"], False, info

    def advance(self, action: np.ndarray) -> None:
        """Physics of one control period, without drawing.

        Raises:
            TaskError: the action is not finite or the physics diverged.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (self.task.action_size,) or not np.isfinite(action).all():
            raise TaskError(
                f"action of task '{self.task_name}' needs {self.task.action_size} finite "
                f"entries, got {action.tolist()}"
            )
        before = self.get_state()
        self._drive(np.clip(action, self.task.action_low, self.task.action_high))
        self._mujoco.mj_step(self.model, self.data, self._substeps)
        self._mujoco.mj_forward(self.model, self.data)
        if not np.isfinite(self.data.qpos).all():
            raise TaskError(f"physics of task '{self.task_name}' diverged from state {before}")

    def render(self) -> np.ndarray:
        """The present picture, (S, S, 3) uint8."""
        return self._render()

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _info(self) -> dict[str, Any]:
        state = self.get_state()
        return {
            "state": state,
            "goal_state": self.goal_state.copy(),
            "distance": self.task.distance(state, self.goal_state),
            "is_success": self.task.is_success(state, self.goal_state),
        }

    def _render(self) -> np.ndarray:
        if self._renderer is None:
            return np.zeros((self.image_size, self.image_size, 3), np.uint8)
        self._renderer.update_scene(self.data, camera="top")
        return self._renderer.render().copy()

    def _snapshot(self) -> np.ndarray:
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        values = np.empty(self._mujoco.mj_stateSize(self.model, kind))
        self._mujoco.mj_getState(self.model, self.data, values, kind)
        return values

    def _restore(self, values: np.ndarray) -> None:
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        self._mujoco.mj_setState(self.model, self.data, values, kind)
        self._mujoco.mj_forward(self.model, self.data)

    def _asset(self) -> str:
        folder = importlib.resources.files("sim_bridge.envs") / "assets"
        return (folder / f"{self.task_name}.xml").read_text()

    @staticmethod
    def _hold(
        rng: np.random.Generator, low: int, high: int, draw: Callable[[np.ndarray], Policy]
    ) -> Policy:
        """A policy that keeps what `draw(state)` returns for a random number of steps."""
        left = 0
        current: Policy

        def act(state: np.ndarray) -> np.ndarray:
            nonlocal left, current
            if left == 0:
                left, current = int(rng.integers(low, high + 1)), draw(state)
            left -= 1
            return np.clip(current(state), -1.0, 1.0).astype(np.float32)

        return act
