"""MuJoCo scenes: how they are built, stepped and drawn. Somebody else's tasks may begin here."""

from __future__ import annotations

import importlib
import importlib.resources
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sim_bridge.envs.base import TaskEnv
from sim_bridge.rendering import choose_backend, load_mujoco, open_renderer

if TYPE_CHECKING:
    from typing_extensions import Self


class SceneEnv(TaskEnv):
    """A scene of this package's assets; for the arguments see `TaskEnv`.

    Attributes:
        asset: file of the scene, without '.xml', in the folder `assets` of the package that the
            class is in; empty: named as the task.
        camera: camera of the scene that draws the pictures.
    """

    asset = ""
    camera: str

    def __init__(self, image_size: int = 64, render: bool = True, layout: dict | None = None):
        super().__init__(image_size, render, layout)
        if render:
            choose_backend()
        mujoco = load_mujoco()
        self._mujoco = mujoco
        package = importlib.import_module(type(self).__module__).__package__
        folder = importlib.resources.files(package or type(self).__module__) / "assets"
        scenes = {f.name: f.read_bytes() for f in folder.iterdir() if f.name.endswith(".xml")}
        asset = scenes[f"{self.asset or self.task.name}.xml"].decode()
        spec = mujoco.MjSpec.from_string(asset, include=scenes)
        self._apply_layout(spec)
        self.model = spec.compile()
        # A diverged simulation must be seen, not silently begun again.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.data = mujoco.MjData(self.model)
        self._renderer = open_renderer(self.model, image_size) if render else None

    @abstractmethod
    def _write_state(self, state: np.ndarray) -> None:
        """Put the scene into `state`; memory of earlier steps is cleared already."""

    def _apply_layout(self, spec: Any) -> None:
        """Change the scene as `layout` says, before it is compiled."""

    @contextmanager
    def aside(self) -> Iterator[Self]:
        """This world itself, put back into its present state when it ends."""
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        present = np.empty(self._mujoco.mj_stateSize(self.model, kind))
        self._mujoco.mj_getState(self.model, self.data, present, kind)
        try:
            yield self
        finally:
            self._mujoco.mj_setState(self.model, self.data, present, kind)
            self._mujoco.mj_forward(self.model, self.data)

    def contacts(self) -> list[tuple[str, str]]:
        """Names of the bodies that touch, pair by pair; what never moves is the 'world'."""
        bodies = self.model.geom_bodyid[self.data.contact.geom]
        return [(self.model.body(a).name, self.model.body(b).name) for a, b in bodies]

    def render(self) -> np.ndarray:
        """The present picture, (S, S, 3) uint8."""
        if self._renderer is None:
            return np.zeros((self.image_size, self.image_size, 3), np.uint8)
        self._renderer.update_scene(self.data, camera=self.camera)
        return self._renderer.render().copy()

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _put(self, state: np.ndarray) -> None:
        self._mujoco.mj_resetData(self.model, self.data)
        self._write_state(state)
        self._mujoco.mj_forward(self.model, self.data)
