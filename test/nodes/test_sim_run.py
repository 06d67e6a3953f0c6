"""The whole graph as processes: the same seed gives the same commands; bad input ends at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from wm_planner.data.bags import Bag
from wm_planner.data.recording import read_recording

from .domains import claim_domain

QUICK = ["--set", "num_iterations=4", "--set", "warm_iterations=2"]
ENVIRONMENT = {**os.environ, "ROS_DOMAIN_ID": str(claim_domain())}


def sim(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wm_planner.cli.main", "sim", *arguments]
    return subprocess.run(
        command,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=110,
        **options,
        check=False,
    )


def commands(bag: Path) -> list[bytes]:
    return [m.data for m in Bag(bag).messages() if m.topic == "/command_sent"]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Two lock-step runs of one seed, quick and so not necessarily successful."""
    root = tmp_path_factory.mktemp("sim")
    runs = []
    for name in ("first", "second"):
        result = sim(
            "--task", "wall", "--seed", "4", "--episodes", "2", *QUICK,
            "--output", str(root / name), "--json", str(root / f"{name}.json"),
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        runs.append(root / name)
    return runs


def test_one_seed_gives_the_same_commands_bit_for_bit(two_runs):
    for episode in ("episode_0000", "episode_0001"):
        first, second = (commands(run / "bags" / episode) for run in two_runs)
        assert len(first) >= 5
        assert first == second


def test_bag_is_an_episode_of_the_commands_that_moved_the_robot(two_runs):
    recording = read_recording(two_runs[0] / "bags" / "episode_0000")
    (piece,) = recording.pieces
    moved = np.diff(piece.proprio, axis=0)
    asked = 2 * piece.actions.reshape(len(moved), -1, 2).sum(axis=1)
    # Two pixels per unit action wherever no wall is in the way: for most steps.
    close = abs(moved - asked).max(axis=1) < 0.5
    assert close.mean() >= 0.5
    assert recording.account.kept == recording.account.possible == len(moved)


def test_result_file_has_every_key(two_runs):
    result = json.loads(two_runs[0].with_suffix(".json").read_text())
    for key in [
        "task",
        "checkpoint",
        "planner",
        "mode",
        "seed",
        "episodes",
        "successes",
        "success_rate",
        "interval_low",
        "interval_high",
        "plan_seconds_p50",
        "plan_seconds_p99",
        "latency_seconds_p50",
        "latency_seconds_p99",
        "clock",
    ]:
        assert key in result, key
    assert result["episodes"] == 2 and result["clock"] == "lockstep"
    assert result["plan_seconds_p50"] > 0
    assert result["latency_seconds_p50"] > 0
    assert list(two_runs[0].glob("*.mp4")) and list(two_runs[0].glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--task", "walls"], "Did you mean 'wall'"),
        (["--task", "wall", "--planner", "gpb"], "Did you mean 'gbp'"),
        (["--task", "wall", "--checkpoint", "wall-bose"], "Did you mean 'wall-base'"),
        (["--task", "wall", "--set", "horizn=3"], "Did you mean 'horizon'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, text, tmp_path):
    result = sim(*arguments, "--output", str(tmp_path / "run"))
    assert result.returncode == 2
    assert text in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_missing_renderer_names_the_packages(tmp_path):
    command = [sys.executable, "-m", "wm_planner.cli.main", "sim", "--task", "wall"]
    result = subprocess.run(
        [*command, "--output", str(tmp_path / "run")],
        env={**ENVIRONMENT, "MUJOCO_GL": "osmesa", "LD_LIBRARY_PATH": "", "PYOPENGL_PLATFORM": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode == 0 or "libosmesa6" not in result.stderr:
        pytest.skip("OSMesa is installed here")
    assert result.returncode == 2


def test_interrupt_ends_every_process(tmp_path):
    command = [sys.executable, "-m", "wm_planner.cli.main", "sim", "--task", "wall"]
    process = subprocess.Popen(
        [*command, "--episodes", "50", "--output", str(tmp_path / "run")],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "step" in process.stdout.readline()  # the robot moves
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    left = subprocess.run(
        ["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False
    ).stdout
    assert left == ""
