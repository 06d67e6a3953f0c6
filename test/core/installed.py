"""A package of `examples`, installed where this package knows nothing of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def install(name: str, directory: Path) -> Run:
    """Install examples/NAME below a directory.

    Returns:
        What runs Python with these arguments where the example is installed too.
    """
    source, target = directory / "source" / name, directory / "site"
    ignored = shutil.ignore_patterns("build", "*.egg-info")
    shutil.copytree(ROOT / "examples" / name, source, ignore=ignored)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    subprocess.run(pip, check=True, capture_output=True, timeout=90)
    path = os.pathsep.join([str(target), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            cwd=target,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done

    return run
