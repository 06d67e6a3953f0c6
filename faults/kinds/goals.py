"""Faults of goals, and of the files that the planner loads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from sensor_msgs.msg import Image, JointState

from faults.fault import FRESH, PLANNER, Fault, Heal
from faults.stage import PLANNER as PLANNER_NODE
from wm_planner.models.catalog import CARD, WEIGHTS, resolve_checkpoint
from wm_planner.ros.conversions import image_message
from wm_planner.ros.qos import LATCHED


def _fault(name: str, subject: str, does: str, inject: Any, *args: Any, **options: Any) -> Fault:
    return Fault(f"{subject}: {name}", subject, does, inject, *args, stages=(PLANNER,), **options)


def _goal(change: Any) -> Any:
    """A goal that cannot be used; the one before stays, or none is followed."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        size = stage.robot.embodiment.image_size
        picture = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
        message = image_message(picture, stage.stamp_ns())
        change(message)
        stage.peer.publisher(Image, "goal/image", LATCHED).publish(message)
        return stage.set_goal

    return inject


def _goal_state(change: Any) -> Any:
    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        message = stage.goal_state()
        change(message)
        stage.peer.publisher(JointState, "goal/joint_states", LATCHED).publish(message)
        return stage.set_goal

    return inject


def _set(**values: Any) -> Any:
    def change(message: Any) -> None:
        for key, value in values.items():
            setattr(message, key, value)

    return change


def _nan(message: Any) -> None:
    message.position = [float("nan")] * len(message.position)


def _cut(message: Any) -> None:
    message.data = bytes(message.data)[:100]


def _no_goal(stage: Any, rng: np.random.Generator) -> Heal:
    stage.peer.publisher(Image, "goal/image", LATCHED).publish(
        image_message(np.zeros((0, 0, 3), np.uint8), stage.stamp_ns())
    )
    return stage.set_goal


def _many(stage: Any, rng: np.random.Generator) -> None:
    for _ in range(40):
        stage.set_goal()


def _checkpoint(spoil: Any) -> Any:
    """The planner is started anew with a checkpoint that is spoilt."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        good = resolve_checkpoint(stage.checkpoint, stage.robot.name)
        bad = Path(stage.directory) / "spoilt"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        spoil(bad)
        stage.processes.kill(PLANNER_NODE)
        command = [*stage.processes.commands[PLANNER_NODE], "-p", f"checkpoint:={bad}"]
        stage.processes.start(PLANNER_NODE, command)

        def heal() -> None:
            if stage.processes.alive(PLANNER_NODE):
                stage.processes.kill(PLANNER_NODE)
            stage.processes.start(PLANNER_NODE)

        return heal

    return inject


def _truncated(directory: Path) -> None:
    file = directory / WEIGHTS
    file.write_bytes(file.read_bytes()[:10_000])


def _nan_weights(directory: Path) -> None:
    """Weights of NaN, with the right checksum."""
    from safetensors.numpy import load_file, save_file

    from wm_planner.files import read_json
    from wm_planner.models.catalog import file_sha256

    weights = load_file(directory / WEIGHTS)
    save_file({k: np.full_like(v, np.nan) for k, v in weights.items()}, directory / WEIGHTS)
    card = read_json(directory / CARD, ValueError, "")
    import json

    card["sha256"] = file_sha256(directory / WEIGHTS)
    (directory / CARD).write_text(json.dumps(card))


def _other_robot(directory: Path) -> None:
    shutil.rmtree(directory)
    shutil.copytree(resolve_checkpoint("wall-base"), directory)


def _no_card(directory: Path) -> None:
    (directory / CARD).unlink()


def _card_of_nonsense(directory: Path) -> None:
    (directory / CARD).write_text("{" * 10_000)


def _replaced(stage: Any, rng: np.random.Generator) -> Heal:
    """The files of the planner's checkpoint are overwritten while it runs."""
    directory = Path(stage.checkpoint)
    good = (directory / WEIGHTS).read_bytes()
    with (directory / WEIGHTS).open("r+b") as stream:
        stream.truncate(1000)

    def heal() -> None:
        (directory / WEIGHTS).write_bytes(good)

    return heal


FAULTS = (
    _fault("none", "goals", "the goal is taken away", _no_goal, share=2),
    _fault(
        "too small",
        "goals",
        "a goal of 10 x 10 pixels",
        _goal(_set(height=10, width=10, step=30)),
        FRESH,
    ),
    _fault("unknown encoding", "goals", "encoding 'xyz'", _goal(_set(encoding="xyz")), FRESH),
    _fault(
        "grey",
        "goals",
        "encoding 'mono8' with 3 bytes a pixel",
        _goal(_set(encoding="mono8")),
        FRESH,
    ),
    _fault("cut off", "goals", "100 bytes of a goal", _goal(_cut), FRESH),
    _fault("immense", "goals", "2 billion rows announced", _goal(_set(height=2**31)), FRESH),
    _fault("state of NaN", "goals", "joints of the goal are NaN", _goal_state(_nan), FRESH),
    _fault(
        "state of no joints",
        "goals",
        "no joints in the goal",
        _goal_state(_set(name=[], position=[])),
        FRESH,
    ),
    _fault(
        "state, positions missing", "goals", "names alone", _goal_state(_set(position=[])), FRESH
    ),
    _fault("forty at once", "goals", "forty goals at once", _many, FRESH),
    *(
        _fault(name, "checkpoint", does, _checkpoint(spoil), ends=(PLANNER_NODE,))
        for name, does, spoil in (
            ("truncated", "weights cut off at 10 kB", _truncated),
            ("NaN", "every weight is NaN", _nan_weights),
            ("other robot", "of another embodiment", _other_robot),
            ("no card", "bundle.json is missing", _no_card),
            ("card of nonsense", "bundle.json is no JSON", _card_of_nonsense),
        )
    ),
    _fault(
        "cut off in use", "checkpoint", "weights cut off while the planner runs", _replaced, FRESH
    ),
)
