"""LeRobot data sets of all versions as training data: the right frames, names, units and errors."""

from __future__ import annotations

import json
import shutil
import struct
import zlib

import numpy as np
import pytest

pq = pytest.importorskip("pyarrow.parquet", reason="needs the 'train' extra")
pytest.importorskip("av", reason="needs the 'train' extra")
pa = pytest.importorskip("pyarrow")

import yaml  # noqa: E402

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.data import lerobot_meta, lerobot_reader, parquet  # noqa: E402
from wm_planner.data.build import build_store  # noqa: E402
from wm_planner.data.layouts import open_dataset  # noqa: E402
from wm_planner.data.prepare import prepare  # noqa: E402
from wm_planner.data.store import TrajectoryStore  # noqa: E402
from wm_planner.data.video import Video  # noqa: E402
from wm_planner.errors import ConfigError, DatasetError  # noqa: E402
from wm_planner.robot import read_robot  # noqa: E402

from .lerobot_made import JOINTS, camera_of, make, number_of, picture  # noqa: E402

FRONT = "observation.images.front"
LEROBOT = {"names": {"shoulder_pan": "pan", "shoulder_lift": "lift"}}
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
DATA = "data/chunk-000/file-000.parquet"
VIDEO = f"videos/{FRONT}/chunk-000/file-000.mp4"


def robot(tmp_path, **changes):
    """A robot file of the arm, with its own names and order of joints."""
    values = {
        "name": "so101_stack",
        "control_dt_s": 0.1,
        "frame_skip": 2,
        "action": {
            "names": ["lift", "pan"],
            "kind": "position",
            "max_rate": [20.0, 20.0],
            "low": [-4, -4],
            "high": [4, 4],
        },
        "proprio": ["pan/position", "lift/position"],
        "cameras": {"front": {"topic": "/image", "size": 32}},
        "command": {"topic": "/commands"},
        "stale_after_s": 1.0,
        "lerobot": LEROBOT,
    }
    file = tmp_path / "robot.yaml"
    file.write_text(yaml.safe_dump({**values, **changes}, sort_keys=False))
    return read_robot(file)


def numbers(images):
    return [number_of(image) for image in images]


def edit_info(root, change):
    info = json.loads((root / "meta/info.json").read_text())
    change(info)
    (root / "meta/info.json").write_text(json.dumps(info))


def edit_table(file, **columns):
    table = pq.read_table(file)
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values))
    pq.write_table(table, file)


# What is there is read ----------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
@pytest.mark.parametrize("store", ["libx264", "libsvtav1", "png", "jpeg", "folder"])
def test_every_frame_of_every_version(tmp_path, version, store):
    made = make(tmp_path / "set", version, store)
    dataset = open_dataset(made.root)
    assert dataset.layout == "lerobot" and dataset.lengths.tolist() == [9, 12, 7]
    assert dataset.frame_skip == 1
    for index in (2, 0, 1):
        assert numbers(dataset.frames(index)) == made.numbers[index].tolist()
        np.testing.assert_array_equal(dataset.proprio(index), made.states[index])
        np.testing.assert_array_equal(dataset.actions(index), made.actions[index][:-1])
        assert dataset.states(index) is None
        assert dataset.info(index) == {"episode": index, "tasks": ["stack"]}
    assert numbers(dataset.frames(1, range(3, 12, 4))) == made.numbers[1][3::4].tolist()
    assert numbers(dataset.frames(1, range(11, 12))) == made.numbers[1][[11]].tolist()


def test_pictures_are_prepared_as_the_camera_node_does(tmp_path):
    made = make(tmp_path / "set", store="png")
    there = open_dataset(made.root, image_size=32).frames(0, range(4, 5))[0]
    np.testing.assert_array_equal(there, prepare(picture(5), None, 32))
    assert open_dataset(made.root).frames(0, range(1)).shape == (1, 96, 96, 3)


