"""What the documents say is what the code does: commands, lines, topics, links, figures."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from wm_planner.cli.main import build_parser
from wm_planner.robot import read_robot

from .doc_blocks import ROOT, RUN, SHOWN, Block, Desk, blocks, pages
from .nodes.domains import claim_domain

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks(page)]
NODES = [*(ROOT / "wm_planner/nodes").glob("*.py"), ROOT / "sim_bridge/bridge_node.py"]
MAKES = ("create_publisher", "create_subscription")


def commands() -> list[str]:
    """Each `wm-planner` line of a block, and each one that stands whole in a sentence."""
    told = re.findall(r"`(wm-planner [^`]*)`", "\n".join(page.read_text() for page in PAGES))
    found = {re.sub(r"\s+", " ", line) for line in told if "--" in line and "..." not in line}
    for block in BLOCKS:
        # Up to a remark, or to a file that the shell writes.
        lines = [re.split(r"#| > ", line)[0].strip() for line in block.text.splitlines()]
        found |= {line for line in lines if re.match("wm-planner [a-z]", line)}
    return sorted(found)


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line):
    build_parser().parse_args(shlex.split(line)[1:])


def test_every_block_is_run_or_is_no_code():
    wrong = [block.name for block in BLOCKS if block.language not in (*RUN, *SHOWN)]
    assert not wrong, f"blocks of no known language: {wrong}"


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "yaml"], ids=lambda block: block.name
)
def test_yaml_of_the_documents_is_read(block, tmp_path):
    values = yaml.safe_load(block.text)
    if "action" in values:  # a whole robot file
        (tmp_path / "robot.yaml").write_text(block.text)
        assert read_robot(tmp_path / "robot.yaml").embodiment


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Desk:
    return Desk(tmp_path_factory.mktemp("docs") / "desk", claim_domain())


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.runs and not b.mark], ids=lambda block: block.name
)
def test_lines_run_as_they_are_typed(block: Block, desk: Desk):
    """Those that are slow are run by `make docs-check`."""
    pytest.importorskip("torch", reason="needs the 'model' extra")
    pytest.importorskip("mujoco", reason="needs the 'sim' extra")
    code, text = desk.run(block, timeout_s=240)
    assert code == 0, text


def test_the_desk_sees_a_line_that_fails(desk: Desk):
    block = Block(ROOT / "README.md", 1, "bash", "", "false\necho not reached\n")
    assert desk.run(block, timeout_s=60) == (1, "")


def test_readme_is_two_screens_and_its_example_fifteen_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 110
    [example] = [b for b in blocks(ROOT / "README.md") if b.language == "python"]
    assert sum(bool(line.strip()) for line in example.text.splitlines()) <= 15


def test_the_site_is_built_without_warnings(tmp_path):
    if importlib.util.find_spec("material") is None:
        pytest.skip("needs the 'docs' extra")
    command = ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_figure_has_its_data_and_is_shown():
    place = ROOT / "docs" / "experiments"
    drawn = {file.stem for file in place.glob("*.svg")}
    assert drawn == {file.stem for file in place.glob("data/*.csv")}
    text = "".join(page.read_text() for page in PAGES)
    assert not [name for name in drawn if f"{name}.svg)" not in text]


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
    table = (ROOT / "docs" / "topics.md").read_text().split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    used = set().union(*(topics_of(file) for file in NODES)) - {"clock"}
    assert told == used | {"/diagnostics"}  # every node's, from ros/base.py


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
