"""`wm-planner train`: encoder, model and held-out report in one command, which can be resumed."""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wm_planner.cli.training_options import kept_for_resume, training_machine
from wm_planner.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.embodiment import Embodiment
    from wm_planner.models.bundle import Bundle
    from wm_planner.models.core_set import CoreSet
    from wm_planner.training.machine import Machine
    from wm_planner.training.recipe import Recipe

logger = logging.getLogger(__name__)
SETTINGS, REPORT, FIGURE = "train.json", "report.json", "report.png"
FEW_STEPS = 2000  # model steps; with fewer the model knows little beside what was recorded


def run_all(args: argparse.Namespace) -> int:
    """Train what is missing in OUTPUT; print the report and what comes next.

    Raises:
        WmPlannerError: something cannot be used; the message names it.
    """
    from wm_planner.cli.measure import check_measurable
    from wm_planner.cli.train import recipe_of
    from wm_planner.data.store import TrajectoryStore
    from wm_planner.training.latents import split_rows
    from wm_planner.training.model import check_length

    if args.encoder is not None:
        raise ConfigError(
            "--encoder is for a part: 'wm-planner train model --encoder ...'; 'wm-planner train' "
            "makes both parts itself"
        )
    store = TrajectoryStore.open(args.data)
    recipe = recipe_of(args, store)
    split_rows(len(store.actions), recipe.model.held_out, recipe.model.seed)
    check_length(store, recipe.model.rollout_steps)
    if args.measure:
        check_measurable(store)
    _take_directory(args, recipe, store)
    if _is_complete(args):
        print(f"{args.output}: the run has finished already")
        print(_next(args, store.embodiment))
        return 0
    with training_machine(args) as machine:
        _say_what_comes(args, recipe, store, machine)
        bundle = _train(args, recipe, store, machine)
        _report(args, bundle, store)
    print(_next(args, store.embodiment))
    return 0


def _take_directory(args: argparse.Namespace, recipe: Recipe, store: TrajectoryStore) -> None:
    """Write OUTPUT/train.json, or compare with the one there.

    Raises:
        ConfigError: OUTPUT holds an unfinished run and --resume is not given, or one of other
            settings or data.
    """
    from wm_planner.config import to_dict
    from wm_planner.files import read_json, write_json
    from wm_planner.provenance import provenance
    from wm_planner.training.run_directory import check_same

    content = json.loads(json.dumps({"recipe": to_dict(recipe), "data": store.meta}))
    file = args.output / SETTINGS
    if file.is_file():
        check_same(read_json(file), {**content, **provenance()}, args.output)
        if not args.resume and not _is_complete(args):
            raise ConfigError(
                f"{args.output}: holds a run that has not finished; go on with it by --resume, or "
                "choose another --output"
            )
        return
    if args.output.is_dir() and any(args.output.iterdir()):
        raise ConfigError(
            f"{args.output}: is not empty and holds no run of 'wm-planner train'; choose another "
            "--output"
        )
    args.output.mkdir(parents=True, exist_ok=True)
    write_json(file, {**content, **provenance()})


def _is_complete(args: argparse.Namespace) -> bool:
    from wm_planner.cli.measure import GEOMETRY

    wanted = [args.output / REPORT]
    if args.measure:
        wanted.append(args.output / "encoder" / GEOMETRY)
    return all(file.exists() for file in wanted)


def _say_what_comes(
    args: argparse.Namespace, recipe: Recipe, store: TrajectoryStore, machine: Machine
) -> None:
    """Before anything long: what it is made of, how long it takes, what to expect."""
    from wm_planner.training.duration import expected_minutes

    count, steps = store.actions.shape[:2]
    total = count * steps
    names = ", ".join(camera.name for camera in store.embodiment.cameras)
    lines = [
        f"{store.embodiment.name}: {count} trajectories of {steps} model steps, "
        f"{total} in all, pictures of {store.images.shape[2]} px ({names})"
    ]
    there, used = (store.meta.get(f"model_steps_{key}") for key in ("there", "used"))
    if there and used and there > used:
        lines.append(
            f"{there - used} of the {there} recorded model steps are in no trajectory: 'dataset "
            "build' with fewer --steps keeps more of them"
        )
    minutes = expected_minutes(store, recipe, machine)
    lines.append(
        f"encoder {recipe.encoder.num_updates} updates, model {recipe.model.num_updates}: about "
        f"{_shown(sum(minutes.values()))} on this machine as busy as it is now (encoder "
        f"{_shown(minutes['encoder'])}, model {_shown(minutes['encode'] + minutes['model'])})"
    )
    if total < FEW_STEPS:
        lines.append(
            f"{total} model steps are few: expect plans that work near what was recorded; "
            f"{FEW_STEPS} and more, recorded where the robot shall work, make the model surer"
        )
    if args.resume:
        lines.append("what an earlier start has done already is kept")
    for line in lines:
        print(line, flush=True)


def _shown(minutes: float) -> str:
    return f"{60 * minutes:.0f} s" if minutes < 1.5 else f"{minutes:.0f} min"