def test_an_embodiment_is_derived_from_what_the_data_set_says(tmp_path):
    made = make(tmp_path / "my set", fps=30, cameras=(FRONT, "observation.images.wrist-cam"))
    dataset = open_dataset(made.root)
    embodiment = dataset.embodiment
    assert embodiment.name == "my_set" and embodiment.control_dt_s == 1 / 30
    assert embodiment.frame_skip == 15, "half a second"
    assert embodiment.proprio == tuple(f"{joint}/position" for joint in JOINTS)
    assert embodiment.action.names == JOINTS and embodiment.action.kind == "position"
    actions = np.vstack(made.actions)
    spread = np.ptp(actions, axis=0)
    np.testing.assert_allclose(embodiment.action.low, actions.min(0) - 0.05 * spread, rtol=1e-4)
    np.testing.assert_allclose(embodiment.action.high, actions.max(0) + 0.05 * spread, rtol=1e-4)
    assert [camera.name for camera in embodiment.cameras] == ["front", "wrist_cam"]
    images = dataset.frames(1)
    assert images.shape[1:] == (96, 192, 3), "side by side"
    for camera, half in enumerate(np.split(images, 2, axis=2)):
        assert numbers(half) == made.numbers[1].tolist()
        assert {camera_of(image) for image in half} == {camera}


@pytest.mark.parametrize(
    ("names", "expected", "kind"),
    [
        ([f"{j}.pos" for j in JOINTS], JOINTS, "position"),
        ({"motors": ["main_pan", "main_lift", "grip"]}, ("main_pan", "main_lift", "grip"), None),
        ({"left": ["pan.pos", "lift.pos"], "right": ["pan_2"]}, ("pan", "lift", "pan_2"), None),
        ({"b": 1, "a": 0, "c": 2}, ("a", "b", "c"), "position"),
        ([["a", "b", "c"]], ("a", "b", "c"), "position"),
        (["motors"], ("joint_0", "joint_1", "joint_2"), "position"),
        ([], ("joint_0", "joint_1", "joint_2"), "position"),
        (["x.vel", "y.vel", "theta.vel"], ("x", "y", "theta"), "velocity"),
        (["linear.x", "linear.y", "angular.z"], ("linear.x", "linear.y", "angular.z"), "velocity"),
        (["linear.x", "pan.pos", "lift.pos"], ("linear_x", "pan", "lift"), "position"),
        (["pan.pos", "lift.pos", "x.vel"], ("pan.pos", "lift.pos", "x.vel"), "position"),
        ({"delta_x": 0, "delta_y": 1, "gripper_delta": 2}, None, "position_delta"),
        (["same", "same", "same"], ("same_0", "same_1", "same_2"), "position"),
    ],
)
def test_names_of_all_kinds(tmp_path, names, expected, kind):
    embodiment = open_dataset(make(tmp_path / "set", names=names, store="png").root).embodiment
    if expected is not None:
        assert embodiment.action.names == tuple(expected)
    assert embodiment.action.kind == (kind or "position")
    assert len(set(embodiment.proprio)) == 3


def test_velocities_in_the_state_are_not_positions(tmp_path):
    made = make(tmp_path / "set", store="png", state_names=["pan.pos", "pan.vel", "grip.torque"])
    proprio = open_dataset(made.root).embodiment.proprio
    assert proprio == ("pan/position", "pan/velocity", "grip/effort")


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_bounds_come_from_the_data_where_meta_says_none(tmp_path, version):
    said = open_dataset(make(tmp_path / "a", version, "png").root).embodiment.action
    found = open_dataset(make(tmp_path / "b", version, "png", stats=False).root).embodiment.action
    assert (said.low, said.high) == (found.low, found.high)


# With a robot file --------------------------------------------------------------------------


