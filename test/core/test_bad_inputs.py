"""Bad input ends in one line that names it: no traceback, no silence, and nothing hangs.

Most cases are made of the parsers and of the dataclasses that read settings, so that a new option
or field is tried without an edit here.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wm_planner.config import from_dict, read_yaml, to_dict
from wm_planner.embodiment import Embodiment
from wm_planner.robot import CameraSource, RobotFile, read_robot
from wm_planner.tasks import get_task

from . import bad_files as bad
from .bad_options import LONG, bad_command_lines, leaf_commands
from .bad_settings import bad_settings, changed
from .made_result import result
from .reference_checkpoint import TINY
from .watched import run_command, run_reader

CONFIG = Path(__file__).parents[2] / "config"
ROBOT = CONFIG / "robots/example_forward.yaml"
FEWEST = 600  # cases of this file; there are several thousand


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """A directory with what a good command line names, and with files that are none."""
    import cv2

    from .training_world import dot_store, tiny_checkpoint

    room = tmp_path_factory.mktemp("room")
    dot_store(room / "store", count=4)
    tiny_checkpoint(room / "checkpoint")
    cv2.imwrite(str(room / "goal.png"), np.zeros((96, 96, 3), np.uint8))
    (room / "file").write_text("x")
    (room / "empty").touch()
    (room / "noise").write_bytes(bad.NOISE)
    (room / "loop").symlink_to("loop")
    os.mkfifo(room / "pipe")
    return room


def good_values(room: Path) -> dict[str, dict[str, Any]]:
    """Values of the options that a command must be told, by the command; '' is for all."""
    figures = {f"plot {name}": {"output": str(room / "a.png")} for name in
               ("landscape", "model-error", "results", "learning")}  # fmt: skip
    return {
        "": {
            "file": str(ROBOT),
            "output": str(room / "out"),
            "task": "wall",
            "data": str(room / "store"),
            "episodes": "1",
            "seconds": "1",
            "num_trajectories": "2",
            "checkpoint": str(room / "checkpoint"),
            "config": str(CONFIG / "tables/table1.yaml"),
            "path": str(room / "store"),
            "bags": str(room / "store"),
        },
        "probe": {"also": ("data",)},
        "ablation": {"config": str(CONFIG / "tables/ablation.yaml")},
        "frontier": {"config": str(CONFIG / "tables/frontier.yaml")},
        "import": {"also": ("task",), "task": "pusht", "path": str(TINY)},
        "eval": {"also": ("task", "checkpoint")},
        "finetune": {"method": "base"},
        "learn": {"also": ("once",)},
        "train": {"also": ("part",), "part": "model"},
        "robot explore": {"also": ("yes",)},
        "robot run": {"also": ("checkpoint", "goal"), "goal": str(room / "goal.png")},
        **figures,
    }


# What is wrong is what the doctor finds: it says so in its table (test_doctor).
@pytest.mark.parametrize("command", [name for name in leaf_commands() if name != "doctor"])
def test_bad_options(room, command):
    if command.split()[0] in ("robot", "sim", "view"):
        pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")
    values = good_values(room)
    complaints, count = [], 0
    for arguments, words in bad_command_lines(command, values[""] | values.get(command, {}), room):
        shutil.rmtree(room / "out", ignore_errors=True)
        count += 1
        if complaint := run_command(arguments).complaint(*words):
            complaints.append(f"{' '.join(arguments).replace(LONG, 'x..x')[:200]}: {complaint}")
    assert not complaints, "\n".join(complaints)
    assert count >= 3


def classes() -> dict[str, tuple[Any, dict[str, Any]]]:
    """By a name: what is read, and good settings of it."""
    from wm_planner.evaluation.ablation import Ablation
    from wm_planner.evaluation.episode import Loop
    from wm_planner.evaluation.frontier import Frontier
    from wm_planner.evaluation.grid import Grid
    from wm_planner.evaluation.result import Result
    from wm_planner.models.preprocess import Preprocess
    from wm_planner.models.world_model import ModelConfig
    from wm_planner.planning.config import PlannerConfig
    from wm_planner.tasks.shifts import Shifts
    from wm_planner.training.recipe import Recipe

    from .training_world import tiny_bundle

    bundle = tiny_bundle()
    return {
        "robot": (RobotFile, read_yaml(ROBOT)),
        "camera": (CameraSource, {"topic": "image"}),
        "recipe": (Recipe, read_yaml(CONFIG / "recipes/wall.yaml")),
        "grid": (Grid, read_yaml(CONFIG / "tables/table1.yaml")),
        "ablation": (Ablation, read_yaml(CONFIG / "tables/ablation.yaml")),
        "frontier": (Frontier, read_yaml(CONFIG / "tables/frontier.yaml")),
        "planner": (PlannerConfig, {}),
        "shifts": (Shifts, {}),
        "loop": (Loop, {}),
        "result": (Result, result("0101").to_json()),
        "embodiment": (Embodiment, get_task("wall").embodiment.to_json()),
        "model": (ModelConfig, to_dict(bundle.model.config)),
        "preprocess": (Preprocess, to_dict(bundle.preprocess)),
    }


def test_bad_settings():
    complaints, count = [], 0
    for source, (cls, good) in classes().items():
        from_dict(cls, good, source)
        for place, value in bad_settings(cls):
            count += 1
            settings = changed(good, place, value)
            said = run_reader(lambda: from_dict(cls, settings, source))  # noqa: B023 - called now
            if complaint := said.complaint(place[-1], f"{source}: {place[0]}"):
                complaints.append(f"{source}: {'.'.join(place)} = {str(value)[:60]}: {complaint}")
    assert not complaints, "\n".join(complaints)
    assert count > FEWEST


BAD_ROBOTS = {
    "action: {names: [a, a], low: [-1, -1], high: [1, 1]}": "'a' is named more than once",
    "action: {names: [a, b], low: [1, -1], high: [-1, 1]}": "low must be below high",
    "action: {names: [a], low: [-1], high: [1], max_rate: [-1]}": "max_rate",
    "action: {names: [a], low: [-1], high: [1], low: [-9]}": "key 'low' stands here and in line",
    "proprio: [a/position, a/position]": "'a/position' is named more than once",
    "proprio: [a/speed]": "a/speed",
    "angles: [x/position]": "x/position",
    "topics: {obervation/image: /x}": "Did you mean 'observation/image'?",
    "topics: {plan: '/a b'}": "is no name of a topic",
    "topics: {plan: /9lives}": "is no name of a topic",
    "topics: {plan: ''}": "plan",
    "joint_states: /a//b": "is no name of a topic",
    "joint_states: ''": "joint_states",
    "command: {topic: '/c/'}": "is no name of a topic",
    "cameras: {a: {topic: /x}, b: {topic: /x}}": "are the same camera",
    "cameras: {a: {topic: /x}, a: {topic: /y}}": "key 'a' stands here and in line",
    "cameras: {a: {topic: /x, rate_hz: -1}}": "rate_hz",
    "cameras: {a: {topic: /x, rate_hz: 0}}": "rate_hz",
    "cameras: {a: {topic: /x, size: 5}}": "size",
    "cameras: {a: {topic: /x, crop: [0, 0, -5, 5]}}": "crop",
    "cameras: {a b: {topic: /x}}": "a b",
    "cameras: {}": "cameras",
    "cameras: [a]": "cameras",
    "control_dt_s: -0.1": "control_dt_s",
    "control_dt_s: 0": "control_dt_s",
    "control_dt_s: 010": "'010'",
    "control_dt_s: 1:30": "'1:30'",
    "stale_after_s: 1e9": "stale_after_s",
    "frame_skip: -1": "frame_skip",
    "home: [1]": "home",
    "settings: [horizon]": "key=value",
    "settings: [horizon=3, horizon=4]": "'horizon' is given more than once",
    "record: {commands: /x, names: [a, a]}": "'a' is named more than once",
    "name: ''": "name",
    "name: a/b": "name",
    "nmae: arm": "Did you mean 'name'?",
}


@pytest.mark.parametrize("line", BAD_ROBOTS)
def test_bad_robots(tmp_path, line):
    key = line.partition(":")[0]
    good = {k: v for k, v in read_yaml(ROBOT).items() if k != key}
    file = tmp_path / "robot.yaml"
    file.write_text("\n".join([*(f"{k}: {json.dumps(v)}" for k, v in good.items()), line]))
    said = run_reader(lambda: read_robot(file))
    assert said.complaint(BAD_ROBOTS[line]) == ""
    assert str(file) in said.message


def replaced(source: Path, target: Path, name: str, content: bytes) -> Path:
    """A copy of a directory with another content of one file."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    (target / name).write_bytes(content)
    return target


