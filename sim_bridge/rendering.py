"""Offscreen rendering with a backend that is chosen, not guessed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from wm_planner.config import suggest
from wm_planner.errors import RenderError

BACKENDS = ("egl", "osmesa")
_PACKAGES = {"egl": "libegl1 libgl1-mesa-dri", "osmesa": "libosmesa6"}


def choose_backend() -> str:
    """Return the GL backend named by MUJOCO_GL, 'egl' when unset, and set it.

    Raises:
        RenderError: MUJOCO_GL names something that cannot render offscreen.
    """
    backend = os.environ.setdefault("MUJOCO_GL", "egl").lower()
    if backend not in BACKENDS:
        raise RenderError(
            f"MUJOCO_GL={backend} cannot render without a screen.{suggest(backend, BACKENDS)}"
        )
    return backend


def load_mujoco() -> Any:
    """Import MuJoCo, which binds its GL library when it is first imported.

    Raises:
        RenderError: the library that MUJOCO_GL names is missing.
    """
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco
    except Exception as error:  # the GL stack raises whatever its loader happens to raise
        raise _no_renderer(error) from error
    return mujoco


def _no_renderer(error: Exception) -> RenderError:
    backend = os.environ["MUJOCO_GL"].lower()
    if backend not in BACKENDS:
        return RenderError(f"MUJOCO_GL={backend}: {error}.{suggest(backend, BACKENDS)}")
    other = "osmesa" if backend == "egl" else "egl"
    return RenderError(
        f"MUJOCO_GL={backend}: no offscreen renderer ({error}). Install "
        f"'{_PACKAGES[backend]}', or set MUJOCO_GL={other} and install '{_PACKAGES[other]}'."
    )


def open_renderer(model: Any, height: int, width: int | None = None) -> Any:
    """Open a `mujoco.Renderer`, square unless `width` is given.

    Raises:
        RenderError: the GL library is missing; the message names the packages.
    """
    choose_backend()
    mujoco = load_mujoco()
    try:
        return mujoco.Renderer(model, height=height, width=width or height)
    except Exception as error:
        raise _no_renderer(error) from error


def check_rendering() -> None:
    """Draw one pixel row of an empty scene.

    Raises:
        RenderError: rendering does not work on this machine.
    """
    choose_backend()
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>")
    renderer = open_renderer(model, 8)
    try:
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        renderer.update_scene(data)
        if np.asarray(renderer.render()).shape != (8, 8, 3):
            raise RenderError("the offscreen renderer returned an image of the wrong size")
    finally:
        renderer.close()


if __name__ == "__main__":
    check_rendering()
