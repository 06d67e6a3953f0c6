"""`wm-planner robot ...`: a robot by its file, from the first look to the way to a goal."""

from __future__ import annotations

import argparse
import importlib

from wm_planner.cli.options import add_option, add_options
from wm_planner.cli.parser import number, path, whole, written
from wm_planner.cli.preflight import check_ros

ACTIONS = {
    "check": "listen to a robot, and say what its file finds and what it misses",
    "record": "record what the robot does while others drive it; needs no checkpoint",
    "explore": "move the robot by smooth random motion, and record it; needs no checkpoint",
    "goal": "take picture and joints of now as a goal",
    "run": "drive to a goal picture, until the robot has arrived",
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("robot", help="check, record, move and run a robot by its file")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    parsers = {}
    for name, text in ACTIONS.items():
        parsers[name] = actions.add_parser(name, help=text, description=text)
        parsers[name].add_argument("file", type=path, metavar="FILE", help="robot file, YAML")
    parsers["check"].add_argument(
        "--seconds", type=number, default=5.0, help="how long to listen (default 5)"
    )
    for name in ("record", "explore"):
        bags = "directory that receives the bags"
        add_option(parsers[name], "--output", metavar="DIR", help=bags)
    add_option(parsers["record"], "--episodes", help="record so many of --seconds each, then end")
    parsers["record"].add_argument("--seconds", type=number, help="length of each episode")
    _add_explore(parsers["explore"])
    add_option(parsers["goal"], "--output", metavar="DIR")
    _add_run(parsers["run"])
    parser.set_defaults(run=run)


def _add_explore(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--episodes", required=True, metavar="N", help="how many")
    parser.add_argument(
        "--seconds", type=number, required=True, metavar="S", help="length of each episode"
    )
    add_options(parser, "--seed", "--yes")
    parser.add_argument(
        "--half-width",
        type=number,
        metavar="R",
        help="keep joints within R (radians or metres) of home; default: the position limits of "
        "the robot file, else where full speed leads in 2 s, and 0.5 at most",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", help="directory of 'train', or shipped name; default: the robot file's"
    )
    parser.add_argument("--goal", metavar="DIR", help="directory of 'robot goal', or a picture")
    parser.add_argument(
        "--episodes",
        type=whole,
        metavar="N",
        help="instead of --goal, of a simulated robot: N goals that its driver sets, and judges",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="plan, send nothing, say what limits would cut"
    )
    parser.add_argument(
        "--record", type=written, metavar="DIR", help="write a bag of the way into this directory"
    )
    parser.add_argument(
        "--time-limit",
        type=number,
        metavar="SECONDS",
        help="give up after so long (default 60; of a dry run 10)",
    )
    add_options(parser, "--yes", "--seed", "--shift", "--versions")
    add_option(parser, "--film", help="write a film of the way, at the speed at which it was gone")


def run(args: argparse.Namespace) -> int:
    """Run the chosen action; each module imports ROS, which --help does without."""
    check_ros()
    return importlib.import_module(f"wm_planner.cli.robot_{args.action}").run(args)