def file_cases(room: Path) -> dict[str, tuple[dict[str, bytes], Callable[[bytes], list[str]]]]:
    """By a name: contents of a file, and the command that reads it."""
    here = room / "case"

    def at(name: str, *words: str) -> Callable[[bytes], list[str]]:
        def write(content: bytes) -> list[str]:
            (room / name).write_bytes(content)
            return [word.format(room / name) for word in words]

        return write

    def within(source: Path, name: str, *words: str) -> Callable[[bytes], list[str]]:
        def write(content: bytes) -> list[str]:
            return [word.format(replaced(source, here, name, content)) for word in words]

        return write

    good = room / "good.json"
    good.write_text(json.dumps(result("0101").to_json()))
    store, out = str(room / "store"), f"--output={room / 'out'}"
    evaluate = ("eval", "--task=wall", f"--checkpoint={room / 'checkpoint'}", "--episodes=1")
    yaml, js = bad.COMMON | bad.YAML, bad.COMMON | bad.JSON
    goals = ("--goals=image", "--goal-state=[10, 10]")
    info = ("dataset", "info", "{}", f"--contact-sheet={room / 'sheet.png'}")
    return {
        "robot file": (yaml, at("bad.yaml", "dataset", "info", store, "--robot={}")),
        "table": (yaml, at("bad.yaml", "results", "--config={}", out)),
        "ablation": (yaml, at("bad.yaml", "ablation", "--config={}", out)),
        "recipe": (
            yaml,
            at("bad.yaml", "export", str(room / "checkpoint"), "--recipe={}", out),
        ),
        "hydra": (
            yaml,
            at("bad.yaml", "import", str(TINY), "--config={}", out, "--encoder-variant=32,2,2"),
        ),
        "statistics": (
            yaml,
            at("bad.yaml", "import", str(TINY), "--task=wall", "--statistics={}", out),
        ),
        "result": (js, at("bad.json", "eval", "--compare", str(good), "{}")),
        "card": (js, within(room / "checkpoint", "bundle.json", "info", "{}")),
        "store": (js, within(room / "store", "meta.json", *info)),
        **{
            f"{name}.npy": (
                bad.COMMON | bad.NPY,
                within(room / "store", f"{name}.npy", *info),
            )
            for name in ("images", "proprio", "actions", "states")
        },
        "weights": (
            bad.COMMON | {"header": struct.pack("<Q", 2**60) + b"{}"},
            within(room / "checkpoint", "model.safetensors", *evaluate[:2], "--checkpoint={}"),
        ),
        "targets": (
            bad.COMMON
            | bad.NPY
            | {
                f"{name} in an archive": bad.archive(
                    **{"task.npy": content, "starts.npy": content, "goals.npy": content}
                )
                for name, content in bad.NPY.items()
            },
            at("bad.npz", *evaluate, "--targets={}"),
        ),
        "goal image": (
            bad.COMMON | bad.PICTURES,
            at("bad.png", *evaluate, "--goal-image={}", *goals),
        ),
        "released": (
            bad.COMMON | bad.TORCH,
            at("bad.pth", "import", "{}", "--task=pusht", out),
        ),
    }


