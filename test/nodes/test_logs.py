"""A process starts wherever its logs can go, and names what a user has to mend."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from wm_planner.errors import ConfigError
from wm_planner.ros.logs import find_log_directory

NOWHERE = "/proc/nowhere"  # nobody makes a directory there, root neither
WITHOUT_A_HOME = [{}, {"HOME": ""}, {"HOME": NOWHERE}, {"HOME": "/dev/null"}]


@pytest.mark.parametrize("environment", WITHOUT_A_HOME)
def test_without_a_home_logs_are_temporary(environment):
    find_log_directory(environment)
    assert Path(environment["ROS_LOG_DIR"]).parent == Path(tempfile.gettempdir())


def test_a_home_and_what_a_user_names_are_left_alone(tmp_path):
    for given in ({"HOME": str(tmp_path)}, {"ROS_LOG_DIR": str(tmp_path), "HOME": NOWHERE}):
        environment = dict(given)
        find_log_directory(environment)
        assert environment == given


@pytest.mark.parametrize("key", ["ROS_LOG_DIR", "ROS_HOME"])
@pytest.mark.parametrize("value", [NOWHERE, "/dev/null/logs", "a\0b"])
def test_a_named_place_that_cannot_be_used_is_named(key, value):
    with pytest.raises(ConfigError, match=key):
        find_log_directory({key: value, "HOME": "/"})


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HOME": NOWHERE}, "'action_names' is missing"),
        ({"ROS_LOG_DIR": NOWHERE}, "ROS_LOG_DIR: logs cannot be written to"),
    ],
)
def test_a_node_starts_or_says_why_in_one_line(environment, words):
    kept = {k: v for k, v in os.environ.items() if k not in ("HOME", "ROS_HOME", "ROS_LOG_DIR")}
    command = [sys.executable, "-m", "wm_planner.nodes.command_guard"]
    told = {**kept, **environment}
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
