"""Parts in somebody else's package: installed, found, and walked from recordings to episodes."""

from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pytest
import yaml

from wm_planner.errors import CheckpointError, DatasetError

from ..nodes.domains import claim_domain
from .installed import ROOT, install

EXAMPLE = ROOT / "examples" / "own_parts"
SIZE, STEPS = 32, 24  # pixels, control periods of a take
ROBOT = {
    "name": "dot",
    "control_dt_s": 0.1,
    "frame_skip": 2,
    "action": {
        "names": ["x", "y"],
        "low": [-1, -1],
        "high": [1, 1],
        "unit": "pixels per period",
    },
    "proprio": ["x/position", "y/position"],
    "cameras": {"front": {"topic": "/image", "size": SIZE}},
    "command": {"topic": "/commands"},
    "stale_after_s": 1.0,
}
PLAN = """
import sys
from wm_planner.data.store import TrajectoryStore
from wm_planner.models.checkpoint import load_bundle
from wm_planner.planning import Planner, Session, planner_config
from wm_planner.types import Goal, Observation

checkpoint, data = sys.argv[1:]
bundle, store = load_bundle(checkpoint), TrajectoryStore.open(data)
config = planner_config({"horizon": 2, "gbp": {"num_iterations": 2}})
session = Session(Planner(bundle, config))
session.set_goal(Goal(store.images[0, -1], store.proprio[0, -1]))
plan = session.plan(Observation(store.images[0, :1], store.proprio[0, :1], stamp_ns=0))
print(type(bundle.model.encoder).__name__, *plan.actions.shape)
"""

pytest.importorskip("torch", reason="needs the 'model' extra")
pytest.importorskip("matplotlib", reason="needs the 'viz' extra")
pytest.importorskip("setuptools", reason="the example is installed with it")


def write_takes(directory):
    """Twelve takes of a dot that moves by its action, two of them failures."""
    rng = np.random.default_rng(0)
    directory.mkdir()
    for number in range(12):
        actions = rng.uniform(-1, 1, (STEPS, 2)).astype(np.float32)
        places = np.vstack([rng.uniform(8, SIZE - 8, (1, 2)), actions]).cumsum(0)
        places = places.clip(3, SIZE - 3).astype(np.float32)
        images = np.full((STEPS + 1, SIZE, SIZE, 3), 255, np.uint8)
        for image, (x, y) in zip(images, places.astype(int), strict=True):
            image[y - 3 : y + 3, x - 3 : x + 3] = (255, 0, 0)
        outcome = "failure" if number < 2 else "success"
        file = directory / f"take_{number:02d}.npz"
        np.savez(file, images=images, proprio=places, actions=actions, outcome=outcome)
    return directory


def test_the_example_is_short():
    """Five parts, and no more lines than a person reads at once."""
    files = [EXAMPLE / "pyproject.toml", *EXAMPLE.glob("own_parts/*.py")]
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 140


def test_the_document_shows_the_example():
    page = (ROOT / "docs" / "extend.md").read_text().partition("## Plan with your own model")[0]
    shown = re.findall(r"```(?:python|toml|yaml)\n(.*?)```", page, re.DOTALL)
    there = [file.read_text() for file in EXAMPLE.rglob("*.*") if file.is_file()]
    assert len(shown) >= 3 and all(any(block in text for text in there) for block in shown)


@pytest.mark.timeout(300)
def test_the_whole_way(tmp_path, monkeypatch):
    from wm_planner.data.layouts import open_dataset
    from wm_planner.models.checkpoint import load_bundle

    monkeypatch.setenv("ROS_DOMAIN_ID", str(claim_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    run = install("own_parts", tmp_path / "installed")

    def command(*arguments: object) -> str:
        return run("-m", "wm_planner.cli.main", *map(str, arguments)).stdout

    takes, robot = write_takes(tmp_path / "takes"), tmp_path / "dot.yaml"
    robot.write_text(yaml.safe_dump(ROBOT))
    data, output = tmp_path / "data", tmp_path / "run"
    command("dataset", "build", takes, "--robot", robot, "--only", "success", "--output", data)
    meta = json.loads((data / "meta.json").read_text())
    assert meta["embodiment"]["name"] == "dot" and meta["model_steps_used"] == 10 * STEPS // 2

    recipe = ["--recipe", EXAMPLE / "recipe.yaml", "--updates", 3, 3]
    command("train", "--data", data, "--output", output, *recipe, "--threads", 1, "--no-cache")
    card = json.loads((output / "checkpoint/bundle.json").read_text())
    assert card["model"]["encoder"] == {"kind": "patches", "width": 16}
    done = run("-c", PLAN, str(output), str(data))
    assert done.stdout.split() == ["PatchEncoder", "4", "2"]

    plan = ["--planner", "shooting", "--set", "costs={sideways: 0.01}", "--set", "num_samples=8"]
    of_task = ["--task", "dot", "--checkpoint", output / "checkpoint", *plan, "--episodes", 2]
    result = tmp_path / "eval.json"
    command("eval", *of_task, "--json", result)
    assert json.loads(result.read_text())["plan_evaluations"] == 8
    result = tmp_path / "sim.json"
    if importlib.util.find_spec("rclpy") is not None:
        command("sim", *of_task, "--output", tmp_path / "sim", "--json", result)
        assert json.loads(result.read_text())["planner"] == "shooting"
    command("collect", "--task", "dot", "--num-trajectories", 2, "--output", tmp_path / "more")

    with pytest.raises(CheckpointError, match="bundle.json: .* encoder 'patches'.* Choices: dino"):
        load_bundle(output)
    with pytest.raises(DatasetError, match="no data set is known"):
        open_dataset(takes)
