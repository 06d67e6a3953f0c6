"""Environments that others have made, as tasks of this package: controls of its own simulators."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sim_bridge.envs.base import TaskEnv
from wm_planner.errors import TaskError
from wm_planner.extras import install
from wm_planner.tasks import Task

if TYPE_CHECKING:
    from typing_extensions import Self

INSTALL = install("controls")


def control_of(task: Task, env: str) -> Task:
    """The task in somebody else's simulator: 'gym_' before its name, and no layout to change."""
    body = replace(task.embodiment, name=f"gym_{task.name}")
    return replace(task, embodiment=body, env_id=f"wm_planner/{env}-v0", layout=())


class ForeignEnv(TaskEnv):
    """The environment of an installed package; for the arguments see `TaskEnv`.

    Its physics and its renderer are used as they are. Pictures are drawn by a twin that is only
    ever put into states, so that they show the state and nothing of what led to it.

    Raises:
        TaskError: the package is missing; the message says how to install it.
    """

    package: str  # module that registers the environment with gymnasium
    install = INSTALL

    def __init__(self, image_size: int = 64, render: bool = True, layout: dict | None = None):
        super().__init__(image_size, render, layout)
        self._renders = render
        try:
            importlib.import_module(self.package)
        except ImportError as error:
            raise TaskError(
                f"task '{self.task.name}' needs the package {self.package} ({error}): "
                f"{self.install}"
            ) from error
        self.foreign: Any = self._make()
        self._twin: Self | None = None

    @abstractmethod
    def _make(self) -> Any:
        """The foreign environment, without gymnasium's wrappers."""

    @abstractmethod
    def _draw(self) -> np.ndarray:
        """(S, S, 3) uint8 picture by the foreign renderer, just after `set_state`."""

    @contextmanager
    def aside(self) -> Iterator[Self]:
        """A second one of the same, which any state may be left in."""
        if self._twin is None:
            self._twin = type(self)(self.image_size, self._renders)
        yield self._twin

    def render(self) -> np.ndarray:
        """The present picture, (S, S, 3) uint8."""
        return self.render_state(self.get_state())

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """(S, S, 3) uint8 picture of `state`; the present state is left as it was."""
        if not self._renders:
            return np.zeros((self.image_size, self.image_size, 3), np.uint8)
        with self.aside() as world:
            world.set_state(state)
            return world._draw()

    def close(self) -> None:
        """Close the foreign environments."""
        if self._twin is not None:
            self._twin.close()
            self._twin = None
        self.foreign.close()