def test_a_robot_file_says_what_is_what(tmp_path):
    made = make(tmp_path / "set", cameras=("observation.images.top",))
    arm = robot(
        tmp_path,
        cameras={"front": {"topic": "/image", "size": 32, "crop": [0, 0, 64, 64]}},
        lerobot={
            "names": {"shoulder_pan": "pan", "shoulder_lift": "lift"},
            "cameras": {"front": "observation.images.top"},
            "scale": {"pan": 0.5},
        },
    )
    dataset = open_dataset(made.root, robot=arm)
    assert dataset.embodiment == arm.embodiment
    scale = np.array([0.5, 1.0])
    np.testing.assert_allclose(dataset.proprio(0), made.states[0][:, :2] * scale, rtol=1e-6)
    np.testing.assert_allclose(
        dataset.actions(0), made.actions[0][:-1, [1, 0]] * scale[::-1], rtol=1e-6
    )
    images = dataset.frames(0)
    assert images.shape == (9, 32, 32, 3) and numbers(images) == made.numbers[0].tolist()


@pytest.mark.parametrize("kind", ["position", "position_delta", "velocity"])
def test_a_slower_robot_takes_every_third_row(tmp_path, kind):
    made = make(tmp_path / "set", fps=30, lengths=(9, 11))
    action = {
        "names": ["lift", "pan"],
        "kind": kind,
        "low": [-9, -9],
        "high": [9, 9],
        "max_rate": [9, 9],
    }
    dataset = open_dataset(made.root, robot=robot(tmp_path, action=action))
    assert dataset.lengths.tolist() == [3, 4] and dataset.frame_skip == 1
    assert numbers(dataset.frames(1)) == made.numbers[1][::3].tolist()
    np.testing.assert_array_equal(dataset.proprio(1), made.states[1][::3, :2])
    parts = made.actions[1][:9, [1, 0]].reshape(3, 3, 2)
    told = {"position": parts[:, -1], "position_delta": parts.sum(1), "velocity": parts.mean(1)}
    np.testing.assert_allclose(dataset.actions(1), told[kind], rtol=1e-5)


def test_a_camera_may_be_optional(tmp_path):
    made = make(tmp_path / "set", store="png")
    cameras = {
        "wrist": {"topic": "/wrist", "size": 32, "optional": True},
        "front": {"topic": "/image", "size": 32},
    }
    images = open_dataset(made.root, robot=robot(tmp_path, cameras=cameras)).frames(0)
    assert images.shape == (9, 32, 64, 3) and not images[:, :, :32].any()
    assert numbers(images[:, :, 32:]) == made.numbers[0].tolist()


def test_entries_without_names_are_taken_in_order(tmp_path):
    made = make(tmp_path / "set", store="png", names=["motors"])
    joints = ["a", "b", "c"]
    arm = robot(
        tmp_path,
        proprio=[f"{joint}/position" for joint in joints],
        action={
            "names": joints,
            "low": [-4] * 3,
            "high": [4] * 3,
            "kind": "position",
            "max_rate": [9] * 3,
        },
        lerobot={},
    )
    np.testing.assert_array_equal(open_dataset(made.root, robot=arm).proprio(0), made.states[0])
    with pytest.raises(DatasetError, match="3 entries without names; the robot file has 2"):
        open_dataset(made.root, robot=robot(tmp_path, lerobot={}))


def test_another_unit_is_told(tmp_path, caplog):
    made = make(tmp_path / "set", store="png")
    action = {"names": ["lift", "pan"], "kind": "position", "low": [-9, -0.1], "high": [9, 0.1]}
    action["max_rate"] = [9, 9]
    open_dataset(made.root, robot=robot(tmp_path, action=action))
    assert "action 'pan' goes from" in caplog.text and "lerobot: scale: {pan" in caplog.text
    assert "'lift'" not in caplog.text


