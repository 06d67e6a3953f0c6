"""Recorded bags become what training reads: the rows that the planner was served."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs the 'record' extra")

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.data.bags import (  # noqa: E402
    COMMAND_TOPIC,
    IMAGE_TOPIC,
    JOINT_TOPIC,
    image_array,
    read_messages,
    stamp_ns,
)
from wm_planner.data.build import build_store  # noqa: E402
from wm_planner.data.frames import FrameAssembler, replay  # noqa: E402
from wm_planner.data.layouts import open_dataset  # noqa: E402
from wm_planner.data.prepare import prepare  # noqa: E402
from wm_planner.data.store import TrajectoryStore  # noqa: E402
from wm_planner.errors import DatasetError  # noqa: E402

from .test_bags import MS, START, episode_messages, event, write  # noqa: E402

DT_NS = 100 * MS


def record(path, ticks: int = 22, seed: int = 0):
    """A wall episode whose samples come up to 20 ms early or late."""
    rng = np.random.default_rng(seed)
    jitter = lambda: int(rng.integers(-20 * MS, 20 * MS))  # noqa: E731
    return write(
        path,
        [
            ("/episode", event("start", task="wall"), START),
            *episode_messages(ticks, jitter=jitter),
        ],
    )


def streams(bag) -> dict[str, list[tuple[int, np.ndarray]]]:
    """The samples as the planner's callbacks get them."""
    found: dict[str, list[tuple[int, np.ndarray]]] = {}
    for message in read_messages(bag):
        topic, decoded = message.topic.strip("/"), message.decode()
        if topic == IMAGE_TOPIC:
            value = image_array(decoded, "")
        elif topic == JOINT_TOPIC:
            value = np.array(decoded.position)
        elif topic == COMMAND_TOPIC:
            value = np.array(decoded.points[0].velocities)
        else:
            continue
        found.setdefault(topic, []).append((stamp_ns(decoded), value))
    return found


def test_training_sees_what_the_planner_was_served(tmp_path):
    bag = record(tmp_path / "bag")
    store = build_store(open_dataset(bag), tmp_path / "store", 4, 5, {})
    assembler = FrameAssembler(2, 5 * DT_NS, 40 * MS, frame_skip=5)
    served = streams(bag)
    frames = replay(assembler, served[IMAGE_TOPIC], served[JOINT_TOPIC], served[COMMAND_TOPIC])
    observations = list(frames)
    assert len(observations) == 5 and store.images.shape[:2] == (1, 5)
    for row, seen in enumerate(observations):
        np.testing.assert_array_equal(seen.images[-1], store.images[0, row])
        np.testing.assert_array_equal(seen.proprio[-1], store.proprio[0, row])
        if row:
            np.testing.assert_array_equal(seen.actions[-1], store.actions[0, row - 1])


def test_the_command_cuts_several_bags_and_says_what_it_left(tmp_path, caplog):
    for i, ticks in enumerate((22, 30)):
        record(tmp_path / f"bags/{i}", ticks, seed=i)
    words = ["dataset", "build", str(tmp_path / "bags"), "--output", str(tmp_path / "store")]
    assert main([*words, "--steps", "3", "--export", "hdf5"]) == 0
    store = TrajectoryStore.open(tmp_path / "store")
    assert store.images.shape[:2] == (3, 4) and store.states.shape == (3, 4, 0)
    assert (store.meta["model_steps_used"], store.meta["model_steps_there"]) == (9, 10)
    np.testing.assert_array_equal(store.images[:, 0, 0, 0, 0], [0, 0, 15])
    assert store.embodiment.name == "wall" and store.embodiment.frame_skip == 5
    again = open_dataset(tmp_path / "store")
    assert again.states(0) is None and "state_mean" not in again.stats()
    assert main(words) == 2


def test_images_become_what_the_camera_node_would_send(tmp_path):
    bag = open_dataset(record(tmp_path / "bag"))
    there = build_store(bag, tmp_path / "as_is", 4, 5, {}).images
    size = there.shape[2] // 2
    small = build_store(bag, tmp_path / "small", 4, 5, {}, image_size=size).images
    assert small.shape == (*there.shape[:2], size, size, 3)
    np.testing.assert_array_equal(small[0, 3], prepare(there[0, 3], None, size))


def test_hdf5_holds_the_same(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the 'train' extra")
    from wm_planner.data.hdf5 import export_hdf5

    store = build_store(open_dataset(record(tmp_path / "bag")), tmp_path / "store", 2, 5, {})
    export_hdf5(store, tmp_path / "data.hdf5")
    with h5py.File(tmp_path / "data.hdf5") as file:
        assert sorted(file["data"]) == ["demo_0", "demo_1"]
        assert file["data"].attrs["total"] == 4
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "wall"
        for i in range(2):
            demo = file[f"data/demo_{i}"]
            np.testing.assert_array_equal(demo["obs/image"][()], store.images[i])
            np.testing.assert_array_equal(demo["obs/proprio"][()], store.proprio[i])
            np.testing.assert_array_equal(demo["actions"][()], store.actions[i])
            assert "states" not in demo and demo.attrs["num_samples"] == 2
    with pytest.raises(DatasetError, match=r"data\.hdf5: cannot be written"):
        export_hdf5(store, tmp_path / "data.hdf5")


@pytest.mark.parametrize(
    ("steps", "frame_skip", "message"),
    [(5, 5, "needs 6 frames"), (2, 7, "multiple of that, got 7")],
)
def test_what_does_not_fit_is_named(tmp_path, steps, frame_skip, message):
    with pytest.raises(DatasetError, match=message):
        build_store(
            open_dataset(record(tmp_path / "bag")), tmp_path / "store", steps, frame_skip, {}
        )
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("option", ["--steps", "--image-size"])
def test_nothing_of_size_zero_is_made(tmp_path, capsys, option):
    bag = record(tmp_path / "bag")
    words = ["dataset", "build", str(bag), "--output", str(tmp_path / "store"), option, "0"]
    assert main(words) == 2 and f"{option} must be at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
