"""The export: the frames, actions and numbers that LeRobot looks up, and the store read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pq = pytest.importorskip("pyarrow.parquet", reason="needs the 'train' extra")
cv2 = pytest.importorskip("cv2", reason="needs the 'viz' extra")

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.data import hdf5_export, lerobot  # noqa: E402
from wm_planner.data.build import build_store  # noqa: E402
from wm_planner.data.layouts import open_dataset  # noqa: E402
from wm_planner.data.store import TrajectoryStore, write_store  # noqa: E402
from wm_planner.embodiment import ActionSpace, Camera, Embodiment  # noqa: E402
from wm_planner.errors import DatasetError  # noqa: E402
from wm_planner.robot import read_robot  # noqa: E402

from .training_world import dot_store  # noqa: E402

IMAGE = "observation.images.front"


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
        png = np.frombuffer(row[IMAGE]["bytes"], np.uint8)
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
    assert info["features"][IMAGE]["shape"] == [32, 32, 3]
    assert info["features"]["observation.state"]["names"] == [
        "slide_x/position",
        "slide_y/position",
    ]
    names = info["features"]["action"]["names"]
    assert names[:3] == ["slide_x[0]", "slide_y[0]", "slide_x[1]"] and len(names) == 10
    table = pq.read_table(directory / lerobot.DATA.format(chunk_index=0, file_index=0))
    assert list(info["features"]) == table.column_names
    tasks = pq.read_table(directory / lerobot.TASKS)
    assert tasks.to_pylist() == [{"task_index": 0, "task": "wall"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    stats = json.loads((directory / "meta/stats.json").read_text())
    assert np.shape(stats[IMAGE]["mean"]) == (3, 1, 1)
    assert stats[IMAGE]["max"][0][0][0] == 1.0
    flat = store.actions.reshape(-1, 10)
    np.testing.assert_allclose(stats["action"]["mean"], flat.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["std"], flat.std(0), atol=1e-6)


def test_nothing_is_overwritten(exported):
    store, directory = exported
    with pytest.raises(DatasetError, match="out: cannot be written: .*exists"):
        lerobot.export_lerobot(store, directory)
    assert (directory / lerobot.TASKS).is_file()


def two_cameras(directory):
    """A store of an arm with two cameras, of whose simulator nobody knows the states."""
    rng = np.random.default_rng(0)
    embodiment = Embodiment(
        name="arm_push",
        control_dt_s=1 / 30,
        frame_skip=1,
        action=ActionSpace(("a", "b"), (-0.1, -1 / 3), (0.7, 2.0), "position_delta", (0.1, 0.0)),
        proprio=("a/position", "b/velocity", "c/effort"),
        cameras=(Camera("wrist", 32, (1, 2, 30, 40)), Camera("front", 32, optional=True)),
        proprio_units=("rad", "rad/s", "Nm"),
        angles=("a/position",),
    )
    trajectories = [
        {
            "images": rng.integers(0, 256, (4, 32, 64, 3), np.uint8),
            "proprio": rng.normal(size=(4, 3)).astype(np.float32),
            "actions": rng.normal(size=(3, 2)).astype(np.float32),
            "states": np.zeros((4, 0)),
        }
        for _ in range(3)
    ]
    return write_store(directory, 3, trajectories, {"embodiment": embodiment.to_json()})


def made(kind, directory):
    if kind == "two cameras":
        return two_cameras(directory)
    return dot_store(directory, count=3, steps=4)


@pytest.mark.parametrize("kind", ["states", "two cameras"])
@pytest.mark.parametrize("form", ["lerobot", "hdf5"])
def test_what_is_exported_is_read_back_bit_for_bit(tmp_path, monkeypatch, kind, form):
    monkeypatch.setattr(lerobot, "EPISODES_PER_FILE", 2)
    store = made(kind, tmp_path / "store")
    if form == "lerobot":
        lerobot.export_lerobot(store, tmp_path / "out")
    else:
        pytest.importorskip("h5py", reason="needs the 'train' extra")
        hdf5_export.export_hdf5(store, tmp_path / "out.h5")
    dataset = open_dataset(tmp_path / ("out" if form == "lerobot" else "out.h5"))
    assert dataset.layout == form and dataset.embodiment == store.embodiment
    assert dataset.frame_skip == store.embodiment.frame_skip
    assert dataset.lengths.tolist() == [store.images.shape[1]] * 3
    for index in range(3):
        np.testing.assert_array_equal(dataset.frames(index), store.images[index])
        np.testing.assert_array_equal(
            dataset.frames(index, range(1, 4, 2)), store.images[index, 1::2]
        )
        for name in ("proprio", "actions"):
            values = getattr(dataset, name)(index)
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, getattr(store, name)[index])
        if kind == "states":
            np.testing.assert_array_equal(dataset.states(index), store.states[index])
        else:
            assert dataset.states(index) is None
    steps = int(dataset.lengths[0]) - 1
    again = build_store(dataset, tmp_path / "again", steps, dataset.frame_skip, {})
    assert again.embodiment == store.embodiment
    for name in ("images", "proprio", "actions", "states"):
        np.testing.assert_array_equal(getattr(again, name), getattr(store, name))


def test_each_camera_is_a_feature(tmp_path):
    store = two_cameras(tmp_path / "store")
    lerobot.export_lerobot(store, tmp_path / "out")
    (row, *_) = rows(tmp_path / "out", 1)
    for place, name in enumerate(("wrist", "front")):
        png = np.frombuffer(row[f"observation.images.{name}"]["bytes"], np.uint8)
        image = cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(image, store.images[1, 0, :, 32 * place : 32 * place + 32])


def test_other_tools_see_an_export_as_any_data_set(tmp_path):
    """Without the files that LeRobot does not know, names and values are still there."""
    store = dot_store(tmp_path / "store", count=2, steps=4)
    lerobot.export_lerobot(store, tmp_path / "out")
    (tmp_path / "out" / lerobot.OWN).unlink()
    dataset = open_dataset(tmp_path / "out", image_size=32)
    assert dataset.embodiment.proprio == store.embodiment.proprio
    assert dataset.embodiment.action.size == 10 and dataset.lengths.tolist() == [4, 4]
    np.testing.assert_array_equal(dataset.frames(1), store.images[1, :-1])


def test_pictures_of_other_cameras_are_refused(tmp_path):
    store = two_cameras(tmp_path / "store")
    odd = replace(store, images=store.images[:, :, :, :62])
    with pytest.raises(DatasetError, match="are not 2 square ones side by side"):
        lerobot.export_lerobot(odd, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def edit_json(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: edit_json(out / lerobot.OWN, schema=7), "wm_planner.json: schema 7, expected"),
        (lambda out: edit_json(out / lerobot.OWN, embodiment={}), "key 'name' is missing"),
        (lambda out: (out / lerobot.OWN_ROWS).unlink(), "wm_planner.parquet: not a readable"),
        (
            lambda out: pq.write_table(
                pq.read_table(out / lerobot.OWN_ROWS).slice(1), out / lerobot.OWN_ROWS
            ),
            "wm_planner.parquet: nothing usable of episode 0",
        ),
    ],
)
def test_a_damaged_export_is_named(tmp_path, damage, message):
    lerobot.export_lerobot(dot_store(tmp_path / "store", count=2, steps=4), tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path / "out")


def test_an_export_of_another_robot_is_refused(tmp_path):
    lerobot.export_lerobot(dot_store(tmp_path / "store", count=2, steps=4), tmp_path / "out")
    robot = read_robot(Path(__file__).parents[2] / "config/robots/example_servo.yaml")
    with pytest.raises(DatasetError, match="of another robot: "):
        open_dataset(tmp_path / "out", robot=robot)


@pytest.mark.parametrize("form", ["lerobot", "hdf5"])
def test_the_command(tmp_path, form, capsys):
    data = dot_store(tmp_path / "data", count=2, steps=4).directory
    words = ["dataset", "build", str(data), "--output", str(tmp_path / "out"), "--steps", "2"]
    assert main([*words, "--export", form]) == 0
    written = tmp_path / "out" / {"lerobot": "lerobot", "hdf5": "data.hdf5"}[form]
    words = ["dataset", "build", str(written), "--output", str(tmp_path / "again"), "--steps", "2"]
    assert main(words) == 0
    one, other = (TrajectoryStore.open(tmp_path / name) for name in ("out", "again"))
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.states, other.states)
    assert one.embodiment == other.embodiment
    sheet = str(tmp_path / "sheet.png")
    assert main(["dataset", "info", str(written), "--contact-sheet", sheet]) == 0
    assert f"layout: {form}" in capsys.readouterr().out