@pytest.mark.parametrize(
    ("lerobot", "message"),
    [
        ({"names": {"shoulder_pan": "pan"}}, r"nothing is the robot's 'lift/position'; there are "),
        ({"names": {"shoulder_pn": "pan"}}, "names: 'shoulder_pn' is nowhere. Did you mean"),
        ({"scale": {"elbow": 2}}, "scale: 'elbow' is nowhere"),
        ({"state": "observation.stat"}, r"no feature 'observation.stat' \(robot file, lerobot: st"),
        ({"action": FRONT}, "is of dtype image with 12288 entries"),
        (
            {**LEROBOT, "cameras": {"front": "action"}},
            "is of dtype float32; expected colour pictures",
        ),
        (
            {"names": {"shoulder_pan": "pan", "shoulder_lift": "lift", "gripper": "lift"}},
            "'shoulder_lift.pos' and 'gripper.pos' both are the robot's 'lift/position'",
        ),
    ],
)
def test_what_a_robot_file_says_wrong_is_named(tmp_path, lerobot, message):
    made = make(tmp_path / "set", store="png")
    with pytest.raises(DatasetError, match=message):
        open_dataset(made.root, robot=robot(tmp_path, lerobot=lerobot))


@pytest.mark.parametrize(
    ("lerobot", "message"),
    [
        ({"feature": "x"}, "lerobot: unknown key 'feature'"),
        ({"cameras": {"frnt": "x"}}, "there is no camera 'frnt'. Did you mean 'front'"),
        ({"scale": {"pan": "deg"}}, "scale: pan: expected a number other than 0, got 'deg'"),
        ({"fps": 0}, "fps must be above 0"),
    ],
)
def test_a_wrong_mapping_is_refused_with_the_robot_file(tmp_path, lerobot, message):
    with pytest.raises(ConfigError, match=message):
        robot(tmp_path, lerobot=lerobot)


def test_a_crop_must_fit_the_pictures(tmp_path):
    made = make(tmp_path / "set", store="png")
    cameras = {"front": {"topic": "/image", "size": 32, "crop": [0, 0, 640, 480]}}
    dataset = open_dataset(made.root, robot=robot(tmp_path, cameras=cameras))
    with pytest.raises(DatasetError, match="reaches outside of the 64x64 image; the crop of"):
        dataset.frames(0)


def test_clocks_must_fit(tmp_path):
    made = make(tmp_path / "set", store="png", fps=25)
    with pytest.raises(DatasetError, match="25 frames per second do not fit control_dt_s 0.1"):
        open_dataset(made.root, robot=robot(tmp_path))
    arm = robot(tmp_path, lerobot={**LEROBOT, "fps": 10})
    assert open_dataset(made.root, robot=arm).lengths.tolist() == [9, 12, 7]


# Videos -------------------------------------------------------------------------------------


def test_frames_are_counted_where_timestamps_have_drifted(tmp_path):
    lengths = (3, 5, 4, 6, 3)
    made = make(tmp_path / "set", lengths=lengths, per_file=5, drift_s=0.03)
    dataset = open_dataset(made.root)
    for index in range(5):  # the last begins 0.12 s late: more than a frame
        assert numbers(dataset.frames(index)) == made.numbers[index].tolist()


def test_timestamps_tell_where_a_video_holds_more(tmp_path):
    made = make(tmp_path / "set", lengths=(6, 5, 4), per_file=3, extra_frames=3)
    dataset = open_dataset(made.root)
    for index in range(3):
        assert numbers(dataset.frames(index)) == made.numbers[index].tolist()


def test_an_episode_is_decoded_once(tmp_path, monkeypatch):
    made = make(tmp_path / "set", lengths=(12, 12))
    decoded = []
    pictures = Video.pictures

    def counted(self, wanted):
        decoded.extend(wanted)
        return pictures(self, wanted)

    monkeypatch.setattr(Video, "pictures", counted)
    store = build_store(open_dataset(made.root), tmp_path / "store", 1, 2, {}, image_size=96)
    assert decoded == list(range(0, 24, 2)), "every second frame, each once"
    assert [number_of(image) for image in store.images[:, 0]] == [1, 3, 5, 7, 9, 13, 15, 17, 19, 21]


