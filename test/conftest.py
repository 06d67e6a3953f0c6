"""Settings that must hold before anything is imported."""

import os

# MuJoCo binds its GL library when it is first imported.
os.environ.setdefault("MUJOCO_GL", "egl")

# Tests run side by side: threads of several torch processes on few cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