def _train(
    args: argparse.Namespace, recipe: Recipe, store: TrajectoryStore, machine: Machine
) -> Bundle:
    from wm_planner.cli.measure import GEOMETRY, measure
    from wm_planner.cli.probe import PROBE, probe_training
    from wm_planner.cli.train import ENCODER
    from wm_planner.evaluation.familiar import familiar
    from wm_planner.evaluation.recordings import encode_recordings, held_out, same_place
    from wm_planner.models.checkpoint import load_bundle, save_bundle
    from wm_planner.training.encoder import encode_images, train_encoder
    from wm_planner.training.latents import split_rows
    from wm_planner.training.model import train_model
    from wm_planner.training.untrained import build_untrained

    directory = args.output / "encoder"
    file: Path | None = directory / ENCODER
    if recipe.encoder.comes_trained:
        file = None
    elif not (directory / ENCODER).is_file():
        rows, _ = split_rows(len(store.actions), recipe.model.held_out, recipe.model.seed)
        train_encoder(store, recipe.encoder, directory, machine, rows.sort().values.numpy())
    checkpoint = args.output / "checkpoint"
    bundle = build_untrained(store, recipe.encoder, file, recipe.model)
    if args.measure and not (directory / GEOMETRY).is_file():
        directory.mkdir(exist_ok=True)
        measure(directory, bundle.model.encoder.to(machine.device), store, machine)
    if checkpoint.exists():
        return load_bundle(checkpoint, str(machine.device))
    if machine.writes and not (directory / PROBE).is_file():
        directory.mkdir(exist_ok=True)
        _, tested = split_rows(len(store.actions), recipe.model.held_out, recipe.model.seed)
        encode = partial(encode_images, bundle.model.encoder.to(machine.device), machine=machine)
        probe_training(directory, encode, store.directory, tested.tolist())
    # The frames of one run are encoded in a minute and are of no use to the next one.
    uncached = machine if args.cache is not None else replace(machine, cache=None)
    bundle = train_model(store, bundle, recipe.model, args.output / "model", uncached)
    bundle.planner = recipe.planner
    recordings = encode_recordings(bundle, store, held_out(bundle, store)[0])
    bundle.info["arrived"] = same_place(recordings)
    bundle.info["familiar"] = familiar(bundle, store).to_json()
    with kept_for_resume(args.output / "model"):
        save_bundle(bundle, checkpoint, _core_set(bundle, store))
    return bundle


def _core_set(bundle: Bundle, store: TrajectoryStore) -> CoreSet | None:
    """What 'learn' replays; a model with too many tokens for it is trained all the same."""
    from wm_planner.training.core_set import core_set

    try:
        return core_set(bundle, store)
    except DatasetError as error:
        logger.warning("the checkpoint has no core set: %s", error)
        return None


def _report(args: argparse.Namespace, bundle: Bundle, store: TrajectoryStore) -> None:
    """OUTPUT/report.json and .png; the table on standard output."""
    from wm_planner.cli.eval_recorded import draw, errors_table
    from wm_planner.evaluation.recordings import encode_recordings, held_out, step_errors
    from wm_planner.files import write_json
    from wm_planner.planning import planner_config

    rows, _ = held_out(bundle, store)
    recordings = encode_recordings(bundle, store, rows)
    rollout = planner_config(bundle.planner).rollout
    steps = min(planner_config(bundle.planner).horizon, recordings.steps)
    errors = step_errors(bundle, recordings, steps, rollout)
    result = {
        "trajectories_held_out": len(rows),
        "errors": errors,
        "arrived": bundle.info.get("arrived"),
    }
    draw(args.output / FIGURE, errors, bundle.embodiment.name)
    print(errors_table(errors, bundle.embodiment.model_dt_s), end="")
    if arrived := bundle.info.get("arrived"):
        print(
            f"arrived: two pictures of one place differ by up to {arrived['picture']:.3g} in the "
            f"latent ({arrived['from']} pairs of held-out frames); 'robot run' takes that for the "
            "goal picture"
        )
    write_json(args.output / REPORT, result)


def _next(args: argparse.Namespace, robot: Embodiment) -> str:
    output = args.output
    if _is_simulated(robot):  # there is a simulator, which tells whether it reaches goals
        return (
            f"written: {output / 'checkpoint'}\n"
            f"next: wm-planner eval --task {robot.name} --checkpoint {output / 'checkpoint'}"
        )
    return (
        f"written: {output / 'checkpoint'}\n"
        f"next: wm-planner eval --data {args.data} --checkpoint {output}\n"
        f"      wm-planner robot run ROBOT.yaml --checkpoint {output} --goal GOAL --dry-run"
    )


def _is_simulated(robot: Embodiment) -> bool:
    """Whether a task has this robot; published data may have no more than a task's name."""
    from wm_planner.tasks import get_task, resized, task_names

    if robot.name not in task_names():
        return False
    body = resized(get_task(robot.name).embodiment, robot.image_size)
    return body.difference(robot) is None