def test_long_episodes_are_not_kept(tmp_path, monkeypatch):
    made = make(tmp_path / "set")
    monkeypatch.setattr(lerobot_reader, "MAX_KEPT", 100)
    dataset = open_dataset(made.root)
    assert numbers(dataset.frames(1, range(2, 12, 3))) == made.numbers[1][2::3].tolist()
    assert dataset._kept is None


# The commands -------------------------------------------------------------------------------


def test_the_commands(tmp_path, capsys):
    made = make(tmp_path / "set", "v2.1", "libsvtav1")
    sheet = tmp_path / "sheet.png"
    assert main(["dataset", "info", str(made.root), "--contact-sheet", str(sheet)]) == 0
    told = yaml.safe_load(capsys.readouterr().out)
    assert told["layout"] == "lerobot" and told["frames"] == 28 and told["image"] == [96, 96, 3]
    assert sheet.is_file()
    words = ["dataset", "build", str(made.root), "--output", str(tmp_path / "store")]
    assert main([*words, "--steps", "2", "--frame-skip", "3", "--image-size", "32"]) == 0
    store = TrajectoryStore.open(tmp_path / "store")
    assert store.embodiment.frame_skip == 3 and store.embodiment.cameras[0].size == 32
    assert [numbers(images) for images in store.images] == [
        [n, n + 3, n + 6]
        for n in (1, 10, 13, 22)  # the third overlaps: no step is lost
    ]
    np.testing.assert_array_equal(store.actions[1], made.actions[1][:6].reshape(2, 9))
    np.testing.assert_array_equal(store.proprio[3], made.states[2][::3])


# Damage -------------------------------------------------------------------------------------


def truncate(name, share=0.6):
    def damage(root):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(share * len(content))])

    return damage


def replace(name, content):
    return lambda root: (root / name).write_bytes(content)


def info(**changes):
    return lambda root: edit_info(root, lambda values: values.update(changes))


def state(**changes):
    key = "observation.state"
    return lambda root: edit_info(root, lambda values: values["features"][key].update(changes))


def rows(name, **columns):
    return lambda root: edit_table(root / name, **columns)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
