"""The examples run as their page says, also where the checkout is not the working directory."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim_bridge.rendering import check_rendering
from wm_planner.cli.main import build_parser
from wm_planner.errors import RenderError

from .core.bag_messages import START, episode_messages, event, write
from .nodes.domains import claim_domain

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGE = (EXAMPLES / "README.md").read_text()


def run(*command: object, cwd: Path, expected: tuple[int, ...] = (0,), **more: str) -> str:
    places = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode in expected, done.stdout + done.stderr[-2000:]
    return done.stdout


def test_the_page_names_what_there_is() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (EXAMPLES / target).exists(), target
    typed = [line for line in re.findall(r"`([^`\n]+)`", PAGE) if line.startswith("wm-planner ")]
    assert len(typed) >= 8
    for line in typed:
        build_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_scripts_are_short_and_say_what_they_are_for(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 100
    assert len(ast.get_docstring(ast.parse(file.read_text())) or "") > 60
    assert file.name in PAGE


def test_planning_reaches_the_goal(tmp_path: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("torch", reason="needs the 'model' extra")
    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "plan.py"), run_name="__main__")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4 and said[-1].endswith("reached: True")


def test_readme_shows_the_same_lines() -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert (EXAMPLES / "plan.py").read_text().endswith(shown)


def test_a_bag_becomes_tables(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    spec = importlib.util.spec_from_file_location("read_bag", EXAMPLES / "read_bag.py")
    read_bag = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(read_bag)
    messages = [("/episode", event("start", task="wall"), START), *episode_messages(10)]
    tables = read_bag.read(write(tmp_path / "bag", messages))
    joints, commands = tables["joints"], tables["commands"]
    assert list(joints.columns) == ["slide_x", "slide_y"] and len(joints) == 11
    assert joints["slide_x"].tolist() == list(range(11)) and joints.index[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(commands["slide_y"], [-i / 100 for i in range(10)])
    assert tables["plans"].empty
    assert "11 rows" in run(EXAMPLES / "read_bag.py", tmp_path / "bag", cwd=tmp_path)


@pytest.mark.timeout(300)
def test_the_driver_is_a_robot(tmp_path: Path) -> None:
    """Its robot file fits it, and a signal ends it well."""
    pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")
    graph = {"ROS_DOMAIN_ID": str(claim_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    driver = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "driver.py")], env={**os.environ, **graph}, cwd=tmp_path
    )
    try:
        check = ("-m", "wm_planner.cli.main", "robot", "check", EXAMPLES / "gantry.yaml")
        # A busy machine is slower than the robot is to be; that is no fault of the driver's.
        said = run(*check, "--seconds", 6, cwd=tmp_path, expected=(0, 1), **graph)
        for found in (
            "joints: x_axis, y_axis (2 of 2)",
            "200 x 120 rgb8; crop 40, 0, 120, 120 becomes 64 x 64",
            "/gantry_driver listens for std_msgs/msg/Float64MultiArray",
        ):
            assert f"ok  {found}" in said
    finally:
        driver.terminate()
        assert driver.wait(60) == 0
