"""`wm-planner`: one command, its subcommands in a table.

A subcommand's module is imported when it is asked for; importing it stays cheap, so that
``--help`` needs neither torch nor ROS.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence

from wm_planner import __version__
from wm_planner.cli.examples import add_examples
from wm_planner.cli.parser import Parser
from wm_planner.config import suggest
from wm_planner.errors import WmPlannerError
from wm_planner.extras import way_out

COMMANDS = {
    "robot": "wm_planner.cli.robot",
    "sim": "wm_planner.cli.sim",
    "view": "wm_planner.cli.view",
    "eval": "wm_planner.cli.eval",
    "results": "wm_planner.cli.results",
    "ablation": "wm_planner.cli.ablation",
    "frontier": "wm_planner.cli.frontier",
    "plot": "wm_planner.cli.plot",
    "collect": "wm_planner.cli.collect",
    "dataset": "wm_planner.cli.dataset",
    "train": "wm_planner.cli.train",
    "probe": "wm_planner.cli.probe",
    "finetune": "wm_planner.cli.finetune",
    "learn": "wm_planner.cli.learn",
    "import": "wm_planner.cli.import_",
    "calibrate": "wm_planner.cli.calibrate",
    "export": "wm_planner.cli.export",
    "info": "wm_planner.cli.info",
    "doctor": "wm_planner.cli.doctor",
    "completion": "wm_planner.cli.completion",
}

_LONGEST = 1200  # characters of an error; findings of several lines fit


def build_parser(names: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser with the given subcommands."""
    parser = Parser(
        prog="wm-planner",
        description="Closed-loop robot control by planning through a learned visual world model.",
    )
    parser.add_argument("--version", action="version", version=f"wm-planner {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        module = importlib.import_module(COMMANDS[name])
        module.add_parser(subparsers)
        subparsers.choices[name].set_defaults(run=module.run)
    add_examples(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        Its exit code; 2 for an error that the user can mend, 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # of a locale that lacks a character of a name
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("OpenGL").setLevel(logging.WARNING)  # it tells of what it does without
    name = argv[0] if argv else ""
    try:
        if name and not name.startswith("-") and name not in COMMANDS:
            return _fail(f"unknown command '{name}'.{suggest(name, COMMANDS)}")
        parser = build_parser([name] if name in COMMANDS else tuple(COMMANDS))
        try:
            args = parser.parse_args(argv)
        except SystemExit as end:  # after --help, or what the parser has said is wrong
            return int(end.code or 0)
        return args.run(args)
    except WmPlannerError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("wm_planner", "sim_bridge", ""):
            raise
        return _fail(
            f"'{name}' needs the Python module '{error.name}', which is not installed: "
            f"{way_out(error.name or '')}"
        )
    except BrokenPipeError:  # the reader of our output, `head` for example, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is not None:
            return _fail(f"{error.filename}: {error.strerror}")
        if not _has_directory():
            return _fail("the working directory is gone or cannot be read; change to another one")
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        return _fail(f"standard output or a temporary file: {error.strerror}; make room there")
    except MemoryError:
        return _fail("not enough memory; ask for less, or run on a larger machine")
    except KeyboardInterrupt:
        return 130


def _has_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _fail(message: str) -> int:
    if len(message) > _LONGEST:  # it repeats a value without end
        message = f"{message[:_LONGEST]} ..."
    sys.stderr.write(f"wm-planner: error: {message}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
