"""Settings that must hold before anything is imported."""

import os

# MuJoCo binds its GL library when it is first imported.
os.environ.setdefault("MUJOCO_GL", "egl")
