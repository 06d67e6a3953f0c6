"""Command-line options that every training command has."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wm_planner.cli.options import add_option, check_threads
from wm_planner.cli.parser import number, written
from wm_planner.errors import WriteError, raised_as

if TYPE_CHECKING:
    from wm_planner.training.machine import Machine


def add_training_options(parser: argparse.ArgumentParser, save_minutes: float = 10.0) -> None:
    """Run directory, device, saving, resuming, and where encoded frames are kept."""
    add_option(parser, "--output", help="run directory to write")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --output, if there is one"
    )
    parser.add_argument(
        "--save-minutes",
        type=number,
        default=save_minutes,
        metavar="M",
        help="save the state of training every M minutes (default %(default)g) and when told to "
        "stop",
    )
    where = "auto (default: cuda where there is one), cpu or cuda"
    add_option(parser, "--device", default="auto", help=where)
    add_option(parser, "--threads", default=2)
    parser.add_argument("--bf16", action="store_true", help="compute losses in bfloat16")
    parser.add_argument("--compile", action="store_true", help="compile the predictor")
    parser.add_argument(
        "--cache", type=written, metavar="DIR", help="of encoded frames (default: DATA.latents)"
    )
    parser.add_argument(
        "--cache-dtype", default="fp16", help="of encoded frames: fp16 (default) or fp32"
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="keep encoded frames in memory, for this run alone"
    )


@contextmanager
def training_machine(args: argparse.Namespace) -> Iterator[Machine]:
    """The machine that the options ask for; of torchrun's processes only the first one talks.

    Raises:
        ConfigError: an option cannot be used.
    """
    import torch

    from wm_planner.training.feature_cache import default_cache
    from wm_planner.training.machine import machine_of

    check_threads(args.threads)
    torch.set_num_threads(args.threads)
    cache = None if args.no_cache else args.cache or default_cache(args.data)
    with machine_of(
        args.device,
        bf16=args.bf16,
        compile=args.compile,
        save_minutes=args.save_minutes,
        resume=args.resume,
        cache=cache,
        cache_dtype=args.cache_dtype,
        tensorboard=True,
    ) as machine:
        if not machine.writes:
            logging.getLogger().setLevel(logging.WARNING)
        yield machine


def is_finished(args: argparse.Namespace, result: Path) -> bool:
    """Whether a run that is to be resumed has come to its end already.

    Raises:
        ConfigError: --output holds a run that is not to be resumed; said before frames are encoded.
    """
    from wm_planner.training.run_directory import check_free

    if not args.resume:
        check_free(args.output)
    elif result.exists():
        logging.getLogger(__name__).info("%s: the run has finished already", result)
        return True
    return False


@contextmanager
def kept_for_resume(output: Path) -> Iterator[None]:
    """Around writing a result: where the disk is full, says that nothing of the run is lost."""
    after = f"; {output} holds all that was trained: --resume goes on from there"
    with raised_as(WriteError, WriteError, after=after):
        yield
