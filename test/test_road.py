"""The road of a robot that this package has never heard of, walked in order as a user types it.

The robot is a stand-in whose driver imports nothing of this package. Only its robot file, below,
is known here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")
pytest.importorskip("torch", reason="needs the 'model' extra")

from .nodes.domains import claim_domain

NODES = Path(__file__).parent / "nodes"


class Road:
    """Runs commands where the stand-in arm is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "arm.yaml"
        text = (NODES / "stand_in.yaml").read_text()
        robot = yaml.safe_load(text)
        del robot["driver"]  # it runs already, as a real robot does
        # A minute of recordings makes a rough model; a person would ask for no more of it.
        robot["arrived"] = {"proprio": 0.3, "picture": 1.0, "for_s": 0.5}
        self.file.write_text(yaml.safe_dump(robot))
        self.environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(claim_domain()),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a process beside the commands, and wait for the first line that it prints."""
        process = subprocess.Popen(
            [sys.executable, *command], env=self.environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    def __call__(self, line: str, expected: int = 0) -> str:
        """Run a line as it is typed; return what it printed."""
        command = [sys.executable, "-m", "wm_planner.cli.main", *line.split()]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        text = done.stdout + done.stderr
        assert done.returncode == expected, f"wm-planner {line}\n{text[-4000:]}"
        assert "Traceback" not in text
        return text


@pytest.fixture
def road(tmp_path) -> Iterator[Road]:
    road = Road(tmp_path)
    arm = road.start(str(NODES / "stand_in_arm.py"))
    yield road
    arm.terminate()
    assert arm.wait(60) == 0


@pytest.mark.timeout(1800)
def test_the_road(road):
    assert "nothing is missing" in road("robot check arm.yaml --seconds 2")

    road("robot goal arm.yaml --output goal")  # where it is now
    hand = road.start(str(NODES / "hand.py"))
    try:
        road("robot record arm.yaml --output runs/bags --episodes 1 --seconds 8")
    finally:
        hand.terminate()
        hand.wait(60)
    road("robot explore arm.yaml --output runs/bags --episodes 3 --seconds 18 --seed 1 --yes")

    info = road("dataset info runs/bags")
    assert "stand_in_arm" in info
    road("dataset build runs/bags --output data/arm --steps 5")
    told = road("train --data data/arm --output runs/arm --updates 250 400 --threads 1")
    assert re.search(r"about [0-9.]+ (s|min)", told)
    road("eval --data data/arm --checkpoint runs/arm/checkpoint")

    run = "robot run arm.yaml --checkpoint runs/arm/checkpoint --goal goal"
    road(f"{run} --dry-run --time-limit 3")
    arrived = road(f"{run} --record runs/corrections --time-limit 150 --yes")
    assert "arrived" in arrived
    road("dataset build runs/corrections --output data/corrections --steps 5 --only success")
    tuned = "finetune --method online --checkpoint runs/arm/checkpoint --data data/arm"
    road(f"{tuned} --corrections data/corrections --output runs/tuned --num-updates 20 --threads 1")
    assert (road.directory / "runs/tuned/checkpoint/bundle.json").is_file()
