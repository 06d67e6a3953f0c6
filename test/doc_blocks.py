"""The fenced blocks of README and documents, in the order in which a reader meets them.

A block is run as it is typed, unless the line above it says why not:

    <!-- not run: needs a robot -->        it needs something that a test has not, or takes hours
    <!-- slow: 40 s -->                    `make docs-check` runs it, the other tests do not
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"<!-- (not run: (?:needs|takes) .+|slow: .+) -->")
FENCE = re.compile(r"^```(\S*)")
RUN = ("bash", "python")
SHOWN = ("mermaid", "text", "toml", "yaml")
LEFT_OUT = {".git", ".venv", "runs", "data", "build"}  # of the checkout, where lines are run
QUESTION = b"type yes:"


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, the mark above it ('' for none), its text."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def name(self) -> str:
        """Page and line, as an editor understands them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether it can be run here, however long that takes."""
        return self.language in RUN and not self.mark.startswith("not run")


def pages() -> list[Path]:
    """README, then the pages of the site in the order of its navigation, then CONTRIBUTING."""
    text = re.sub(r"!!python/\S+", "", (ROOT / "mkdocs.yml").read_text())

    def files(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        children = node.values() if isinstance(node, dict) else node
        return [file for child in children for file in files(child)]

    found = [ROOT / "docs" / file for file in files(yaml.safe_load(text)["nav"])]
    pages = [page for page in found if page.name != "index.md"]  # which is README
    return [ROOT / "README.md", *pages, ROOT / "CONTRIBUTING.md"]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order.

    Raises:
        ValueError: a comment looks like a mark and is none.
    """
    found, begin, language, mark, before = [], 0, "", "", ""
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if begin and line.startswith("```"):
            text = "\n".join(lines[begin : number - 1]) + "\n"
            found.append(Block(page, begin, language, mark, text))
            begin = 0
        elif fence and not begin:
            begin, language, mark = number, fence[1], ""
            if before.startswith("<!--"):
                given = MARK.fullmatch(before)
                if not given:
                    raise ValueError(f"{page}:{number - 1}: {before} is no mark: see {__file__}")
                mark = given[1]
        before = line
    return found


class Desk:
    """A directory like a fresh checkout, in which lines are typed; `place` does not exist yet."""

    def __init__(self, place: Path, domain: int) -> None:
        self.directory = place / "wm_planner"
        self.directory.mkdir(parents=True)
        shutil.copytree(ROOT / "examples", self.directory / "examples")  # pip builds inside
        for path in ROOT.iterdir():
            if path.name not in (*LEFT_OUT, "examples"):
                (self.directory / path.name).symlink_to(path)
        activate = self.directory / ".venv" / "bin" / "activate"  # this Python is it already
        activate.parent.mkdir(parents=True)
        activate.touch()
        commands = place / "bin"
        commands.mkdir()
        modules = {"python": "", "pip": "-m pip", "wm-planner": "-m wm_planner.cli.main"}
        for name, module in modules.items():
            (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
            (commands / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{commands}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{place / 'site'}:{os.environ.get('PYTHONPATH', '')}",
            # What pip installs goes beside the desk, and pip takes nothing from the network.
            "PIP_TARGET": str(place / "site"),
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # which pip reads as: do not isolate
            "OMP_NUM_THREADS": "1",
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        }

    def run(self, block: Block, timeout_s: float) -> tuple[int, str]:
        """Run a block as it is typed, on a terminal, saying yes where a robot may move.

        Returns:
            The first exit code that is not 0, or 0; and what was printed.
        """
        interpreter = ["bash", "-e", "-c"] if block.language == "bash" else ["python", "-c"]
        keyboard, terminal = pty.openpty()
        process = subprocess.Popen(
            [*interpreter, block.text],
            cwd=self.directory,
            env=self.environment,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(terminal)
        assert process.stdout is not None
        said, end_s = b"", time.monotonic() + timeout_s
        try:
            while time.monotonic() < end_s:
                if not select.select([process.stdout], [], [], 1.0)[0]:
                    continue
                new = os.read(process.stdout.fileno(), 65536)
                if not new:
                    return process.wait(), said.decode(errors="replace")
                asked = said.count(QUESTION)
                said += new
                if said.count(QUESTION) > asked:
                    os.write(keyboard, b"yes\n")
            return 124, said.decode(errors="replace")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)
            os.close(keyboard)
