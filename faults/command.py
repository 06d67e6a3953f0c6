"""`python -m faults`: faults injected into live graphs of nodes, and what came of them.

With `kills` each process is killed over and over while episodes are recorded; with `soak` nothing
is injected, and memory and missed ticks are watched.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from faults.campaign import Campaign, main_of_stage
from faults.fault import NETWORK, PLANNER, STAND_IN
from faults.report import Report, save

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
# Share of the injections by graph. Graphs of one lane run one after the other, lanes side by side.
SHARES = {STAND_IN: 0.70, PLANNER: 0.20, NETWORK: 0.10}
LANES = ((STAND_IN, NETWORK), (PLANNER,))
QUICK = {STAND_IN: 12}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["stage"]:
        return main_of_stage(words[1:])
    args = _parser().parse_args(words)
    output = args.output or Path(tempfile.mkdtemp(prefix="wm-planner-faults-"))
    counts = {kind: round(share * args.injections) for kind, share in SHARES.items()}
    if args.quick:
        counts = QUICK
    if args.stage:
        counts = {args.stage: args.injections}
    print(f"seed {args.seed}; {args.injections} injections; logs in {output}", flush=True)
    report = Report(args.seed)
    lanes = [[kind for kind in lane if counts.get(kind)] for lane in LANES]
    campaign = Campaign(output, args.seed, args.domain, args.only, report)
    campaign.run([[(kind, counts[kind]) for kind in lane] for lane in lanes if lane])
    print(report.summary())
    if args.save:
        save(report, PAGE)
        print(f"saved {PAGE}")
    return 1 if report.problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--injections", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="decides all that is drawn (default 1)")
    parser.add_argument("--quick", action="store_true", help="a dozen, for the tests")
    parser.add_argument("--stage", choices=list(SHARES), help="inject into this graph alone")
    parser.add_argument("--only", default="", metavar="TEXT", help="faults that contain it")
    parser.add_argument("--domain", type=int, default=30, help="first ROS domain (default 30)")
    parser.add_argument("--output", type=Path, help="directory of logs and bags")
    parser.add_argument("--save", action="store_true", help="write the table of docs/faults.md")
    return parser
