"""The export as LeRobot 0.4.4 reads it: the same frames, actions and looked-up numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

pq = pytest.importorskip("pyarrow.parquet", reason="needs the 'train' extra")
cv2 = pytest.importorskip("cv2", reason="needs the 'viz' extra")

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.data import lerobot  # noqa: E402
from wm_planner.errors import DatasetError  # noqa: E402

from .training_world import dot_store  # noqa: E402


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """Five episodes of four frames in files of two."""
    monkeypatch.setattr(lerobot, "EPISODES_PER_FILE", 2)
    store = dot_store(tmp_path / "store", count=5, steps=4)
    lerobot.export_lerobot(store, tmp_path / "out")
    return store, tmp_path / "out"


def rows(directory, episode):
    """The rows of an episode, found as the library finds them."""
    info = json.loads((directory / "meta/info.json").read_text())
    entry = pq.read_table(directory / lerobot.EPISODES).to_pylist()[episode]
    chunk, file = entry["data/chunk_index"], entry["data/file_index"]
    table = pq.read_table(directory / info["data_path"].format(chunk_index=chunk, file_index=file))
    mine = [row for row in table.to_pylist() if row["episode_index"] == episode]
    numbers = range(entry["dataset_from_index"], entry["dataset_to_index"])
    assert [row["index"] for row in mine] == list(numbers) and len(mine) == entry["length"]
    return mine


@pytest.mark.parametrize("episode", [0, 3, 4])
def test_frames_come_with_the_actions_that_followed(exported, episode):
    store, directory = exported
    for step, row in enumerate(rows(directory, episode)):
        png = np.frombuffer(row["observation.image"]["bytes"], np.uint8)
        image = cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(image, store.images[episode, step])
        np.testing.assert_array_equal(row["observation.state"], store.proprio[episode, step])
        np.testing.assert_array_equal(np.float32(row["action"]), store.actions[episode, step])
        assert row["frame_index"] == step and row["timestamp"] == 0.5 * step  # 2 frames a second


def test_what_is_looked_up(exported):
    store, directory = exported
    info = json.loads((directory / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 2
    assert (info["total_episodes"], info["total_frames"]) == (5, 20)
    assert info["features"]["observation.image"]["shape"] == [32, 32, 3]
    table = pq.read_table(directory / lerobot.DATA.format(chunk_index=0, file_index=0))
    assert list(info["features"]) == table.column_names
    tasks = pq.read_table(directory / lerobot.TASKS)
    assert tasks.to_pylist() == [{"task_index": 0, "task": "wall"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    stats = json.loads((directory / "meta/stats.json").read_text())
    assert np.shape(stats["observation.image"]["mean"]) == (3, 1, 1)
    assert stats["observation.image"]["max"][0][0][0] == 1.0
    flat = store.actions.reshape(-1, 10)
    np.testing.assert_allclose(stats["action"]["mean"], flat.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["std"], flat.std(0), atol=1e-6)


def test_nothing_is_overwritten(exported):
    store, directory = exported
    with pytest.raises(DatasetError, match="out: cannot be written: .*exists"):
        lerobot.export_lerobot(store, directory)
    assert (directory / lerobot.TASKS).is_file()


def test_the_command(tmp_path):
    data = dot_store(tmp_path / "data", count=2, steps=4).directory
    words = ["dataset", "build", str(data), "--output", str(tmp_path / "out"), "--steps", "2"]
    assert main([*words, "--export", "lerobot"]) == 0
    assert len(rows(tmp_path / "out" / "lerobot", 3)) == 2
