"""Trajectory stores: whole or not at all, and every disagreement is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wm_planner.data.store import ARRAYS, TrajectoryStore, write_store
from wm_planner.errors import DatasetError

META = {"task": "wall", "frame_skip": 2, "seed": 5}


def trajectory(seed: int, steps: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "images": rng.integers(0, 256, (steps + 1, 4, 4, 3), dtype=np.uint8),
        "proprio": rng.normal(size=(steps + 1, 2)).astype(np.float32),
        "actions": rng.normal(size=(steps, 4)).astype(np.float32),
        "states": rng.normal(size=(steps + 1, 2)),
    }


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "data", 2, map(trajectory, range(2)), META)


def test_round_trip(store, tmp_path):
    opened = TrajectoryStore.open(tmp_path / "data")
    for index in range(2):
        for name, values in trajectory(index).items():
            np.testing.assert_array_equal(getattr(opened, name)[index], values)
    assert opened.meta == {"schema": 2, **META}
    assert {name: getattr(opened, name).dtype for name in ARRAYS} == ARRAYS
    assert [p.name for p in tmp_path.iterdir()] == ["data"], "nothing is left beside it"


def test_arrays_are_read_only(store):
    with pytest.raises(ValueError, match="read-only"):
        store.images[0, 0] = 0


def test_stats_are_of_one_raw_action(tmp_path):
    one = trajectory(0, steps=2)
    one["actions"] = np.array([[1, 10, 3, 30], [5, 50, 7, 70]], np.float32)
    one["proprio"] = np.array([[0, 1], [2, 1], [4, 4]], np.float32)
    stats = write_store(tmp_path / "data", 1, [one], META).stats()
    assert stats["action_mean"] == (4.0, 40.0)
    np.testing.assert_allclose(stats["action_std"], np.sqrt([20 / 3, 2000 / 3]))
    assert stats["proprio_mean"] == (2.0, 2.0)
    np.testing.assert_allclose(stats["proprio_std"], [2.0, np.sqrt(3)])


@pytest.mark.parametrize(
    ("count", "message"), [(1, "more than the announced 1"), (3, "2 trajectories came, 3 were")]
)
def test_announced_number_must_come(tmp_path, count, message):
    with pytest.raises(DatasetError, match=message):
        write_store(tmp_path / "data", count, map(trajectory, range(2)), META)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_the_source_fails(tmp_path):
    def source():
        yield trajectory(0)
        raise RuntimeError("simulator broke")

    with pytest.raises(RuntimeError, match="simulator broke"):
        write_store(tmp_path / "data", 2, source(), META)
    assert list(tmp_path.iterdir()) == []


def test_existing_store_is_kept(store, tmp_path):
    with pytest.raises(DatasetError, match="exists already"):
        write_store(tmp_path / "data", 1, [trajectory(9)], META)
    np.testing.assert_array_equal(
        TrajectoryStore.open(tmp_path / "data").states[0], trajectory(0)["states"]
    )


def truncate(file):
    file.write_bytes(file.read_bytes()[:-8])


def object_array(file):
    np.save(file, np.array([{"evil": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("meta.json", lambda f: f.unlink(), "no meta.json"),
        ("meta.json", lambda f: f.write_text("{"), "not valid JSON"),
        ("meta.json", lambda f: f.write_text(json.dumps({"schema": 9})), "schema 9, expected 2"),
        ("images.npy", lambda f: f.unlink(), "images.npy: no such file"),
        ("states.npy", truncate, "states.npy: cannot be read"),
        ("actions.npy", object_array, "actions.npy: cannot be read"),
        (
            "proprio.npy",
            lambda f: np.save(f, np.zeros((2, 4, 2))),
            "expected float32 of 3 axes, got float64",
        ),
        ("proprio.npy", lambda f: np.save(f, np.zeros((2, 3, 2), "f4")), "actions.npy says"),
    ],
)
def test_damage_is_named(store, tmp_path, name, damage, message):
    damage(tmp_path / "data" / name)
    with pytest.raises(DatasetError, match=message) as caught:
        TrajectoryStore.open(tmp_path / "data")
    assert str(tmp_path / "data") in str(caught.value)
