"""HDF5 in robomimic's layout as training data: of our own export, and of others."""

from __future__ import annotations

import json

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="needs the 'train' extra")

from wm_planner.data.hdf5_export import export_hdf5  # noqa: E402
from wm_planner.data.layouts import open_dataset  # noqa: E402
from wm_planner.data.prepare import prepare  # noqa: E402
from wm_planner.errors import DatasetError  # noqa: E402

from .training_world import dot_store  # noqa: E402

ENV = {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}}


def robomimic(file, env=ENV, demos=11):
    """A file as robosuite's demonstrations become: T observations and T actions."""
    rng = np.random.default_rng(0)
    with h5py.File(file, "w") as out:
        for number in range(demos):
            length = 4 + number
            demo = out.create_group(f"data/demo_{number}")
            demo["actions"] = rng.uniform(-1, 1, (length, 7))
            demo["states"] = rng.normal(size=(length, 5))
            obs = demo.create_group("obs")
            for name in ("agentview_image", "robot0_eye_in_hand_image"):
                images = rng.integers(0, 256, (length, 40, 48, 3), np.uint8)
                images[:, 0, 5] = number
                obs.create_dataset(name, data=images, compression="gzip")
            obs["robot0_joint_pos"] = rng.normal(size=(length, 7))
            obs["robot0_eef_quat"] = rng.normal(size=(length, 4))
            obs["object"] = rng.normal(size=(length, 10))
        out["data"].attrs["env_args"] = json.dumps(env)
    return file


def test_robomimics_demonstrations_are_read(tmp_path):
    file = robomimic(tmp_path / "image.hdf5")
    dataset = open_dataset(file, image_size=32)
    embodiment = dataset.embodiment
    assert embodiment.name == "Lift" and embodiment.control_dt_s == 0.05
    assert embodiment.frame_skip == 10 and embodiment.action.kind == "position_delta"
    assert [c.name for c in embodiment.cameras] == ["agentview", "robot0_eye_in_hand"]
    assert embodiment.proprio == tuple(f"robot0_joint_pos_{i}/position" for i in range(7))
    assert dataset.lengths.tolist() == list(range(4, 15)), "in the order of their numbers"
    with h5py.File(file) as stored:
        demo = stored["data/demo_10"]
        assert dataset.info(10) == {"demo": "demo_10"}
        np.testing.assert_array_equal(dataset.actions(10), demo["actions"][:-1].astype(np.float32))
        np.testing.assert_array_equal(dataset.states(10), demo["states"][()])
        np.testing.assert_allclose(dataset.proprio(10), demo["obs/robot0_joint_pos"][()], rtol=1e-6)
        image = dataset.frames(10, range(3, 14, 5))[1]
        for name, half in zip(
            ("agentview_image", "robot0_eye_in_hand_image"), (0, 32), strict=True
        ):
            expected = prepare(demo[f"obs/{name}"][8], None, 32)
            np.testing.assert_array_equal(image[:, half : half + 32], expected)
    assert len(dataset.windows(1, 1, 2)) > 0


def test_what_a_controller_that_takes_positions_says(tmp_path):
    kwargs = {"control_freq": 20, "controller_configs": {"control_delta": False}}
    file = robomimic(tmp_path / "image.hdf5", {**ENV, "env_kwargs": kwargs})
    assert open_dataset(file).embodiment.action.kind == "position"


def test_a_folder_with_the_file_will_do(tmp_path):
    export_hdf5(dot_store(tmp_path / "store", count=2, steps=3), tmp_path / "data.hdf5")
    (tmp_path / "folder").mkdir()
    (tmp_path / "data.hdf5").rename(tmp_path / "folder/data.hdf5")
    assert open_dataset(tmp_path / "folder").layout == "hdf5"


def changed(change):
    def damage(file):
        with h5py.File(file, "a") as out:
            change(out["data"])

    return damage


def put(name, value):
    def change(data):
        if name in data:
            del data[name]
        data[name] = value

    return changed(change)


def attribute(value):
    return changed(lambda data: data.attrs.__setitem__("env_args", value))


def truncate(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def elsewhere(data):
    layout = h5py.VirtualLayout((4, 7), float)
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4, 7), float)
    del data["demo_0/actions"]
    data.create_virtual_dataset("demo_0/actions", layout)


SAME_SIZE = np.zeros((4, 7))
DAMAGES = {
    "cut": (truncate, "not a readable HDF5 file"),
    "text": (lambda file: file.write_text("x"), "not a readable HDF5 file"),
    "no data": (lambda file: h5py.File(file, "w").close(), "no 'data' in it"),
    "no demo": (changed(lambda data: data.clear()), "no group data/demo_0"),
    "no env": (changed(lambda data: data.attrs.clear()), "attribute env_args: expected JSON"),
    "env": (attribute("{"), "attribute env_args: expected JSON"),
    "rate": (attribute("{}"), "control_freq: expected the control rate in hertz, got None"),
    "rate 0": (attribute('{"control_freq": 0}'), "control_freq: expected .*, got 0"),
    "embodiment": (attribute('{"embodiment": {"name": 3}}'), "env_args: embodiment: name: exp"),
    "no actions": (changed(lambda data: data["demo_1"].pop("actions")), "demo_1: no 'actions'"),
    "rows": (put("demo_0/actions", np.zeros((9, 7))), "demo_0: 9 actions, and .4. rows in obs"),
    "size": (put("demo_3/actions", np.zeros((7, 6))), "demo_3/actions: .*of another size"),
    "NaN": (put("demo_0/actions", SAME_SIZE * np.nan), "demo_0/actions, step 0, column 0: nan"),
    "strings": (put("demo_0/actions", ["x"] * 4), "demo_0/actions: object .4,., expected .T, D."),
    "link": (put("demo_0/actions", h5py.ExternalLink("/etc/passwd", "x")), "a link to elsewhere"),
    "virtual": (changed(elsewhere), "'actions' lies in other files, which are not read"),
    "group": (put("demo_0", 3.0), "'demo_0' is no group"),
    "no pictures": (
        changed(lambda data: [data["demo_0/obs"].pop(n) for n in list(data["demo_0/obs"])]),
        "demo_0/obs: holds no pictures .* only nothing; robomimic's",
    ),
    "grey": (
        put("demo_2/obs/agentview_image", np.zeros((6, 8, 8), np.uint8)),
        r"demo_2/obs/agentview_image: uint8 \(6, 8, 8\), expected",
    ),
    "states": (put("demo_0/states", np.zeros((2, 5))), "demo_0/states: 2 rows, expected 4"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(tmp_path, name):
    damage, message = DAMAGES[name]
    file = robomimic(tmp_path / "image.hdf5", demos=5)
    damage(file)
    with pytest.raises(DatasetError, match=message) as caught:
        dataset = open_dataset(file)
        for index in range(len(dataset)):
            dataset.proprio(index)
            dataset.actions(index)
            dataset.states(index)
            dataset.frames(index)
    assert str(file) in str(caught.value)


def test_an_export_must_fit_its_embodiment(tmp_path):
    file = tmp_path / "data.hdf5"
    export_hdf5(dot_store(tmp_path / "store", count=2, steps=3), file)
    for demo in ("demo_0", "demo_1"):
        put(f"{demo}/actions", np.zeros((3, 8)))(file)
    with pytest.raises(DatasetError, match="actions: 8 entries, the embodiment .* says 10"):
        open_dataset(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere.hdf5: no such"):
        open_dataset(tmp_path / "nowhere.hdf5")
