"""What all tasks share: checks, episodes, pictures of given states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from sim_bridge.experts import Policy
from wm_planner.config import suggest
from wm_planner.embodiment import ActionSpace, Camera, Embodiment
from wm_planner.errors import TaskError
from wm_planner.tasks import Task
from wm_planner.tasks.shifts import Shifts

if TYPE_CHECKING:
    from typing_extensions import Self

GOAL_ACTIONS = 25  # raw actions from the start of a target that is driven to its goal


def simulated_task(
    name: str,
    env: str,
    action: ActionSpace,
    proprio: dict[str, str],
    image_size: int,
    control_dt_s: float = 0.1,
    **settings: Any,
) -> Task:
    """A task of this package, `env` of its environments: one camera, five actions to a model step.

    `proprio` holds the unit of each entry; for `settings` see `Task`.
    """
    body = Embodiment(
        name=name,
        control_dt_s=control_dt_s,
        frame_skip=5,
        action=action,
        proprio=tuple(proprio),
        proprio_units=tuple(proprio.values()),
        cameras=(Camera("front", image_size),),
    )
    return Task(body, f"wm_planner/{env}-v0", max_model_steps=10, **settings)


class TaskEnv(gymnasium.Env, ABC):
    """A task's world, whoever simulates it.

    Subclasses say how a state is written and read, how an action drives the world, and which
    states and targets occur. A picture is a function of the state that it shows.

    Args:
        image_size: side of the square image, pixels.
        render: False gives black images and skips the renderer (pure physics).
        layout: changes of the scene, of the names that the task's `layout` lists; see the
            subclass.

    Raises:
        TaskError: a size or layout that cannot be used.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - as gymnasium declares it
    render_mode = "rgb_array"
    task: Task

    def __init__(self, image_size: int = 64, render: bool = True, layout: dict | None = None):
        if not 16 <= image_size <= 1024:
            raise TaskError(f"image_size must be from 16 to 1024 pixels, got {image_size}")
        self.image_size = image_size
        self.layout: dict[str, Any] = dict(layout or {})
        for key in self.layout:
            if not self.task.layout:
                raise TaskError(f"task '{self.task.name}' has no layout to change, got {layout}")
            if key not in self.task.layout:
                raise TaskError(
                    f"task '{self.task.name}': unknown layout key '{key}'."
                    f"{suggest(key, self.task.layout)}"
                )
        bounds = self.task.embodiment.action
        low, high = (np.array(bound, np.float32) for bound in (bounds.low, bounds.high))
        self.action_space = gymnasium.spaces.Box(low, high)
        self.observation_space = gymnasium.spaces.Dict(
            image=gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
            proprio=gymnasium.spaces.Box(-np.inf, np.inf, (len(self.task.embodiment.proprio),)),
            state=gymnasium.spaces.Box(-np.inf, np.inf, (len(self.task.state_names),), np.float64),
        )
        self.goal_state = np.zeros(len(self.task.state_names))

    # What a subclass says ------------------------------------------------------------------

    @abstractmethod
    def get_state(self) -> np.ndarray:
        """(S,) float64 full state, in the order of the task's state names."""

    @abstractmethod
    def _put(self, state: np.ndarray) -> None:
        """Put the world into `state`, with no memory of what was before."""

    @abstractmethod
    def _run(self, action: np.ndarray) -> None:
        """Physics of one control period under an action within its bounds."""

    @abstractmethod
    def aside(self) -> AbstractContextManager[Self]:
        """A world to try things in; this one's present state is left as it was."""

    @abstractmethod
    def render(self) -> np.ndarray:
        """The present picture, (S, S, 3) uint8."""

    @abstractmethod
    def proprio_of(self, state: np.ndarray) -> np.ndarray:
        """(P,) float32 proprioception in `state`."""

    @abstractmethod
    def _draw_state(self, rng: np.random.Generator) -> np.ndarray:
        """A random valid state of the usual layout."""

    @abstractmethod
    def _draw_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A random (start state, goal state) of the usual layout."""

    def is_free(self, state: np.ndarray) -> bool:
        """Whether nothing of `state` lies where a changed layout has put something solid."""
        return True

    def is_possible(self, state: np.ndarray) -> bool:
        """Whether all of `state` lies within the scene and in nothing solid; touching is allowed.

        True as well for a state that a subclass cannot tell of.
        """
        return True

    def seen_ring(
        self, goal: np.ndarray, width: float = 1.0, height: float = 1.0
    ) -> tuple[float, float, float] | None:
        """Centre x, y and radius of where the goal counts as reached, in a picture of that size.

        None where a circle cannot show that. The unit is that of width and height.
        """
        return None

    @abstractmethod
    def expert(self, rng: np.random.Generator) -> Policy:
        """A policy that does what the task is about, for one episode: state -> raw action."""

    def explore(self, rng: np.random.Generator) -> Policy:
        """The policy that training data comes from, for one episode."""
        return self.expert(rng)

    # What all share ------------------------------------------------------------------------

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """A random valid state, as training data starts from."""
        while True:
            state = self._draw_state(rng)
            if self.is_free(state):
                return state

    def sample_target(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A random (start state, goal state), as evaluation uses."""
        while True:
            start, goal = self._draw_target(rng)
            if self.is_free(start) and self.is_free(goal):
                return start, goal

    def _drive_to_goal(
        self, rng: np.random.Generator, is_worth: Callable[[np.ndarray, np.ndarray], bool]
    ) -> tuple[np.ndarray, np.ndarray]:
        """A random start, and where the expert gets from there in `GOAL_ACTIONS`.

        Pairs that are not worth it, which test nothing, are drawn again.
        """
        while True:
            start = self.sample_state(rng)
            with self.aside() as world:
                world.set_state(start)
                policy = self.expert(rng)
                for _ in range(GOAL_ACTIONS):
                    world.advance(policy(world.get_state()))
                goal = world.get_state()
            if is_worth(start, goal):
                return start, goal

    def set_state(self, state: np.ndarray) -> None:
        """Put the world into `state`, with no memory of what was before.

        Raises:
            TaskError: wrong shape or non-finite entries.
        """
        state = np.asarray(state, dtype=np.float64)
        names = self.task.state_names
        if state.shape != (len(names),) or not np.isfinite(state).all():
            raise TaskError(
                f"state of task '{self.task.name}' needs {len(names)} finite entries "
                f"({', '.join(names)}), got {state.tolist()}"
            )
        self._put(state)

    def observe(self) -> dict[str, np.ndarray]:
        """Image, proprioception and full state of now."""
        state = self.get_state()
        return {"image": self.render(), "proprio": self.proprio_of(state), "state": state}

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """(S, S, 3) uint8 picture of `state`; the present state is left as it was."""
        with self.aside() as world:
            world.set_state(state)
            return world.render()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; options 'state' and 'goal_state' override the random target."""
        super().reset(seed=seed)
        options = options or {}
        unknown = set(options) - {"state", "goal_state"}
        if unknown:
            raise TaskError(f"unknown reset options {sorted(unknown)}; choices: state, goal_state")
        start, goal = options.get("state"), options.get("goal_state")
        if start is None or goal is None:
            random_start, random_goal = self.sample_target(self.np_random)
            start = random_start if start is None else start
            goal = random_goal if goal is None else goal
        self.set_state(goal)
        self.goal_state = self.get_state()
        goal_image = self.render()
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
        action, bounds = np.asarray(action, dtype=np.float64), self.task.embodiment.action
        if action.shape != (bounds.size,) or not np.isfinite(action).all():
            raise TaskError(
                f"action of task '{self.task.name}' needs {bounds.size} finite entries, "
                f"got {action.tolist()}"
            )
        before = self.get_state()
        self._run(np.clip(action, bounds.low, bounds.high))
        if not np.isfinite(self.get_state()).all():
            raise TaskError(f"physics of task '{self.task.name}' diverged from state {before}")

    def disturbed(self, shifts: Shifts) -> gymnasium.Wrapper:
        """This world with differences from the one that a model was trained in."""
        from sim_bridge.envs.shifts import ShiftedEnv  # which knows this class

        return ShiftedEnv(self, shifts)

    def _info(self) -> dict[str, Any]:
        state = self.get_state()
        return {
            "state": state,
            "goal_state": self.goal_state.copy(),
            "distance": self.task.distance(state, self.goal_state),
            "is_success": self.task.is_success(state, self.goal_state),
        }
