"""Recorded bags become what training reads: the rows that the planner was served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags", reason="needs the 'record' extra")

from wm_planner.cli.main import main
from wm_planner.data.bags import Bag
from wm_planner.data.build import build_store
from wm_planner.data.frames import FrameAssembler
from wm_planner.data.image_message import image_array
from wm_planner.data.layouts import open_dataset
from wm_planner.data.messages import stamp_ns
from wm_planner.data.prepare import prepare
from wm_planner.data.store import TrajectoryStore
from wm_planner.data.streams import COMMAND_TOPIC, JOINT_TOPIC
from wm_planner.errors import DatasetError
from wm_planner.tasks import get_task, resized

from .bag_messages import MS, START, episode_messages, event, image, write
from .replayed import replay

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
    for message in Bag(bag).messages():
        topic, decoded = message.topic.strip("/"), message.decode()
        if topic == "observation/image":
            value = image_array(decoded)
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
    assembler = FrameAssembler(2, 5 * DT_NS, 40 * MS, frame_skip=5, joint_gap_ns=2 * DT_NS)
    served = streams(bag)
    frames = replay(
        assembler, served["observation/image"], served[JOINT_TOPIC], served[COMMAND_TOPIC]
    )
    observations = list(frames)
    assert len(observations) == 5 and store.images.shape[:2] == (1, 5)
    for row, seen in enumerate(observations):
        np.testing.assert_array_equal(seen.images[-1], store.images[0, row])
        np.testing.assert_allclose(seen.proprio[-1], store.proprio[0, row], rtol=1e-6)
        if row:
            np.testing.assert_array_equal(seen.actions[-1], store.actions[0, row - 1])


def build(bags, output, *more) -> int:
    return main(["dataset", "build", str(bags), "--output", str(output), *more])


def test_the_command_cuts_several_bags_and_says_what_it_left(tmp_path, caplog):
    """Bags of 4 and 6 model steps: the last piece of the first overlaps the one before it."""
    caplog.set_level("INFO")
    for i, ticks in enumerate((22, 30)):
        record(tmp_path / f"bags/{i}", ticks, seed=i)
    record(tmp_path / "bags/dropped/2", seed=2)
    assert build(tmp_path / "bags", tmp_path / "store", "--steps", "3", "--export", "hdf5") == 0
    store = TrajectoryStore.open(tmp_path / "store")
    assert store.images.shape[:2] == (4, 4) and store.states.shape == (4, 4, 0)
    assert (store.meta["model_steps_used"], store.meta["model_steps_there"]) == (10, 10)
    np.testing.assert_array_equal(store.images[:, 0, 0, 0, 0], [0, 5, 0, 15])
    names = [(Path(row["bag"]).name, row["outcome"]) for row in store.meta["rows"]]
    assert names == [("0", "success")] * 2 + [("1", "success")] * 2
    starts = [row["start_s"] for row in store.meta["rows"]]
    np.testing.assert_allclose(starts, [0, 0.5, 0, 1.5], atol=0.05)
    assert store.embodiment == resized(get_task("wall").embodiment, 16)
    again = open_dataset(tmp_path / "store")
    assert again.states(0) is None and "state_mean" not in again.stats()
    assert again.info(3) == store.meta["rows"][3]
    assert (
        "2 recordings are read, 0 left out, 1 were dropped; of 10 model steps 10 are" in caplog.text
    )
    assert build(tmp_path / "bags", tmp_path / "store") == 2, "it is there already"


def test_what_is_shorter_than_a_piece_is_said(tmp_path, caplog):
    caplog.set_level("INFO")
    for i, ticks in enumerate((12, 30)):
        record(tmp_path / f"bags/{i}", ticks, seed=i)
    assert build(tmp_path / "bags", tmp_path / "store", "--steps", "5") == 0
    assert "of 8 model steps 6 are used, 2 lie in pieces that are shorter" in caplog.text


def test_a_bad_bag_is_named_left_out_and_counted(tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    for i in range(2):
        record(tmp_path / f"bags/{i}", seed=i)
    write(tmp_path / "bags/bad", [("/episode", event("start", task="wall"), START)])
    other = [("/episode", event("start", task="pusht"), START), *episode_messages()]
    write(tmp_path / "bags/other", other)
    (tmp_path / "bags/1/metadata.yaml").unlink()
    assert build(tmp_path / "bags", tmp_path / "store", "--steps", "2") == 0
    assert "left out: bad: topic observation/image has no pictures" in caplog.text
    assert "left out: other: is of another robot ('pusht')" in caplog.text
    assert "1: metadata.yaml is missing" in caplog.text
    assert "2 recordings are read, 2 left out" in caplog.text
    assert build(tmp_path / "bags", tmp_path / "strict", "--strict") == 2
    refused = capsys.readouterr().err
    assert "other: is of another robot" in refused and "(and 2 more bags)" in refused
    assert not (tmp_path / "strict").exists()


def test_episodes_of_one_outcome(tmp_path, capsys):
    for i, outcome in enumerate(("success", "failure", "")):
        bag = tmp_path / f"bags/{i}"
        told = ("/episode", event("start", task="wall"), START)
        inside = [m for m in episode_messages() if m[0] != "/episode"]
        ended = ("/episode", event("end", outcome=outcome), START + 10 * DT_NS)
        write(bag, [told, *inside, ended])
    for outcome, number in (("success", "0"), ("failure", "1")):
        output = tmp_path / outcome
        assert build(tmp_path / "bags", output, "--steps", "2", "--only", outcome) == 0
        rows = TrajectoryStore.open(output).meta["rows"]
        assert [(Path(r["bag"]).name, r["outcome"]) for r in rows] == [(number, outcome)]
    assert build(tmp_path / "bags/2", tmp_path / "none", "--only", "success") == 2
    message = "no trajectory has the outcome 'success'; of 1 there are none that say anything"
    assert message in capsys.readouterr().err


def test_frame_skip_of_the_command_is_that_of_the_reader(tmp_path):
    messages = [m for m in episode_messages(20, image_every=1) if m[0] != "/episode"]
    write(tmp_path / "bag", [("/episode", event("start", task="wall"), START), *messages])
    arguments = ("--steps", "2", "--frame-skip", "2")
    assert build(tmp_path / "bag", tmp_path / "store", *arguments) == 0
    store = TrajectoryStore.open(tmp_path / "store")
    assert store.embodiment.frame_skip == 2 and store.actions.shape == (5, 2, 4)
    np.testing.assert_array_equal(store.images[:, 0, 0, 0, 0], [0, 4, 8, 12, 16])


def test_plain_bags_with_a_robot_file(tmp_path, capsys):
    from .test_recording import plain_messages

    write(tmp_path / "bags/0", plain_messages())
    file = tmp_path / "arm.yaml"
    file.write_text(ROBOT)
    assert build(tmp_path / "bags", tmp_path / "store", "--robot", str(file), "--steps", "2") == 0
    store = TrajectoryStore.open(tmp_path / "store")
    assert store.embodiment.name == "arm" and store.images.shape == (2, 3, 16, 16, 3)
    assert build(tmp_path / "bags", tmp_path / "none") == 2
    assert "0: nothing in it says of which robot it is" in capsys.readouterr().err


def test_the_sheet_shows_the_goal_the_outcome_and_the_bag(tmp_path):
    imageio = pytest.importorskip("imageio.v2", reason="needs the 'viz' extra")
    from wm_planner.cli.contact_sheet import _words, write_contact_sheet
    from wm_planner.cli.pictures import GREEN

    of_goal = [
        ("/goal/image", image(START, 200), START),
        ("/goal/image", cleared(START + 1), START),
    ]
    messages = [("/episode", event("start", task="wall"), START), *of_goal, *episode_messages(22)]
    dataset = open_dataset(write(tmp_path / "episode_0007", messages))
    assert tuple(dataset.goal(0)[3, 3]) == (200, 0, 1)
    words = {text: colour for _, text, colour in _words(dataset, 0)}
    assert words["success"] == GREEN and "bag episode_0007, from 0.0 s on" in words
    write_contact_sheet(tmp_path / "sheet.png", dataset)
    picture = imageio.imread(tmp_path / "sheet.png")
    assert tuple(picture[-100, -100]) == (200, 0, 1)  # the last panel
    assert open_dataset(record(tmp_path / "none")).goal(0) is None


def cleared(stamp):
    """What the planner gets when there is no goal any more."""
    return image(stamp, 0, size=(0, 0))


ROBOT = """
name: arm
control_dt_s: 0.1
frame_skip: 5
action: {names: [a, b], low: [-1, -1], high: [1, 1]}
proprio: [a/position, b/position]
cameras: {front: {topic: /cam/image_raw, crop: [4, 2, 24, 24], size: 16}}
command: {topic: /arm_controller/commands}
stale_after_s: 1.0
"""


def test_info_lists_the_bags(tmp_path, capsys):
    record(tmp_path / "bags/0")
    messages = [("/episode", event("start", task="wall"), START), *episode_messages(60)]
    hole = range(START + 1100 * MS, START + 1900 * MS)
    write(tmp_path / "bags/1", [m for m in messages if m[0] != "/joint_states" or m[2] not in hole])
    write(tmp_path / "bags/2", [])
    record(tmp_path / "bags/dropped/3")
    sheet = ["--contact-sheet", str(tmp_path / "sheet.png")]
    assert main(["dataset", "info", str(tmp_path / "bags"), *sheet]) == 0
    told = yaml.safe_load(capsys.readouterr().out)
    assert told["dropped"] == 1
    (left_out,) = told["left_out"]
    assert left_out["name"] == "2" and "nothing in it says" in left_out["reason"]
    assert told["model_steps"] == {"kept": 14, "possible": 16, "lost": {"joints": 2}}
    first, second = told["bags"]
    assert first["model_steps"] == {"kept": 4, "possible": 4, "lost": {}}
    assert first["outcome"] == "success" and first["seconds"] == pytest.approx(2.2, abs=0.05)
    assert first["rates_hz"]["joints"] == pytest.approx(10, abs=0.3)
    assert second["holes"] == {"joints": {"count": 1, "longest_s": 0.9}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((), "nothing is recorded here"),
        (("dropped/0", "dropped/1"), "all 2 recordings were dropped"),
    ],
)
def test_a_directory_with_nothing_recorded_says_what_to_do(tmp_path, capsys, content, words):
    bags = tmp_path / "bags"
    bags.mkdir()
    for name in content:
        record(bags / name)
    assert main(["dataset", "info", str(bags)]) == 2
    told = capsys.readouterr().err
    assert words in told and "wm-planner robot record" in told


def test_images_become_what_the_camera_node_would_send(tmp_path):
    bag = open_dataset(record(tmp_path / "bag"))
    there = build_store(bag, tmp_path / "as_is", 4, 5, {}).images
    size = there.shape[2] // 2
    small = build_store(bag, tmp_path / "small", 4, 5, {}, image_size=size).images
    assert small.shape == (*there.shape[:2], size, size, 3)
    np.testing.assert_array_equal(small[0, 3], prepare(there[0, 3], None, size))


def test_hdf5_holds_the_same(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the 'train' extra")
    from wm_planner.data.hdf5_export import export_hdf5

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
