"""A camera that looks at a scene from a thread of its own, so that drawing stalls nothing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sim_bridge.rendering import load_mujoco, open_renderer

Capture = Callable[[], tuple[int, np.ndarray]]
Deliver = Callable[[int, np.ndarray], None]
_DUE = object()


class SceneCamera(threading.Thread):
    """Draws a scene at a rate; `start` begins, `stop` ends.

    Args:
        model: of the scene, read only.
        camera: name of the scene's camera.
        width, height: of the pictures, pixels.
        period_s: between captures.
        jitter_s: captures are up to so much too early or too late.
        rng: of the jitter.
        capture: () -> stamp and positions of now, called when a picture is taken.
        deliver: (stamp, (height, width, 3) uint8 picture); called in this thread.
    """

    def __init__(
        self,
        model: Any,
        camera: str,
        width: int,
        height: int,
        period_s: float,
        jitter_s: float,
        rng: np.random.Generator,
        capture: Capture,
        deliver: Deliver,
    ) -> None:
        super().__init__(name="scene_camera", daemon=True)
        self._model, self._camera = model, camera
        self._width, self._height = width, height
        self._period_s, self._jitter_s, self._rng = period_s, jitter_s, rng
        self._capture, self._deliver = capture, deliver
        self._wanted: queue.Queue[tuple[np.ndarray, Deliver] | None] = queue.Queue()
        self.error: BaseException | None = None

    def draw(self, positions: np.ndarray, deliver: Deliver) -> None:
        """Have a picture of other positions of the scene drawn, and delivered with stamp 0."""
        self._wanted.put((positions, deliver))

    def stop(self) -> None:
        """End the thread, and wait for that."""
        self._wanted.put(None)
        self.join()

    def run(self) -> None:
        """The thread; what went wrong is left in `error`."""
        try:
            self._run()
        except Exception as error:  # for the thread that started this one, which looks at it
            self.error = error

    def _run(self) -> None:
        mujoco = load_mujoco()
        data = mujoco.MjData(self._model)
        renderer = open_renderer(self._model, self._height, self._width)

        def picture(positions: np.ndarray) -> np.ndarray:
            data.qpos[:] = positions
            mujoco.mj_kinematics(self._model, data)
            mujoco.mj_camlight(self._model, data)
            renderer.update_scene(data, camera=self._camera)
            return renderer.render()

        begin_s, taken = time.monotonic(), 0
        try:
            while True:
                due_s = begin_s + taken * self._period_s
                due_s += self._rng.uniform(-self._jitter_s, self._jitter_s)
                while (job := self._next(due_s)) is not _DUE:
                    if job is None:
                        return
                    positions, deliver = job
                    deliver(0, picture(positions))
                stamp_ns, positions = self._capture()
                self._deliver(stamp_ns, picture(positions))
                # A picture that came too late is left out, not made up for.
                late = int((time.monotonic() - begin_s) / self._period_s)
                taken = max(taken + 1, late)
        finally:
            renderer.close()

    def _next(self, due_s: float) -> Any:
        """What is wanted before a time comes, None to end, `_DUE` when it has come."""
        try:
            return self._wanted.get(timeout=max(due_s - time.monotonic(), 0.0))
        except queue.Empty:
            return _DUE
