"""A simulated task in somebody else's package: installed, found, collected, trained and driven."""

from __future__ import annotations

import json

import pytest

from .installed import ROOT, install

EXAMPLE = ROOT / "examples" / "cart_task"

pytest.importorskip("mujoco", reason="needs the 'sim' extra")
pytest.importorskip("setuptools", reason="the example is installed with it")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Runs `wm-planner` where the example is installed."""
    run = install("cart_task", tmp_path_factory.mktemp("cart_task"))
    return lambda *arguments: run("-m", "wm_planner.cli.main", *arguments)


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
