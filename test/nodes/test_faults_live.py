"""A dozen faults into a live graph, as `make faults` injects a thousand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .domains import claim_domain

pytest.importorskip("rclpy")

ROOT = Path(__file__).parents[2]


def test_the_short_campaign_finds_nothing(tmp_path):
    command = [sys.executable, "-m", "faults", "--quick", "--seed", "1"]
    command += ["--domain", str(claim_domain()), "--output", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 injections of 12 kinds, 0 not as they must be" in done.stdout
