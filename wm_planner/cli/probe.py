"""`wm-planner probe`: can a latent be planned in? Asked of an encoder before a model is trained."""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from wm_planner.cli.options import add_options, check_numbers, check_writable
from wm_planner.cli.parser import path, whole
from wm_planner.errors import CheckpointError, ConfigError, DatasetError, WriteError

if TYPE_CHECKING:
    from wm_planner.data.dataset import Dataset
    from wm_planner.evaluation.encoded import Encode, Frames
    from wm_planner.evaluation.probe import Probe
    from wm_planner.models.bundle import Bundle

logger = logging.getLogger(__name__)
ENCODER = "encoder.safetensors"
PROBE = "probe.json"  # in the run directory of an encoder
IN_TRAINING = 1500  # frames that 'train' looks at
UNSEEN_SEED = 1_000_003  # of collected trajectories: not those that recipes train on


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "probe", help="can a latent be planned in? what it shows, its distances, the model's error"
    )
    parser.add_argument(
        "checkpoint",
        help="shipped name, checkpoint, or run directory of 'train' or of 'train encoder', which "
        "needs no model",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=path, help="data set of any layout that can be read")
    where.add_argument("--task", help="or a simulated task, where trajectories are collected first")
    parser.add_argument("--reader", metavar="KIND", help="of --data (default: told by its files)")
    parser.add_argument(
        "--robot", type=path, metavar="FILE", help="robot file, where --data do not say of which"
    )
    parser.add_argument(
        "--trajectories", type=whole, default=60, help="that --task collects (default 60)"
    )
    parser.add_argument(
        "--frames", type=whole, default=3000, help="that are looked at (default %(default)s)"
    )
    add_options(parser, "--seed", "--threads", "--device", "--json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Probe, and print tables and verdict.

    Returns:
        0, whatever the verdict.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    import torch
    from tqdm import tqdm

    from wm_planner.evaluation.encoded import read_frames
    from wm_planner.evaluation.probe import probe
    from wm_planner.evaluation.verdict import text
    from wm_planner.files import write_json

    check_numbers(args, trajectories=2, frames=100)
    check_writable("--json", args.json)
    torch.set_num_threads(args.threads)
    bundle = _bundle(args)
    with _dataset(args, bundle) as dataset:
        encode, sizes = _encoder(args, bundle, dataset)
        frames = read_frames(
            dataset,
            encode,
            _held_out(bundle, dataset),
            *sizes,
            frames=args.frames,
            seed=args.seed,
            progress=lambda parts: tqdm(parts, desc="encode", unit="batch"),
        )
        found = probe(frames, _task_of(dataset, frames.world.is_state), args.seed)
        errors = None if bundle is None else _errors(bundle, frames)
    print(text(found, errors))
    if args.json is not None:
        write_json(args.json, report(found, errors))
    return 0


def report(found: Probe, errors: dict[str, Any] | None = None) -> dict[str, Any]:
    """All that was found, for a file."""
    from dataclasses import asdict

    from wm_planner.evaluation.verdict import verdict
    from wm_planner.provenance import provenance

    grade, reasons = verdict(found, errors)
    told = {"verdict": grade, "reasons": reasons, "errors": errors}
    return {**asdict(found), **told, **provenance()}


def probe_training(output: Path, encode: Encode, data: Path, held_out: list[int] | None) -> None:
    """What 'train' says of an encoder before it trains a model on it; writes OUTPUT/probe.json.

    Data that cannot be probed, or a full disk, do not end the training.
    """
    from wm_planner.data.layouts import open_dataset
    from wm_planner.evaluation.encoded import read_frames
    from wm_planner.evaluation.probe import probe
    from wm_planner.evaluation.verdict import verdict_lines
    from wm_planner.files import write_json

    try:
        dataset = open_dataset(data)
        frames = read_frames(dataset, encode, held_out, frames=IN_TRAINING)
        found = probe(frames, _task_of(dataset, frames.world.is_state))
        print("\n".join(verdict_lines(found)), flush=True)
        write_json(output / PROBE, report(found))
    except (DatasetError, WriteError) as error:
        logger.warning("whether the latent can be planned in is not known: %s", error)


def _bundle(args: argparse.Namespace) -> Bundle | None:
    """The checkpoint; None: the run of an encoder alone."""
    from wm_planner.models.checkpoint import load_bundle

    directory = Path(args.checkpoint)
    if _encoder_run(directory) is not None and not (directory / "checkpoint").exists():
        return None
    try:
        return load_bundle(args.checkpoint, args.device)
    except CheckpointError as error:
        if directory.is_dir():
            raise CheckpointError(
                f"{error}; nor does it hold {ENCODER} of 'wm-planner train encoder'"
            ) from error
        raise


def _encoder_run(directory: Path) -> Path | None:
    """Where 'train encoder' wrote, or 'train' before its model was trained."""
    for place in (directory, directory / "encoder"):
        if (place / ENCODER).is_file():
            return place
    return None


@contextmanager
def _dataset(args: argparse.Namespace, bundle: Bundle | None) -> Iterator[Dataset]:
    from wm_planner.data.layouts import open_dataset
    from wm_planner.robot import read_robot

    if args.data is not None:
        robot = None if args.robot is None else read_robot(args.robot)
        size = None if bundle is None else bundle.embodiment.image_size
        skip = None if bundle is None else bundle.embodiment.frame_skip
        yield open_dataset(
            args.data, robot=robot, reader=args.reader, image_size=size, frame_skip=skip
        )
        return
    for option in ("robot", "reader"):
        if getattr(args, option) is not None:
            raise ConfigError(f"--{option} is for --data; --task collects its own trajectories")
    with TemporaryDirectory() as folder:
        yield _collected(args, bundle, Path(folder) / "data")


def _collected(args: argparse.Namespace, bundle: Bundle | None, directory: Path) -> Dataset:
    from tqdm import tqdm

    from wm_planner.cli.collect import collect_trajectory
    from wm_planner.data.layouts import open_dataset
    from wm_planner.data.store import write_store
    from wm_planner.tasks import get_task, resized

    task = get_task(args.task)
    body = task.embodiment if bundle is None else bundle.embodiment
    size = body.image_size
    one = functools.partial(
        collect_trajectory, args.task, steps=10, size=size, seed=UNSEEN_SEED + args.seed
    )
    numbers = tqdm(range(args.trajectories), desc="collect", unit="trajectory")
    meta = {"embodiment": resized(task.embodiment, size).to_json()}
    write_store(directory, args.trajectories, map(one, numbers), meta)
    return open_dataset(directory)


def _encoder(
    args: argparse.Namespace, bundle: Bundle | None, dataset: Dataset
) -> tuple[Encode, tuple[int | None, int | None]]:
    """How pictures are encoded; frame skip and image size that it asks for."""
    import torch

    from wm_planner.tasks import resized

    if bundle is not None:
        body = bundle.embodiment
        there = resized(dataset.embodiment, body.image_size, body.frame_skip)
        difference = body.difference(there)
        if difference is not None:
            raise ConfigError(f"{args.data or args.task}: not the checkpoint's robot: {difference}")
        encoder, images = bundle.model.encoder, bundle.preprocess.images

        def encode(pictures: Any) -> torch.Tensor:
            with torch.no_grad():
                return encoder(images(pictures).to(bundle.device))

        return encode, (body.frame_skip, body.image_size)
    from wm_planner.models.checkpoint import torch_device
    from wm_planner.training.encoder import encode_images, load_encoder_run
    from wm_planner.training.machine import Machine

    body = dataset.embodiment
    place = _encoder_run(Path(args.checkpoint))
    assert place is not None
    device = torch_device(args.device)
    trained = load_encoder_run(place, body.image_size, len(body.cameras)).to(device)
    machine = Machine(device=device)
    return functools.partial(encode_images, trained, machine=machine), (None, body.image_size)


def _held_out(bundle: Bundle | None, dataset: Dataset) -> list[int] | None:
    """Trajectories that the checkpoint says it has not seen, of the data that it was trained on."""
    from wm_planner.data.recorded import StoreDataset

    if bundle is None or not isinstance(dataset, StoreDataset):
        return None
    if bundle.info.get("data") != dataset.store.meta:
        return None
    held_out = bundle.info.get("held_out_trajectories")
    if held_out is None:
        logger.warning(
            "the checkpoint was trained on %s and does not say what it held out: what is found "
            "there is too good",
            dataset.path,
        )
    return held_out


def _task_of(dataset: Dataset, has_states: bool) -> str | None:
    from wm_planner.errors import TaskError
    from wm_planner.tasks import get_task

    states = dataset.states(0)
    if not has_states or states is None:
        return None
    try:
        fits = len(get_task(dataset.name).state_names) == states.shape[1]
    except TaskError:
        return None
    return dataset.name if fits else None


def _errors(bundle: Bundle, frames: Frames) -> dict[str, Any] | None:
    """The model's error by step, on the windows that were tested."""
    import torch

    from wm_planner.evaluation.recordings import Recordings, step_errors
    from wm_planner.models.world_model import Latent
    from wm_planner.planning import planner_config

    if frames.length < 2:
        return None
    rows = frames.tested
    proprio = bundle.preprocess.normalise_proprio(frames.proprio[rows.numpy()])
    with torch.no_grad():
        embedded = bundle.model.proprio_encoder(proprio.to(bundle.device)).cpu()
    actions = bundle.preprocess.normalise_actions(frames.actions[rows.numpy()])
    recordings = Recordings(Latent(frames.tokens[rows], embedded), actions, proprio)
    rollout = planner_config(bundle.planner).rollout
    return step_errors(bundle, recordings, frames.length - 1, rollout)
