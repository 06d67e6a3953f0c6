"""Can this package be installed? A dry run for each Python, machine and ROS distribution.

uv resolves all requirements of setup.py, as constraints.txt pins them, from wheels alone: what
resolves needs no compiler. What resolves together resolves apart, so one run speaks for all extras
of its machine.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
MACHINES = {
    "Linux x86_64": "x86_64-manylinux_2_28",
    "Linux aarch64": "aarch64-manylinux_2_28",
    "macOS arm64": "aarch64-apple-darwin",
}
# Distribution -> Python and numpy of its Ubuntu, which its messages are compiled for.
DISTRIBUTIONS = {
    "Humble": ("3.10", "1.21.5"),
    "Jazzy": ("3.12", "1.26.4"),
    "Kilted": ("3.12", "1.26.4"),
    "Lyrical": ("3.14", "2.3.5"),
}
# What nobody has built wheels for, and what that costs: a package that marks a machine -> its name.
MISSING = {"ros-rclpy": "`ros`", "pymunk": "gym-pusht"}
# The one requirement that is published as source alone. It is plain Python.
OVERRIDES = "empy; python_version < '0'\n"
MACOS = "14.0"  # the oldest that torch has wheels for
BEGIN, END = "<!-- tables of tools/resolve.py -->", "<!-- end of the tables -->"


@dataclass(frozen=True)
class Case:
    """One machine: its Python, its platform in uv's words, and the numpy of its ROS 2, if any."""

    python: str
    platform: str
    numpy: str = ""


def requirements() -> dict[str, list[str]]:
    """Requirements by extra, '' for those of the package itself."""
    with patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    options = setup.call_args.kwargs
    return {"": options["install_requires"], **options["extras_require"]}


def constraints(case: Case) -> str:
    """Those the Makefile takes: constraints.txt, or, beside ROS 2, little more than its numpy."""
    text = (ROOT / "constraints.txt").read_text()
    if not case.numpy:
        return text
    kept = [line for line in text.splitlines() if re.match("(torch|setuptools)==", line)]
    return "\n".join([*kept, f"numpy=={case.numpy}"]) + "\n"


def resolve(case: Case, wanted: list[str], work: Path) -> tuple[bool, str]:
    """Whether the requirements resolve, and to what, or why not."""
    name = "-".join([case.python, case.platform, case.numpy])
    pins, overrides = work / f"{name}.constraints", work / "overrides"
    pins.write_text(constraints(case))
    overrides.write_text(OVERRIDES)
    command = ["uv", "pip", "compile", "-", "--quiet", "--no-build", "--no-header", "--no-annotate"]
    command += ["--no-python-downloads", "--python", sys.executable, "--constraints", str(pins)]
    command += ["--overrides", str(overrides)]
    command += ["--python-version", case.python, "--python-platform", case.platform]
    done = subprocess.run(
        command,
        input="\n".join(wanted),
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS},
        text=True,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0, done.stdout if done.returncode == 0 else done.stderr


def outcome(case: Case, wanted: dict[str, list[str]], work: Path) -> tuple[str, list[str]]:
    """A cell of the table, and what is wrong: a line for each extra that does not resolve."""
    extras = [name for name in wanted if not (case.numpy and name == "ros")]
    done, said = resolve(case, [line for name in extras for line in wanted[name]], work)
    if done:
        found = {line.partition("==")[0] for line in said.splitlines()}
        left_out = [name for package, name in MISSING.items() if package not in found]
        left_out = [name for name in left_out if not (case.numpy and name == "`ros`")]
        return " and ".join(["all but " + left_out[0], *left_out[1:]]) if left_out else "all", []
    problems = []
    for name in extras:
        alone, said = resolve(case, [*wanted[""], *wanted[name]], work)
        if not alone:
            problems.append(f"extra '{name}': {' '.join(said.split())}")
    return "does not resolve", problems or [f"all together: {' '.join(said.split())}"]


def tables(report: dict[Case, str]) -> str:
    """Both tables as Markdown."""
    lines = [f"| Python | {' | '.join(MACHINES)} |", "|---" * (len(MACHINES) + 1) + "|"]
    for python in PYTHONS:
        cells = [report[Case(python, platform)] for platform in MACHINES.values()]
        lines.append(f"| {python} | {' | '.join(cells)} |")
    linux = [name for name in MACHINES if name.startswith("Linux")]
    lines += ["", f"| beside ROS 2 | Python, numpy | {' | '.join(linux)} |", "|---|---|---|---|"]
    for name, (python, numpy) in DISTRIBUTIONS.items():
        cells = [report[Case(python, MACHINES[machine], numpy)] for machine in linux]
        lines.append(f"| {name} | {python}, {numpy} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cases() -> list[Case]:
    """Those of both tables."""
    found = [Case(python, platform) for python in PYTHONS for platform in MACHINES.values()]
    for python, numpy in DISTRIBUTIONS.values():
        for machine, platform in MACHINES.items():
            if machine.startswith("Linux"):
                found.append(Case(python, platform, numpy))
    return list(dict.fromkeys(found))


def replaced(page: Path, text: str) -> str:
    """The page with `text` between its marks.

    Raises:
        SystemExit: it has no marks.
    """
    before, begin, rest = page.read_text().partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page}: no lines '{BEGIN}' and '{END}' for the tables to stand between")
    return f"{before}{begin}{text}{end}{after}"


def main() -> int:
    """Print the tables.

    Returns:
        0; 1 when something does not resolve, or the page says otherwise.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", type=Path, metavar="PAGE", help="compare with this page's tables")
    what.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page")
    options = parser.parse_args()
    wanted = requirements()
    with TemporaryDirectory() as work, ThreadPoolExecutor(4) as pool:
        done = pool.map(lambda case: outcome(case, wanted, Path(work)), cases())
        results = dict(zip(cases(), done, strict=True))
    text = tables({case: cell for case, (cell, _) in results.items()})
    print(text, end="")
    problems = [f"{case}: {said}" for case, (_, saids) in results.items() for said in saids]
    page = options.check or options.write
    if page is not None and (new := replaced(page, text)) != page.read_text():
        if options.write:
            page.write_text(new)
        else:
            problems.append(f"{page}: its tables are others; run `make resolve-write`")
    for problem in problems:
        print(f"!! {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
