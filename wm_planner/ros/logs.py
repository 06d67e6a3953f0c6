"""Where ROS keeps its logs, on machines that have no place for them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from wm_planner.errors import ConfigError


def find_log_directory(environment: MutableMapping[str, str]) -> None:
    """Set ROS_LOG_DIR where ROS would find no directory for its logs, and could not start.

    A service or a container often has no HOME, or one that nobody can write to; its logs go to
    the temporary directory. What a user has named is not replaced.

    Args:
        environment: of the process; call it before ``rclpy.init``.

    Raises:
        ConfigError: ROS_LOG_DIR or ROS_HOME names a directory that cannot be written to.
    """
    for key, below in (("ROS_LOG_DIR", ""), ("ROS_HOME", "log")):
        if environment.get(key):
            named = Path(environment[key]) / below
            why = _refusal(named)
            if why:
                raise ConfigError(f"{key}: logs cannot be written to '{named}': {why}")
            return
    home = environment.get("HOME")
    if not home or _refusal(Path(home) / ".ros" / "log"):
        logs = Path(tempfile.gettempdir()) / f"ros-log-{os.getuid()}"
        environment["ROS_LOG_DIR"] = str(logs)


def _refusal(directory: Path) -> str:
    """Why a directory cannot be written to; ''."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        return str(error)
    return "" if os.access(directory, os.W_OK | os.X_OK) else "no permission"
