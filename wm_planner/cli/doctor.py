"""`wm-planner doctor`: what of this machine works, and the way out of what does not.

Each check that loads a large library, or may crash in a driver, runs in a process of its own, all
of them side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from wm_planner.cli.parser import path, whole

TIMEOUT_S = 90.0  # for one process; on a machine at rest all of them take some seconds
CHECKPOINT = "arm_reach-base"  # that is loaded unless another is named
PROBES = "wm_planner.cli.doctor_probes"


class Level(str, Enum):
    """How a line is meant."""

    OK = "OK"
    WARN = "WARN"  # something is not there that not everybody needs
    FAIL = "FAIL"  # something is there, or was asked for, and does not work


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: what was looked at.
        level: whether it works.
        text: what was found, with the way out.
    """

    topic: str
    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level.value:<5} {self.topic:<11} {self.text}"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what of this machine works, and the way out of what does not",
        description="Exit code 0: nothing failed. 1: something that is installed, or that an "
        "option names, does not work. A WARN is something that not everybody needs.",
    )
    parser.add_argument(
        "--camera",
        metavar="SOURCE",
        help="take a picture of /dev/video0, of an rtsp:// address or of a ROS topic "
        "(default: the first /dev/video, if there is one)",
    )
    parser.add_argument(
        "--checkpoint",
        default=CHECKPOINT,
        help="shipped name or directory to load (default %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=path,
        default=Path("runs"),
        metavar="DIR",
        help="where there must be room (default %(default)s)",
    )
    parser.add_argument(
        "--domain",
        type=whole,
        metavar="ID",
        help="in which two processes must find each other (default ROS_DOMAIN_ID, or 0)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a line for each check, as soon as those before it are there.

    Returns:
        0 when nothing failed, else 1.

    Raises:
        ConfigError: --domain, or ROS_DOMAIN_ID, is none.
    """
    failed = warned = 0
    for finding in findings(args):
        print(finding, flush=True)
        failed += finding.level == Level.FAIL
        warned += finding.level == Level.WARN
    print(f"{failed} failed, {warned} to know of" if failed or warned else "all is well")
    return 1 if failed else 0


def findings(args: argparse.Namespace) -> Iterator[Finding]:
    """The lines of the report, in their order."""
    from wm_planner.cli import doctor_checks as checks
    from wm_planner.cli.preflight import child_environment

    domain = os.environ.get("ROS_DOMAIN_ID") or "0" if args.domain is None else str(args.domain)
    environment = child_environment({**os.environ, "ROS_DOMAIN_ID": domain})
    clock = checks.ClockWatch()
    with ThreadPoolExecutor(4) as pool:

        def start(topics: str, *arguments: str) -> Future[list[Finding]]:
            return pool.submit(probe, topics.split(","), arguments, environment)

        learning = start("torch,GPU,checkpoint", "learning", args.checkpoint)
        ros = start("ROS,DDS", "ros")
        drawing = pool.submit(checks.drawing, environment)
        camera = pool.submit(checks.camera, args.camera, environment)
        yield checks.python()
        yield checks.extras()
        torch, gpu, checkpoint = learning.result()
        yield from (torch, gpu, drawing.result(), *ros.result(), camera.result(), checkpoint)
    yield checks.disk(args.output)
    yield clock.finding()


def probe(
    topics: Sequence[str], arguments: Sequence[str], environment: dict[str, str]
) -> list[Finding]:
    """Run a probe in another process.

    Args:
        topics: of the findings that it gives, in this order.
        arguments: name of the probe, and what it is given.
        environment: of the process.

    Returns:
        A finding for each topic; those that a process could not give any more have failed.
    """
    command = [sys.executable, "-m", PROBES, *arguments]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
        output, said = done.stdout, done.stderr
        end = f"its process ended with code {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output, said = _text(error.stdout), _text(error.stderr)
        end = f"no answer within {TIMEOUT_S:g} s: end what keeps this machine busy, and try again"
    found = {finding.topic: finding for finding in parsed(output)}
    words = next(iter(said.strip().splitlines()[-1:]), "")
    text = f"{end}{words and ': '}{words}"
    return [found.get(topic, Finding(topic, Level.FAIL, text)) for topic in topics]


def _text(output: bytes | str | None) -> str:
    """What a process had said when its time was up: bytes, whatever was asked for."""
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def told(finding: Finding) -> str:
    """A finding as the line by which a probe tells it."""
    return json.dumps(asdict(finding))


def parsed(output: str) -> list[Finding]:
    """Findings among what a probe printed; libraries print, too."""
    found = []
    for line in output.splitlines():
        try:
            value = json.loads(line)
            found.append(Finding(value["topic"], Level(value["level"]), value["text"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found
