"""A simulated task in somebody else's package: installed, found, collected, trained and driven."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "cart_task"

pytest.importorskip("mujoco", reason="needs the 'sim' extra")
pytest.importorskip("setuptools", reason="the example is installed with it")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Runs `wm-planner` where the example is installed and this package knows nothing of it."""
    source, target = (
        tmp_path_factory.mktemp("source") / "cart_task",
        tmp_path_factory.mktemp("site"),
    )
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    subprocess.run(pip, check=True, capture_output=True, timeout=90)
    path = os.pathsep.join([str(target), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "wm_planner.cli.main", *arguments]
        done = subprocess.run(
            program, env=environment, capture_output=True, text=True, timeout=300, cwd=target
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done

    return run


def test_the_example_is_short():
    """What the documents promise: a module, an XML and an entry point in about a hundred lines."""
    files = ["cart_task/__init__.py", "cart_task/assets/cart.xml", "pyproject.toml"]
    assert sum(len((EXAMPLE / file).read_text().splitlines()) for file in files) <= 110


@pytest.mark.timeout(400)
def test_the_whole_way(command, tmp_path):
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    count = ["--num-trajectories", "24", "--steps", "8", "--workers", "1"]
    command("collect", "--task", "cart", *count, "--output", data)
    command("train", "--data", data, "--output", run, "--updates", "30", "60", "--threads", "1")
    checkpoint = ["--task", "cart", "--checkpoint", f"{run}/checkpoint"]
    result = tmp_path / "result.json"
    command("eval", *checkpoint, "--episodes", "4", "--json", str(result))
    assert json.loads(result.read_text())["episodes"] == 4
    pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")
    driven = tmp_path / "sim.json"
    out = ["--output", str(tmp_path / "sim"), "--json", str(driven), "--episodes", "2"]
    command("sim", *checkpoint, *out)
    assert json.loads(driven.read_text())["task"] == "cart"
    info = command("dataset", "info", data, "--contact-sheet", str(tmp_path / "sheet.png"))
    assert "embodiment: cart" in info.stdout
