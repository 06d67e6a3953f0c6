"""What the documents say is what the code does: commands, topics, links, the example."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from wm_planner.cli.main import build_parser
from wm_planner.robot import read_robot
from wm_planner.tasks import get_task

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NODES = [*(ROOT / "wm_planner/nodes").glob("*.py"), ROOT / "sim_bridge/bridge_node.py"]
# Stand-ins of the documents for what the reader puts in.
PLACEHOLDERS = {
    "--task T": "--task wall",
    "-trajectories N": "-trajectories 1",
    "-size S": "-size 64",
}
MAKES = ("create_publisher", "create_subscription")


def commands() -> list[str]:
    found = set()
    for page in PAGES:
        for line in page.read_text().splitlines():
            line = line.strip().removeprefix(".venv/bin/")
            if line.startswith("wm-planner "):
                found.add(line.partition("#")[0].strip())
    return sorted(found)


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line):
    for written, meant in PLACEHOLDERS.items():
        line = line.replace(written, meant)
    build_parser().parse_args(shlex.split(line)[1:])


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    text = "".join(page.read_text() for page in PAGES)
    for target in set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", text)):
        assert re.search(rf"(?m)^{target}:", makefile), target


def topics_of(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in MAKES:
            names |= {
                arg.value
                for arg in node.args
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            }
    return names


def test_the_table_of_topics_is_complete():
    table = (ROOT / "README.md").read_text().split("## Topics")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    used = set().union(*(topics_of(file) for file in NODES)) - {"clock"}
    assert told == used | {"/diagnostics"}  # every node's, from ros/base.py


def test_the_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    env = gymnasium.make(get_task("wall").env_id, image_size=64)
    seen, info = env.reset(seed=0)
    env.close()
    names = {
        "goal_image": info["goal_image"],
        "goal_proprio": info["goal_proprio"],
        "images": seen["image"][None],
        "proprio": seen["proprio"][None],
    }
    for block in blocks:
        exec(block, names)
    actions = names["plan"].actions
    assert actions.shape == (25, 2) and np.isfinite(actions).all()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http") and not target.endswith("*.yaml"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "file", sorted((ROOT / "config/robots").glob("*.yaml")), ids=lambda f: f.name
)
def test_robot_examples_are_read(file):
    assert read_robot(file).embodiment


def flows() -> dict[str, list[str]]:
    """Heading of each flow in the page on architecture -> its hops, 'file: function'."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    part = page.partition("## How data goes")[2].partition("\n## ")[0]
    blocks = re.findall(r"### (.*?)\n+```mermaid\n(.*?)```", part, re.DOTALL)
    return {name: re.findall(r"<br>([\w/]+\.py: [\w.]+)", block) for name, block in blocks}


@pytest.mark.parametrize("name", flows())
def test_each_hop_of_a_flow_is_a_function_that_exists(name):
    hops = flows()[name]
    assert 3 <= len(hops) <= 6
    for hop in hops:
        file, _, path = hop.partition(": ")
        body = ast.parse((ROOT / "wm_planner" / file).read_text()).body
        for part in path.split("."):
            kinds = (ast.ClassDef, ast.FunctionDef)
            found = [n for n in body if isinstance(n, kinds) and n.name == part]
            assert found, hop
            body = found[0].body


def test_the_five_flows_are_drawn():
    assert len(flows()) == 5
