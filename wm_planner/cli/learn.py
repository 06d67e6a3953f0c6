"""`wm-planner learn`: recorded episodes become versions of a running robot's checkpoint."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wm_planner.cli.background import go_on_in_background
from wm_planner.cli.options import add_option
from wm_planner.cli.parser import directory, number
from wm_planner.config import flat, from_dict, parse_settings, to_dict
from wm_planner.errors import ConfigError, WmPlannerError

if TYPE_CHECKING:
    from wm_planner.learning.report import Report
    from wm_planner.learning.settings import Learning


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    text = "learn from recorded episodes beside the running robot, and publish new versions"
    parser = subparsers.add_parser("learn", help=text, description=text)
    parser.add_argument(
        "bags", type=directory, metavar="BAGS", help="directory that receives the bags"
    )
    parser.add_argument("--checkpoint", required=True, help="shipped name, or directory")
    add_option(
        parser,
        "--output",
        help="directory whose 'versions' receives the versions; name it to the planner",
    )
    parser.add_argument(
        "--method",
        choices=("base", "online", "adversarial", "all"),
        default="online",
        help="online (default) mixes episodes and the core set, adversarial perturbs them, base "
        "draws from both as they are, all tries each",
    )
    another = "another setting, for example every=10; may be repeated"
    add_option(parser, "--set", help=another)
    parser.add_argument("--once", action="store_true", help="end when nothing is left to learn")
    parser.add_argument(
        "--period", type=number, default=2.0, metavar="S", help="look every S seconds (default 2)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Learn until told to stop.

    Returns:
        0; 130 after Ctrl-C.

    Raises:
        WmPlannerError: the checkpoint, a setting or the output cannot be used.
    """
    if not args.period > 0:
        raise ConfigError(f"--period must be positive, got {args.period:g}")
    import torch

    from wm_planner.learning.rounds import Rounds

    config = learning_of(args)
    torch.set_num_threads(1)
    rounds = Rounds(args.bags, args.checkpoint, args.output, config)
    code = go_on_in_background()  # torch has one thread, and DDS none yet
    if code is not None:
        return code
    for note in rounds.notes:
        print(note, flush=True)
    print(f"learning from {args.bags}; versions go to {args.output / 'versions'}", flush=True)
    with Teller() as teller:
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        refused: dict[str, str] = {}
        while not stop.is_set():
            report = _tried(rounds.work, teller)
            for name, reason in rounds.episodes.refused().items():
                if refused.setdefault(name, reason) is reason:
                    print(f"episode {name} is not learnt from: {reason}", flush=True)
            if report is not None:
                print(report.line(), flush=True)
                teller.tell(report)
            elif args.once:
                break
            else:
                teller.wait(stop, args.period)
    return 0


def learning_of(args: argparse.Namespace) -> Learning:
    """The settings of the command line.

    Raises:
        ConfigError: an unknown key or a value that cannot be used.
    """
    from wm_planner.learning.settings import Learning

    values = {**to_dict(Learning()), "method": args.method}
    for key, value in parse_settings(args.settings, "--set").items():
        group, _, name = key.rpartition(".")
        if group and isinstance(values.get(group), dict):
            values[group][name] = value
        else:
            values[key] = value
    return from_dict(Learning, values, "--set")


def _tried(work: Any, teller: Teller) -> Report | None:
    """A round; a full disk or a training that diverges does not end the learner."""
    try:
        report: Report | None = work()
        return report
    except (WmPlannerError, OSError) as error:  # a bag that was moved meanwhile
        print(f"no round: {error}", flush=True)
        teller.tell_problem(str(error))
        return None


class Teller:
    """Tells of rounds on ``/diagnostics``, where ROS is there; use as a ``with`` block."""

    def __init__(self) -> None:
        self._listener: Any = None

    def __enter__(self) -> Teller:
        try:
            from wm_planner.cli.learner_node import NAME, LearnerNode
            from wm_planner.cli.listener import Listener
            from wm_planner.cli.robot_session import robot_environment
        except ImportError:
            return self
        domain = int(robot_environment(None, os.environ)["ROS_DOMAIN_ID"])
        self._listener = Listener(domain, LearnerNode, NAME)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()

    def tell(self, report: Report) -> None:
        """Of a round."""
        if self._listener is not None:
            values = flat({**asdict(report), "directory": str(report.directory)})
            self._listener.node.tell(bool(report.reason), report.line(), values)

    def tell_problem(self, text: str) -> None:
        """Of a round that could not be made."""
        if self._listener is not None:
            self._listener.node.tell(True, text, {})

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Until it is time to look again; what is newest is told again meanwhile."""
        if self._listener is None:
            stop.wait(seconds)
            return
        self._listener.spin_until(stop.is_set, seconds)
        self._listener.node.tell_again()
