"""`wm-planner view`: a live page of a robot in the browser."""

from __future__ import annotations

import argparse
import secrets
from dataclasses import replace
from functools import partial

from wm_planner.bringup import NodeSpec, RunOptions, bring_up
from wm_planner.cli.options import add_option
from wm_planner.cli.parser import path, ros_namespace, whole, word
from wm_planner.cli.preflight import check_planning, check_ros
from wm_planner.errors import ConfigError
from wm_planner.robot import RobotFile, read_robot

PORT = 8765


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "view",
        help="show a robot in the browser: pictures, plans, diagnostics, start, stop, goals",
        description="A live page of what runs in this ROS_DOMAIN_ID: simulation, 'robot run' or a "
        "launch file. Start activates the controller, Stop calls its latched stop.",
    )
    parser.add_argument(
        "file",
        type=path,
        nargs="?",
        metavar="FILE",
        help="robot file: names of its topics, and when a goal is reached",
    )
    parser.add_argument(
        "--bring-up",
        action="store_true",
        help="start the nodes of FILE, too; the controller waits for Start",
    )
    add_option(
        parser, "--checkpoint", default=None, help="with --bring-up; default: the robot file's"
    )
    add_option(parser, "--seed")
    parser.add_argument(
        "--namespace", type=ros_namespace, help="of the robot's nodes; default: none"
    )
    parser.add_argument(
        "--host",
        type=word,
        default="127.0.0.1",
        help="address to listen on (default %(default)s); others than this machine need a token, "
        "which is printed",
    )
    parser.add_argument(
        "--port", type=whole, default=PORT, help="default %(default)s; 0 takes a free one"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C.

    Returns:
        130, after Ctrl-C.

    Raises:
        WmPlannerError: something cannot be used, or a process that --bring-up started has ended.
    """
    check_ros()
    robot = None if args.file is None else read_robot(args.file)
    specs = _specs(args, robot)
    from wm_planner.cli.robot_session import Session
    from wm_planner.view.board import Board
    from wm_planner.view.node import NAME, ViewNode
    from wm_planner.view.server import Server, is_loopback

    token = "" if is_loopback(args.host) else secrets.token_urlsafe(24)
    board = Board()
    make_node = partial(ViewNode, board, robot, namespace=args.namespace or "")
    with Session(robot, specs, make_node=make_node, enclave=NAME) as session:
        board.where = _where(session.where, args.namespace or "")
        with Server(session.node, args.host, args.port, token) as server:
            print(f"view: {server.url} ({board.where}); Ctrl-C ends it", flush=True)
            while True:
                session.step()


def _specs(args: argparse.Namespace, robot: RobotFile | None) -> list[NodeSpec]:
    """What --bring-up starts.

    Raises:
        WmPlannerError: it cannot be started.
    """
    if not args.bring_up:
        if args.checkpoint is not None:
            raise ConfigError("--checkpoint: only --bring-up starts a planner; give that, too")
        return []
    if robot is None:
        raise ConfigError("--bring-up starts the nodes of a robot file; give FILE, too")
    if args.namespace or "":
        raise ConfigError("--bring-up starts nodes without a namespace; leave --namespace out")
    if args.checkpoint is not None:
        robot = replace(robot, checkpoint=args.checkpoint)
    if not robot.checkpoint:
        raise ConfigError(f"{args.file}: names no checkpoint; give --checkpoint")
    check_planning(
        robot.checkpoint, robot.name, robot.planner, robot.settings, f"{args.file}: settings"
    )
    return bring_up(robot, RunOptions(checkpoint=robot.checkpoint, record=False, seed=args.seed))


def _where(domain: str, namespace: str) -> str:
    return f"{domain}, namespace /{namespace.strip('/')}" if namespace else domain