DAMAGES = {
    "info missing text": (truncate("meta/info.json"), "info.json: not valid JSON"),
    "info no text": (
        replace("meta/info.json", b"\xff\xfe\x00"),
        "info.json: cannot be read .'utf-8' codec",
    ),
    "info a list": (replace("meta/info.json", b"[]"), "expected a mapping, got list"),
    "info deep": (replace("meta/info.json", b"[" * 100_000), "info.json: not valid JSON"),
    "version": (info(codebase_version="v1.6"), "codebase_version is v1.6; v2.0, v2.1 and v3.0"),
    "fps": (info(fps=0), "fps: expected a number above 0, got 0"),
    "fps text": (info(fps="30"), "fps: expected a number above 0, got 30"),
    "fps too high": (info(fps=5000), "no embodiment can be derived: control_dt_s must be from"),
    "features": (info(features=[]), "features: expected a mapping"),
    "feature": (info(features={"action": 3}), "features: action: expected dtype and shape"),
    "shape": (state(shape=["a"]), "observation.state: shape: expected whole numbers"),
    "huge shape": (state(shape=[1_000_000]), "1000000 entries; expected at most 4096 numbers"),
    "other size": (state(shape=[4]), "has rows of 3 entries, info.json says 4"),
    "pattern out": (info(data_path="../{chunk_index}"), "data_path: .*leads out of the data set"),
    "pattern root": (info(data_path="/etc/passwd"), "leads out of the data set"),
    "pattern field": (info(data_path="{chunk_index.__class__}"), "cannot be filled in; version 3"),
    "pattern width": (info(data_path="{chunk_index:99999d}"), "cannot be filled in; version 3"),
    "pattern brace": (info(data_path="{"), "not a pattern of a file name"),
    "episodes cut": (truncate(EPISODES), "file-000.parquet: not a readable parquet file"),
    "episodes LFS": (replace(EPISODES, LFS), "Git LFS pointer: run 'git lfs pull'"),
    "length": (rows(EPISODES, length=[9, 0, 7]), "episode 1: length: expected a whole number from"),
    "episode twice": (rows(EPISODES, episode_index=[0, 1, 1]), "lists episode 1 twice"),
    "other file": (rows(EPISODES, **{"data/file_index": [0, 0, 7]}), "file-007.parquet: missing"),
    "start": (rows(EPISODES, **{f"videos/{FRONT}/from_timestamp": [0, None, 0]}), "expected sec"),
    "data cut": (truncate(DATA), "file-000.parquet: not a readable parquet file"),
    "data LFS": (replace(DATA, LFS), "Git LFS pointer: run 'git lfs pull'"),
    "data gone": (lambda root: (root / DATA).unlink(), "file-000.parquet: missing; episode 0"),
    "frames lost": (rows(DATA, frame_index=[0] * 21), "has 9 rows of episode 0, not frames 0 to 8"),
    "text": (rows(DATA, action=["x"] * 21), "column 'action' holds values of type string"),
    "ragged": (rows(DATA, action=[[1.0]] * 20 + [[1.0, 2.0]]), "rows of .1, 2. entries"),
    "hole": (rows(DATA, action=[[1.0, 2.0, None]] * 21), "'action' holds 21 empty values"),
    "no row": (rows(DATA, action=[[1.0, 2.0, 3.0]] * 20 + [None]), "'action' has an empty row"),
    "NaN": (rows(DATA, action=[[1.0, 2.0, np.nan]] * 21), "episode 0: action, step 0, column 2"),
    "video gone": (lambda root: (root / VIDEO).unlink(), "file-000.mp4: missing; episode 0 needs"),
    "video cut": (truncate(VIDEO), "file-000.mp4: (not a readable video|holds no video stream)"),
    "video LFS": (replace(VIDEO, LFS), "Git LFS pointer: run 'git lfs pull'"),
    "video text": (replace(VIDEO, b"#EXTM3U\n/etc/passwd\n"), "file-000.mp4: not a readable video"),
    "video kind": (info(video_path="meta/info.json"), "videos are read from .mp4, .mov"),
    "stats": (truncate("meta/stats.json"), "stats.json: not valid JSON"),
}


