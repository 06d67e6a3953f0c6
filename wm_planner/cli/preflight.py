"""What is checked and prepared before `wm-planner sim` starts a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wm_planner.errors import ConfigError, RenderError
from wm_planner.extras import way_out

RENDERER = "sim_bridge.rendering"  # as a program it draws something, or says why it cannot
RENDER_TIMEOUT_S = 60.0
MAX_DOMAIN_ID = 101  # above, the ports collide with those that Linux hands out


def child_environment(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """Environment of the nodes; what the user has set stays.

    Raises:
        ConfigError: ROS_DOMAIN_ID is not a number that works.
    """
    children = {
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),  # two runs on a machine do not meet
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "OMP_NUM_THREADS": "1",
        "MUJOCO_GL": "cgl" if sys.platform == "darwin" else "egl",
        **{key: value for key, value in environment.items() if value or key != "ROS_DOMAIN_ID"},
        "PYTHONUNBUFFERED": "1",
    }
    domain = children["ROS_DOMAIN_ID"]
    if not domain.isdecimal() or int(domain) > MAX_DOMAIN_ID:
        raise ConfigError(f"ROS_DOMAIN_ID={domain}: expected a number from 0 to {MAX_DOMAIN_ID}")
    return children


def check_planning(
    checkpoint: str, name: str, solver: str, settings: Iterable[str], source: str
) -> dict[str, Any]:
    """A checkpoint and the planner that it shall be used with, without starting anything.

    Args:
        checkpoint: variant, shipped name or directory.
        name: of the embodiment.
        solver: name of the solver.
        settings: 'key=value'.
        source: of the settings, for errors.

    Returns:
        The checkpoint's card.

    Raises:
        WmPlannerError: one of them cannot be used.
    """
    from wm_planner.config import suggest
    from wm_planner.models.catalog import CARD, WEIGHTS, check_whole, read_card, resolve_checkpoint
    from wm_planner.planning import SOLVERS, planner_config

    if solver not in SOLVERS:
        raise ConfigError(f"unknown planner '{solver}'.{suggest(solver, SOLVERS)}")
    directory = resolve_checkpoint(checkpoint, name)
    card = read_card(directory / CARD)
    check_whole(directory / WEIGHTS, card["sha256"])
    planner_config({**card["planner"], "solver": solver}, settings, source)
    return card


def check_ros() -> None:
    """Import rclpy.

    Raises:
        ConfigError: there is none; the message says where to get it.
    """
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"rclpy cannot be imported ({error}): {way_out('rclpy')}") from error


def check_rendering(environment: dict[str, str]) -> None:
    """Draw something in another process.

    Raises:
        RenderError: it failed; the message is that of the simulator.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", RENDERER],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RENDER_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RenderError(
            f"the renderer (MUJOCO_GL={environment['MUJOCO_GL']}) did not answer within "
            f"{RENDER_TIMEOUT_S:g} s; try MUJOCO_GL=osmesa"
        ) from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RenderError(lines[-1].removeprefix("wm_planner.errors.RenderError: "))


def claim_output(wanted: Path) -> Path:
    """Make the directory `wanted`, or `wanted`-2, -3 ... when that is taken by an earlier run.

    Raises:
        ConfigError: it cannot be made.
    """
    number = 1
    while True:
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(f"--output {path}: cannot be made: {error.strerror}") from error
