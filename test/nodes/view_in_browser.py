"""Drives the page of the simulated arm in a real browser: a goal, Start, reached, Stop.

``python -m test.nodes.view_in_browser docs/view.png`` takes the picture of the page on its way.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .browser import Browser
from .domains import claim_domain

ROOT = Path(__file__).parents[2]
ROBOT = ROOT / "config" / "robots" / "arm_reach.yaml"
REACH_S = 150.0
FIRST_ROW = "(document.querySelector('#episodes tbody tr')?.innerText ?? '')"
# A machine that is busy with other tests plans late: the arm then follows older plans than usual.
PATIENT = {
    "stale_after_s: 1.0": "stale_after_s: 10.0",
    "checkpoint: base": "checkpoint: base\nsettings: [num_iterations=10, warm_iterations=4]",
}
STATE = "document.getElementById('controller').className"


async def drive(url: str, profile: Path, shot: Path | None) -> tuple[str, list[str]]:
    """To the simulator's goal and to a stop.

    Returns:
        What the table of episodes says, and what the browser complains of.
    """
    async with Browser(profile) as browser:
        await browser.open(url)
        goal = "#goals button"
        await browser.until(f"document.querySelector('{goal}:enabled') !== null", "a goal")
        await browser.until(f"{STATE} === 'state unconfigured'", "the controller waits")
        await browser.until("document.getElementById('camera').naturalWidth > 0", "a picture")
        await browser.click(goal)
        answer = "document.getElementById('answer').innerText"
        await browser.until(f"{answer}.startsWith('goal:')", "the planner takes the goal")
        await browser.until(f"{FIRST_ROW}.includes('waiting for Start')", "the goal")
        await browser.click("#start")
        await browser.until("document.getElementById('confirm').open", "the question")
        await browser.click("#confirm-start")
        await browser.until(f"{STATE} === 'state active'", "the controller")
        if shot is not None:
            await browser.until("document.querySelectorAll('.chart').length === 4", "charts")
            await browser.until(f"{REPLANS} > 4", "plans")
            await browser.picture(shot)
        await browser.until(f"{FIRST_ROW}.includes('reached')", "the goal is reached", REACH_S)
        row: str = await browser.ask(FIRST_ROW)
        await browser.key("Escape", 27)
        await browser.until(f"{STATE} === 'state stopped'", "the stop")
        return row, browser.complaints


REPLANS = "(document.querySelector('#chart-cost polyline')?.points.length ?? 0)"


def run(tmp: Path, shot: Path | None = None) -> tuple[str, list[str]]:
    """Start the command, drive, end the command; see `drive`."""
    text = ROBOT.read_text()
    for old, new in PATIENT.items():
        assert old in text
        text = text.replace(old, new)
    file = tmp / "arm.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "wm_planner.cli.main", "view", str(file), "--bring-up"]
    environment: dict[str, Any] = {**os.environ, "ROS_DOMAIN_ID": str(claim_domain())}
    process = subprocess.Popen(
        [*command, "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"view: (\S+)", line)
        assert found is not None, line
        return asyncio.run(drive(found[1], tmp / "profile", shot))
    finally:
        process.send_signal(2)
        process.wait(timeout=60)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        print(run(Path(directory), Path(sys.argv[1]).resolve())[0])