def everything(dataset):
    for index in range(len(dataset)):
        dataset.proprio(index)
        dataset.actions(index)
        dataset.frames(index)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data set that every test of damage copies."""
    return make(tmp_path_factory.mktemp("whole") / "set").root


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(tmp_path, whole, name, capfd):
    damage, message = DAMAGES[name]
    root = tmp_path / "set"
    shutil.copytree(whole, root)
    damage(root)
    with pytest.raises(DatasetError, match=message) as caught:
        everything(open_dataset(root))
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("store", ["libx264", "libsvtav1"])
def test_a_video_damaged_inside_is_named_or_read(tmp_path, store):
    """Bytes flipped in the middle: an error that names the file, or as many frames as there are."""
    made = make(tmp_path / "set", store=store, lengths=(40, 40), per_file=2)
    content = bytearray((made.root / VIDEO).read_bytes())
    for place in range(len(content) // 3, len(content) // 2, 7):
        content[place] ^= 0xFF
    (made.root / VIDEO).write_bytes(content)
    try:
        images = open_dataset(made.root).frames(1)
    except DatasetError as error:
        assert VIDEO in str(error)  # noqa: PT017 - a decoder may also make up for the damage
    else:
        assert images.shape == (40, 96, 96, 3)


def test_a_shorter_video_is_named(tmp_path):
    made = make(tmp_path / "set", "v2.1", lengths=(9, 9))
    short = make(tmp_path / "other", "v2.1", lengths=(5, 5))
    name = f"videos/chunk-000/{FRONT}/episode_000001.mp4"
    (made.root / name).write_bytes((short.root / name).read_bytes())
    dataset = open_dataset(made.root)
    assert len(dataset.frames(0)) == 9
    message = r"episode_000001.mp4: no frame at 0.500 s, which frame 5 of episode 1 needs; the vid"
    with pytest.raises(DatasetError, match=message):
        dataset.frames(1)


def png_header(width, height):
    """A picture that says it is large, in a few bytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"bytes": b"GIF89a", "path": None}, "no readable picture"),
        ({"bytes": png_header(60_000, 60_000), "path": None}, "no readable picture|60000x60000"),
        ({"bytes": png_header(9000, 9000), "path": None}, "a picture of 9000x9000 pixels"),
        ({"bytes": None, "path": "../../secret.png"}, "leads out of the data set"),
        ({"bytes": None, "path": "/etc/hostname"}, r"frame-00000\d.png: missing"),
    ],
)
def test_pictures_of_others_do_no_harm(tmp_path, cell, message):
    made = make(tmp_path / "set", store="png", per_file=3)
    table = pq.read_table(made.root / DATA)
    kind = table.schema.field(FRONT).type
    place = table.column_names.index(FRONT)
    table = table.set_column(place, FRONT, pa.array([cell] * len(table), kind))
    pq.write_table(table, made.root / DATA)
    with pytest.raises(DatasetError, match=message):
        open_dataset(made.root).frames(0)


def test_a_missing_picture_is_named(tmp_path):
    made = make(tmp_path / "set", "v2.1", "folder")
    (made.root / f"images/{FRONT}/episode_000001/frame_000004.png").unlink()
    dataset = open_dataset(made.root)
    assert len(dataset.frames(0)) == 9
    with pytest.raises(DatasetError, match="episode 1, frame 4, feature .* needs it"):
        dataset.frames(1)


def test_absurd_sizes_are_refused_before_they_are_read(tmp_path, monkeypatch):
    made = make(tmp_path / "set", store="png")
    monkeypatch.setattr(parquet, "MAX_VALUES", 20)
    with pytest.raises(DatasetError, match=r"holds \d+ values in .* bytes; at most 20 "):
        open_dataset(made.root).proprio(0)
    monkeypatch.setattr(parquet, "MAX_ROWS", 20)
    with pytest.raises(DatasetError, match="file-000.parquet: 21 rows, at most 20 are read"):
        open_dataset(made.root).proprio(0)
    monkeypatch.setattr(lerobot_meta, "MAX_TEXT", 20)
    with pytest.raises(DatasetError, match="info.json: larger than 20 bytes"):
        open_dataset(made.root)


def test_depth_is_no_colour(tmp_path):
    made = make(tmp_path / "set", store="png", cameras=(FRONT, "observation.images.depth"))
    edit_info(
        made.root,
        lambda values: values["features"]["observation.images.depth"].update(
            info={"video.is_depth_map": True}
        ),
    )
    assert [c.name for c in open_dataset(made.root).embodiment.cameras] == ["front"]
    cameras = {"depth": {"topic": "/depth", "size": 32}}
    with pytest.raises(DatasetError, match="is a depth picture; expected colour pictures"):
        open_dataset(made.root, robot=robot(tmp_path, cameras=cameras))


@pytest.mark.parametrize("key", ["observation.state", "action", FRONT])
def test_what_nobody_can_guess_is_asked_for(tmp_path, key):
    made = make(tmp_path / "set", store="png")
    edit_info(made.root, lambda values: values["features"].pop(key))
    with pytest.raises(DatasetError, match="say in a robot file what is what"):
        open_dataset(made.root)
