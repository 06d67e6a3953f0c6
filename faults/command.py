"""`python -m faults`: faults injected into live graphs of nodes, and what came of them.

With `kills` each process is killed over and over while episodes are recorded; with `soak` nothing
is injected, and memory and missed ticks are watched.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from faults.campaign import Campaign, Part, faults_of, main_of_stage
from faults.fault import NETWORK, PLANNER, REMOTE, STAND_IN
from faults.report import Report, heading, save
from faults.soak import soak

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
# Share of the injections by graph. Graphs of one lane run one after the other. Lanes run side by
# side where there are processors for both.
SHARES = {STAND_IN: 0.66, PLANNER: 0.20, NETWORK: 0.07, REMOTE: 0.07}
LANES = ((STAND_IN, NETWORK, REMOTE), (PLANNER,))
# For the tests: a few of each subject, and patience with a machine that is busy.
QUICK = (
    "camera: cut off|camera: one cut off|camera: silence|joints: NaN, all|joints: silence|"
    "plan: NaN, all|plan: other names|plan: stamps 1 h ahead|controller: stop|"
    "episode: no stamp|controller: killed|recorder: killed"
)
QUICK_SLACK_S = 30.0
KILLED = ": killed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["stage"]:  # one graph, in a process of its own
        return main_of_stage(words[1:])
    args = _parser().parse_args(words)
    output = args.output or Path(tempfile.mkdtemp(prefix="wm-planner-faults-"))
    print(f"seed {args.seed}; logs in {output}", flush=True)
    if args.what == "soak":
        text, good = soak(args.minutes, output, args.domain, args.seed)
        text = f"{heading(args.seed)}: {text}"
        print(text)
    else:
        report = Report(args.seed)
        parts = _kills(args.each) if args.what == "kills" else _campaign(args)
        Campaign(output, args.seed, args.domain, report).run(parts)
        print(report.summary())
        text, good = report.table(), not report.problems
    if args.save:
        save(text, PAGE, args.what)
        print(f"saved {PAGE}")
    return 0 if good else 1


def _campaign(args: argparse.Namespace) -> list[list[Part]]:
    """Lanes of the campaign."""
    counts = {kind: round(share * args.injections) for kind, share in SHARES.items()}
    if args.quick:
        count = len(QUICK.split("|"))
        return [[Part(STAND_IN, count, QUICK, slack_s=QUICK_SLACK_S)]]
    if args.stage:
        counts = {args.stage: args.injections}
    lanes = LANES if (os.cpu_count() or 1) >= 4 else (tuple(sum(LANES, ())),)
    lanes = [[kind for kind in lane if counts.get(kind)] for lane in lanes]
    return [[Part(kind, counts[kind], args.only) for kind in lane] for lane in lanes if lane]


def _kills(each: int) -> list[list[Part]]:
    """Every process as often; an episode begins before each kill and ends after it."""
    by_stage: dict[str, list[str]] = {STAND_IN: [], PLANNER: []}
    for kind, names in by_stage.items():
        elsewhere = {name for other in by_stage.values() for name in other}
        names += [f.name for f in faults_of(kind) if KILLED in f.name and f.name not in elsewhere]
    return [
        [Part(kind, each, name, per_episode=1) for name in names]
        for kind, names in by_stage.items()
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", default="campaign", choices=("campaign", "kills", "soak")
    )
    parser.add_argument("--each", type=int, default=100, help="kills of each process (100)")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the soak (30)")
    parser.add_argument("--injections", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="decides all that is drawn (default 1)")
    parser.add_argument("--quick", action="store_true", help="a dozen, for the tests")
    parser.add_argument("--stage", choices=list(SHARES), help="inject into this graph alone")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="faults that contain it; or one of A|B|C"
    )
    parser.add_argument("--domain", type=int, default=30, help="first ROS domain (default 30)")
    parser.add_argument("--output", type=Path, help="directory of logs and bags")
    parser.add_argument("--save", action="store_true", help="write it into docs/faults.md")
    return parser
