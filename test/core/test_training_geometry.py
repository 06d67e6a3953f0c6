"""Measures of a latent's distances, on a world where the picture's colour is the position."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.data.store import write_store  # noqa: E402
from wm_planner.training.latent_geometry import (  # noqa: E402
    distance_correlation,
    greedy_success,
    rank_correlation,
)

from .dot_world import DotEnv, picture  # noqa: E402
from .training_world import dot_store, mute_store  # noqa: E402

RECIPE = """
task: wall
collect: {num_trajectories: 16, steps: 4, image_size: 32}
encoder: {channels: 32, depth: 1, dim: 8, num_updates: 4, batch_pairs: 8, max_gap: 1}
"""


def place(images):
    return torch.from_numpy(images[:, 0, 0, :2].astype(np.float32))


def nothing(images):
    return torch.zeros(len(images), 2)


@pytest.fixture
def store(tmp_path):
    """Dots anywhere on the field."""
    rng = np.random.default_rng(0)

    def trajectory():
        states = rng.uniform(5, 60, (3, 2))
        images = np.stack([picture(state) for state in states])
        actions = np.zeros((2, 10), np.float32)
        return {"images": images, "proprio": states, "actions": actions, "states": states}

    meta = {"task": "wall", "frame_skip": 5}
    return write_store(tmp_path / "store", 30, (trajectory() for _ in range(30)), meta)


def test_rank_correlation_of_a_monotone_map_is_one():
    x = np.linspace(0, 1, 50)
    assert rank_correlation(x, np.exp(5 * x)) == pytest.approx(1.0)
    assert rank_correlation(x, -x) == pytest.approx(-1.0)


def test_distances_of_a_faithful_and_of_a_scrambled_latent(store):
    assert distance_correlation(store, place, num_frames=100) > 0.99
    scrambled = distance_correlation(store, lambda x: torch.sin(40 * place(x)), num_frames=100)
    assert abs(scrambled) < 0.2


def test_greedy_look_ahead_follows_the_latent():
    assert greedy_success(DotEnv(), place, num_targets=5) == 1.0
    assert greedy_success(DotEnv(), nothing, num_targets=5) == 0.0, "the way is long"
    assert greedy_success(DotEnv(stuck=True), place, num_targets=2) == 0.0
    few = [greedy_success(DotEnv(), place, 3, num_candidates=2, seed=1) for _ in range(2)]
    assert few[0] == few[1], "drawn from the seed"


def test_measure_writes_them_also_for_an_encoder_that_is_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "wm_planner.evaluation.episode.EnvMaker", lambda *_: lambda render: FullEnv()
    )
    data = dot_store(tmp_path / "data", count=16, steps=4).directory
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    paths = ["--recipe", str(recipe), "--data", str(data), "--output", str(tmp_path / "run")]
    command = ["train", "encoder", *paths, "--device", "cpu", "--threads", "1"]
    file = tmp_path / "run" / "geometry.json"
    assert main(command) == 0 and not file.exists(), "nobody asked"
    before = (tmp_path / "run" / "encoder.safetensors").read_bytes()
    assert main([*command, "--resume", "--measure"]) == 0
    measures = json.loads(file.read_text())
    assert set(measures) == {"rank_correlation", "greedy_success"}
    assert -1 <= measures["rank_correlation"] <= 1 and 0 <= measures["greedy_success"] <= 1
    assert (tmp_path / "run" / "encoder.safetensors").read_bytes() == before


@pytest.mark.parametrize("robot", ["wall", "mystery"])
def test_measure_without_states_is_refused_before_any_training(tmp_path, capsys, robot):
    store = mute_store(tmp_path / "mute", robot)
    paths = ["--data", str(store.directory), "--output", str(tmp_path / "run")]
    for part in ([], ["encoder"]):
        assert main(["train", *part, *paths, "--measure"]) == 2
        error = capsys.readouterr().err
        assert "--measure" in error and "leave --measure out" in error
        assert "Traceback" not in error and not (tmp_path / "run").exists()


class FullEnv(DotEnv):
    """In pictures that the encoder takes; goals are near, to be quick."""

    def render_state(self, state):
        return np.broadcast_to(picture(state)[:1, :1], (32, 32, 3)).copy()

    def sample_target(self, rng):
        start = rng.uniform(20, 40, 2)
        return start, start + 6