def test_bad_files(room):
    complaints, count = [], 0
    for kind, (contents, write) in file_cases(room).items():
        for name, content in contents.items():
            shutil.rmtree(room / "out", ignore_errors=True)
            count += 1
            said = run_command(write(content))
            if complaint := said.complaint("bad.", str(room / "case"), "--goal"):
                complaints.append(f"{kind}, {name}: {complaint}")
    assert not complaints, "\n".join(complaints)
    assert count > 300


def test_bad_pickles(tmp_path):
    from wm_planner.data.pickled_values import load_pickle, load_pth
    from wm_planner.models.pickled_modules import PickledFile

    complaints = []
    readers = [(load_pickle, bad.PICKLES), (load_pth, bad.TORCH), (PickledFile, bad.TORCH)]
    for read, contents in readers:
        for name, content in (bad.COMMON | contents).items():
            file = tmp_path / "bad.pth"
            file.write_bytes(content)
            said = run_reader(lambda: read(file))  # noqa: B023 - called now
            if complaint := said.complaint(str(file)):
                complaints.append(f"{read.__name__}, {name}: {complaint}")
    assert not complaints, "\n".join(complaints)


def test_bad_videos(tmp_path):
    pytest.importorskip("av")
    from wm_planner.data.video import Video
    from wm_planner.runtime.image_source import open_source

    file, complaints = tmp_path / "bad.mp4", []
    readers = (lambda: list(Video(file).pictures([0])), lambda: open_source(str(file)).read())
    for name, content in (bad.COMMON | bad.VIDEOS).items():
        file.write_bytes(content)
        found = (run_reader(read).complaint(str(file)) for read in readers)
        complaints += [f"{name}: {complaint}" for complaint in found if complaint]
    assert not complaints, "\n".join(complaints)
