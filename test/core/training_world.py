"""Data and models that train in seconds: a dot that moves by its action."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from wm_planner.data.store import Trajectory, TrajectoryStore, write_store
from wm_planner.models.bundle import Bundle, build_model
from wm_planner.models.checkpoint import save_bundle
from wm_planner.models.predictor import PredictorConfig
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import ModelConfig
from wm_planner.tasks import get_task, resized
from wm_planner.training import loop

TINY = PredictorConfig(depth=1, heads=2, dim_head=16, mlp_dim=64, width=32, residual=True)
SIZE = 32


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """Training in the block is stopped after it has saved `step`."""
    save = loop.save_state

    def stop(directory: Path, state: dict) -> None:
        save(directory, state)
        if state["step"] == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save_state", stop)
        yield


def dot_trajectory(rng: np.random.Generator, steps: int, straight: bool = False) -> Trajectory:
    """A 6-pixel dot whose five raw actions add up to its displacement; a straight one keeps on."""
    actions = rng.uniform(-1.5, 1.5, (steps, 10)).astype(np.float32)
    actions = actions[:1].repeat(steps, axis=0) if straight else actions
    position = np.zeros((steps + 1, 2))
    position[0] = rng.uniform(8, SIZE - 8, 2)
    for t in range(steps):
        moved = position[t] + actions[t].reshape(5, 2).sum(0)
        position[t + 1] = np.clip(moved, 3, SIZE - 3)
    images = np.full((steps + 1, SIZE, SIZE, 3), 255, np.uint8)
    for t, (x, y) in enumerate(position.astype(int)):
        images[t, y - 3 : y + 3, x - 3 : x + 3] = (255, 0, 0)
    proprio = position.astype(np.float32)
    return {"images": images, "proprio": proprio, "actions": actions, "states": position}


def dot_store(
    directory: Path, count: int = 128, steps: int = 8, seed: int = 0, straight: bool = False
) -> TrajectoryStore:
    rng = np.random.default_rng(seed)
    trajectories = (dot_trajectory(rng, steps, straight) for _ in range(count))
    return write_store(directory, count, trajectories, {"task": "wall", "frame_skip": 5})


def mute_store(
    directory: Path, robot: str = "mystery", count: int = 12, steps: int = 6, seed: int = 0
) -> TrajectoryStore:
    """Recordings of a robot that no task knows, and whose states nobody knows."""
    rng = np.random.default_rng(seed)
    trajectories = (
        dot_trajectory(rng, steps) | {"states": np.zeros((steps + 1, 0))} for _ in range(count)
    )
    values = resized(get_task("wall").embodiment, SIZE).to_json() | {"name": robot}
    return write_store(directory, count, trajectories, {"embodiment": values, "seed": seed})


def tiny_bundle(num_hist: int = 1, dropout: float = 0.0) -> Bundle:
    """Untrained: 16 tokens of 8 entries."""
    torch.manual_seed(0)
    predictor = PredictorConfig(1, 2, 16, 64, dropout, width=32, residual=True)
    encoder = {"kind": "small", "channels": 32, "depth": 1}
    config = ModelConfig(SIZE, num_hist, 16, 8, 10, 2, predictor=predictor, encoder=encoder)
    model = build_model(config)
    torch.nn.init.normal_(model.predictor.proj_out.weight, std=0.02)  # let gradients through
    preprocess = Preprocess(SIZE, 5, (0.0, 0.0), (0.87, 0.87), (16.0, 16.0), (5.0, 5.0))
    return Bundle(model, preprocess, get_task("wall").embodiment)


def tiny_checkpoint(directory: Path, **kwargs) -> Path:
    return save_bundle(tiny_bundle(**kwargs), directory)


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(checkpoint / "model.safetensors")


def metrics(run: Path) -> list[dict]:
    """Lines of metrics without the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k != "minutes"} for x in lines]
