"""Published layouts, stores and bags through one view: values, statistics, windows, damage."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from wm_planner.cli import main as cli
from wm_planner.data.dino_wm import PointMaze, PushT
from wm_planner.data.layouts import open_dataset
from wm_planner.data.pickled_values import load_pickle, load_pth
from wm_planner.data.store import write_store
from wm_planner.errors import DatasetError
from wm_planner.models.checkpoint import load_bundle

from .bag_messages import episode_messages, event, write

imageio = pytest.importorskip("imageio.v2", reason="needs the 'viz' extra")

from wm_planner.cli.contact_sheet import SIDE  # noqa: E402
from wm_planner.cli.pictures import GAP, LINE  # noqa: E402

COUNT, STEPS, SIZE = 3, 14, 32
LENGTHS = [14, 9, 12]
CODEC = 4  # grey levels that a video may be off by


def tensors(seed=0, **sizes):
    """Random float tensors (COUNT, STEPS, size...) by name."""
    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(rng.normal(size=(COUNT, STEPS, *size)) * 50).float()
        for name, size in sizes.items()
    }


def pictures(trajectory, length):
    """(T, SIZE, SIZE, 3) uint8 in which every trajectory and row has another colour."""
    images = np.zeros((length, SIZE, SIZE, 3), np.uint8)
    images[..., 0] = 16 * np.arange(length)[:, None, None] + 10
    images[..., 1] = 200
    images[..., 2] = 60 * trajectory + 10
    return images


def save(path, **values):
    path.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        torch.save(value, path / f"{name}.pth")


def make_pusht(path):
    values = tensors(states=(5,), velocities=(2,), rel_actions=(2,), abs_actions=(2,))
    save(path, **values)
    (path / "seq_lengths.pkl").write_bytes(pickle.dumps(LENGTHS))
    (path / "obses").mkdir()
    for i, length in enumerate(LENGTHS):
        with imageio.get_writer(
            path / f"obses/episode_{i:03d}.mp4", fps=10, codec="libx264", macro_block_size=8
        ) as writer:
            for image in pictures(i, length):
                writer.append_data(image)
    states = torch.cat([values["states"], values["velocities"]], dim=-1)
    return {
        "states": states,
        "proprio": states[..., [0, 1, 5, 6]],
        "actions": values["rel_actions"] / 100,
        "lengths": LENGTHS,
    }


def make_point_maze(path):
    values = tensors(states=(4,), actions=(2,))
    save(path, **values, seq_lengths=torch.tensor(LENGTHS))
    for i, length in enumerate(LENGTHS):
        save(path / "obses", **{f"episode_{i:03d}": torch.from_numpy(pictures(i, length))})
    return {**values, "proprio": values["states"], "lengths": LENGTHS}


def make_wall(path):
    values = tensors(states=(2,), actions=(2,))
    places = {
        "door": torch.full((COUNT, STEPS, 1), 30.0),
        "wall": torch.full((COUNT, STEPS, 1), 32),
    }
    save(path, **values, **{f"{name}_locations": place for name, place in places.items()})
    for i in range(COUNT):
        images = torch.from_numpy(pictures(i, STEPS)).float().permute(0, 3, 1, 2) + 0.25
        save(path / "obses", **{f"episode_{i:03d}": images.contiguous()})
    return {**values, "proprio": values["states"], "lengths": [STEPS] * COUNT}


def make_rope(path):
    values = tensors(states=(6, 4), actions=(4,))
    save(path, **values)
    for i in range(COUNT):
        save(path / f"{i:06d}", obses=torch.from_numpy(pictures(i, STEPS)).float())
    return {
        "states": values["states"].flatten(2),
        "proprio": torch.zeros(COUNT, STEPS, 1),
        "actions": values["actions"],
        "lengths": [STEPS] * COUNT,
    }


MAKERS = {
    "pusht": make_pusht,
    "point_maze": make_point_maze,
    "wall": make_wall,
    "rope": make_rope,
}


@pytest.fixture
def made(tmp_path):
    def make(name):
        path = tmp_path / name
        return path, MAKERS[name](path)

    return make


def make_store(path):
    rng = np.random.default_rng(5)

    def trajectory(i):
        return {
            "images": pictures(i, 5),
            "proprio": rng.normal(size=(5, 3)).astype(np.float32),
            "actions": rng.normal(size=(4, 6)).astype(np.float32),
            "states": rng.normal(size=(5, 4)),
        }

    return write_store(path, 2, map(trajectory, range(2)), {"task": "wall", "frame_skip": 3})


def make_bags(path, **kwargs):
    """Two wall episodes of 10 control periods, with an image in every fifth or as said."""
    for name in ("episode_0000", "episode_0001"):
        messages = [m for m in episode_messages(**kwargs) if m[0] != "/episode"]
        start = min(stamp for _, _, stamp in messages)
        told = ("/episode", event("start", task="wall", seed=3), start)
        path.mkdir(exist_ok=True)
        write(path / name, [told, *messages])
    return path


@pytest.mark.parametrize("name", MAKERS)
def test_what_was_written_is_read(made, name):
    path, expected = made(name)
    dataset = open_dataset(path)
    assert dataset.name == name and dataset.frame_skip == 1
    assert len(dataset) == COUNT and dataset.lengths.tolist() == expected["lengths"]
    for i, length in enumerate(expected["lengths"]):
        for column in ("actions", "proprio", "states"):
            values = getattr(dataset, column)(i)
            np.testing.assert_allclose(values, expected[column][i, :length].numpy(), rtol=1e-6)
        assert dataset.actions(i).dtype == dataset.proprio(i).dtype == np.float32
        assert dataset.states(i).dtype == np.float64
        off = dataset.frames(i).astype(int) - pictures(i, length)
        assert np.abs(off).max() <= (CODEC if name == "pusht" else 0)


@pytest.mark.parametrize("name", MAKERS)
def test_any_rows_can_be_asked_for(made, name):
    dataset = open_dataset(made(name)[0])
    everything = dataset.frames(1)
    for rows in (range(0, 1), range(8, 9), range(2, 9, 3)):
        part = dataset.frames(1, rows)
        assert part.dtype == np.uint8 and part.flags.c_contiguous
        np.testing.assert_array_equal(part, everything[rows.start : rows.stop : rows.step])
    for index, rows in ((1, range(0, 15)), (1, range(3, 3)), (1, range(3, 0, -1)), (3, None)):
        with pytest.raises(IndexError, match=str(dataset.path)):
            dataset.frames(index, rows)
    with pytest.raises(IndexError, match="trajectory -1 of 3"):
        dataset.frames(-1)


@pytest.mark.parametrize("name", MAKERS)
def test_opening_reads_no_images(made, name):
    path, _ = made(name)
    for file in [*path.glob("obses/*"), *path.glob("0*/obses.pth")]:
        file.write_bytes(b"no image")
    dataset = open_dataset(path)
    assert dataset.stats() and dataset.states(0) is not None and len(dataset.windows(1, 1))
    with pytest.raises(DatasetError, match=str(path)):
        dataset.frames(0)


def test_a_frame_costs_a_frame(made):
    """Tensors are mapped: what is asked for is all that leaves the file."""
    path, _ = made("point_maze")
    images = load_pth(path / "obses/episode_000.pth")
    assert not images.flags.writeable
    mapped = images
    while mapped is not None and not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert mapped is not None, "a copy"


@pytest.mark.parametrize("name", ["point_maze", "wall", "rope"])
def test_computed_statistics(made, name):
    """Section by section as torch computes them over every valid step."""
    path, expected = made(name)
    dataset = open_dataset(path)
    stats = dataset.stats()
    extra = 1e-6 if name == "rope" else 0.0
    for key, column in (("action", "actions"), ("proprio", "proprio"), ("state", "states")):
        steps = [expected[column][i, :n].double() for i, n in enumerate(expected["lengths"])]
        steps = torch.cat(steps)
        np.testing.assert_allclose(stats[f"{key}_mean"], steps.mean(0), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(stats[f"{key}_std"], steps.std(0) + extra, rtol=1e-6)


def test_fewer_trajectories_change_the_computed_statistics(made):
    path, expected = made("point_maze")
    first = open_dataset(path, num_trajectories=1)
    np.testing.assert_allclose(
        first.stats()["action_mean"], expected["actions"][0].double().mean(0), rtol=1e-6
    )
    assert len(first) == 1 and first.stats() != open_dataset(path).stats()
    for count in (0, 4):
        with pytest.raises(DatasetError, match=f"num_trajectories {count}; .* holds 3"):
            PointMaze(path, count)


def test_pusht_statistics_are_the_published_constants(made):
    path, _ = made("pusht")
    stats = PushT(path).stats()
    assert stats["action_mean"] == (-0.0087, 0.0068) and stats["action_std"] == (0.2019, 0.2002)
    assert stats["proprio_std"] == (101.1202, 87.0112, 74.84556075, 74.14009094)
    assert stats["state_mean"][4:] == (1.9584, -2.93032027, 2.54307914)
    assert len(stats["state_std"]) == 7
    (path / "velocities.pth").unlink()
    still = PushT(path, velocity=False)
    assert still.proprio(0).shape == (14, 2) and still.states(0).shape == (14, 5)
    assert still.stats()["proprio_mean"] == (236.6155, 264.5674)
    assert len(still.stats()["state_mean"]) == 5


def test_what_else_is_known(made):
    assert open_dataset(made("wall")[0]).info(2) == {"door_location": 30.0, "wall_location": 32.0}
    path, _ = made("pusht")
    assert open_dataset(path).info(1) == {"shape": "T"}
    (path / "shapes.pkl").write_bytes(pickle.dumps(["T", "L", "Z"]))
    assert open_dataset(path).info(1) == {"shape": "L"}


def test_windows_are_those_of_the_published_code(made):
    path, expected = made("point_maze")
    dataset = open_dataset(path)
    windows = dataset.windows(history=2, horizon=1, frame_skip=3)
    # start + 3 frames * 3 actions <= T, for T = 14, 9, 12
    assert len(windows) == 6 + 1 + 4
    assert [windows.locate(k) for k in (0, 5, 6, 7, 10)] == [(0, 0), (0, 5), (1, 0), (2, 0), (2, 3)]
    for number in (0, 6, 10):
        window = windows[number]
        i, start = window.trajectory, window.start
        rows = [start, start + 3, start + 6]
        np.testing.assert_array_equal(window.images, pictures(i, 14)[rows])
        np.testing.assert_array_equal(window.proprio, expected["proprio"][i, rows])
        np.testing.assert_array_equal(window.states, expected["states"][i, rows])
        actions = expected["actions"][i]
        groups = [actions[row : row + 3].flatten() for row in rows[:2]]
        np.testing.assert_array_equal(window.actions, torch.stack(groups))
    for number in (-1, 11):
        with pytest.raises(IndexError, match=f"window {number} of 11"):
            windows[number]
    assert sum(1 for _ in windows) == 11


def test_a_window_as_long_as_the_trajectory(made):
    dataset = open_dataset(made("point_maze")[0])
    assert len(dataset.windows(13, 1)) == 1
    with pytest.raises(DatasetError, match="15 frames with frame_skip 1 needs 15 frames.* has 14"):
        dataset.windows(14, 1)
    with pytest.raises(ValueError, match="history and horizon"):
        dataset.windows(0, 1)


def test_a_store_is_a_dataset(tmp_path):
    store = make_store(tmp_path / "store")
    dataset = open_dataset(tmp_path / "store")
    assert dataset.lengths.tolist() == [5, 5] and dataset.frame_skip == 3
    np.testing.assert_array_equal(dataset.frames(1, range(1, 5, 2)), store.images[1, 1:5:2])
    for name in ("actions", "proprio", "states"):
        np.testing.assert_array_equal(getattr(dataset, name)(1), getattr(store, name)[1])
    stats = dataset.stats()
    for key, values in store.stats().items():
        np.testing.assert_allclose(stats[key], values, rtol=1e-12)
    windows = dataset.windows(1, 1)
    assert len(windows) == 2 * 4, "the last frame ends a window"
    last = windows[7]
    np.testing.assert_array_equal(last.images, store.images[1, 3:])
    np.testing.assert_array_equal(last.actions, store.actions[1, 3:])
    sparse = dataset.windows(2, 1, frame_skip=6)[0]
    np.testing.assert_array_equal(sparse.images, store.images[0, ::2])
    np.testing.assert_array_equal(sparse.actions, store.actions[0].reshape(2, 12))
    with pytest.raises(DatasetError, match="must be a multiple of that, got 5"):
        dataset.windows(1, 1, frame_skip=5)


def test_bags_are_a_dataset(tmp_path):
    path = make_bags(tmp_path / "bags")
    dataset = open_dataset(path)
    assert dataset.name == "wall" and dataset.frame_skip == 5
    assert dataset.lengths.tolist() == [3, 3] and dataset.states(0) is None
    np.testing.assert_array_equal(dataset.frames(1)[:, 0, 0, 0], [0, 5, 10])
    np.testing.assert_array_equal(dataset.frames(0, range(1, 2))[:, 0, 0, 0], [5])
    np.testing.assert_array_equal(dataset.proprio(0)[:, 0], [0, 5, 10])
    np.testing.assert_allclose(dataset.actions(0)[1, ::2], np.arange(5, 10) / 100, atol=1e-7)
    assert dataset.info(1)["bag"] == str(path / "episode_0001")
    assert dataset.info(1)["seed"] == "3"
    assert set(dataset.stats()) == {"action_mean", "action_std", "proprio_mean", "proprio_std"}
    assert dataset.stats()["action_mean"] == pytest.approx((0.045, -0.045))
    window = dataset.windows(1, 2)[1]
    assert window.trajectory == 1 and window.actions.shape == (2, 10) and window.states is None
    assert len(open_dataset(path / "episode_0000")) == 1


def test_a_lost_image_ends_a_trajectory(tmp_path):
    messages = list(episode_messages(ticks=40))
    start = messages[0][2]
    lost = ("/observation/image", start + 2_000_000_000)
    messages = [m for m in messages if (m[0], m[2]) != lost]
    messages.insert(0, ("/episode", event("start", task="wall"), start))
    dataset = open_dataset(write(tmp_path / "bag", messages))
    assert dataset.frame_skip == 5 and dataset.lengths.tolist() == [4, 4]
    np.testing.assert_array_equal(dataset.frames(1)[:, 0, 0, 0], [25, 30, 35, 40])
    np.testing.assert_array_equal(dataset.proprio(1)[:, 0], [25, 30, 35, 40])
    np.testing.assert_allclose(dataset.actions(1)[0, ::2], np.arange(25, 30) / 100, atol=1e-7)
    assert dataset.info(1)["start_s"] == 2.5


def test_bags_are_of_one_robot(tmp_path):
    path = tmp_path / "bags"
    path.mkdir()
    write(path / "a", episode_messages())
    write(path / "b", episode_messages())
    with pytest.raises(DatasetError, match="no bag can be used. a: nothing in it says of which"):
        open_dataset(path)
    for name, task in (("c", "wall"), ("d", "pusht")):
        told = ("/episode", event("start", task=task), 1)
        write(path / name, [told, *episode_messages()])
    with pytest.raises(DatasetError, match=f"{path / 'd'}: is of another robot .'pusht'.*proprio"):
        open_dataset(path)
    write(path / "e", [("/episode", event("start", task="wall"), 1), *episode_messages()])
    dataset = open_dataset(path)
    assert [r.path.name for r in dataset.recordings] == ["c", "e"]
    assert [bag.name for bag, _ in dataset.left_out] == ["a", "b", "d"]


def edit(name, change):
    def damage(path):
        value = load_pth(path / name)
        torch.save(change(torch.from_numpy(np.array(value))), path / name)

    return damage


def with_value(index, value):
    def change(tensor):
        tensor[index] = value
        return tensor

    return change


def remove(name):
    return lambda path: (path / name).unlink()


def cut(name):
    def damage(path):
        file = path / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])

    return damage


def lengths(values):
    return lambda path: (path / "seq_lengths.pkl").write_bytes(pickle.dumps(values))


def shorter_video(path):
    os.replace(path / "obses/episode_001.mp4", path / "obses/episode_000.mp4")
    (path / "obses/episode_001.mp4").touch()


def everything(path):
    dataset = open_dataset(path)
    for i in range(len(dataset)):
        dataset.actions(i), dataset.states(i), dataset.frames(i)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("pusht", remove("states.pth"), "states.pth: no such file"),
        ("pusht", remove("rel_actions.pth"), "rel_actions.pth: no such file"),
        ("pusht", remove("seq_lengths.pkl"), "seq_lengths.pkl: no such file"),
        ("pusht", remove("velocities.pth"), "velocities.pth: missing; .*velocity=False"),
        ("pusht", remove("obses/episode_002.mp4"), "episode_002.mp4: missing; .* holds 3"),
        ("pusht", cut("states.pth"), "states.pth: not a whole file of torch.save"),
        ("pusht", cut("obses/episode_000.mp4"), "episode_000.mp4: not a readable video"),
        ("pusht", shorter_video, "episode_000.mp4: has 9 frames, the trajectory 14"),
        ("pusht", lengths([14, 9]), "seq_lengths.pkl: 2 lengths, states.pth holds 3"),
        ("pusht", lengths([14, 9, 15]), "trajectory 2 has length 15, .* room for 1 to 14"),
        ("pusht", lengths([14, 0, 12]), "trajectory 1 has length 0"),
        ("pusht", lengths([1.5, 2, 3]), "seq_lengths.pkl: expected N whole numbers, got float64"),
        ("pusht", cut("seq_lengths.pkl"), "seq_lengths.pkl: damaged"),
        ("pusht", edit("rel_actions.pth", lambda x: x[:2]), r"\(2, 14\) .*states.pth has \(3, 14"),
        ("pusht", edit("velocities.pth", lambda x: x[:, :9]), r"velocities.pth: \(3, 9\)"),
        (
            "pusht",
            edit("rel_actions.pth", with_value((1, 4, 1), np.nan)),
            "rel_actions.pth: trajectory 1, step 4, column 1: nan",
        ),
        (
            "point_maze",
            edit("states.pth", with_value((2, 0, 3), -np.inf)),
            "states.pth: trajectory 2, step 0, column 3: -inf",
        ),
        ("point_maze", edit("states.pth", lambda x: x[0]), r"expected a tensor \(N, T, ...\)"),
        ("point_maze", cut("obses/episode_001.pth"), "episode_001.pth: not a whole file"),
        (
            "point_maze",
            edit("obses/episode_001.pth", lambda x: x[:5]),
            "episode_001.pth: has 5 frames, the trajectory 9",
        ),
        (
            "point_maze",
            edit("obses/episode_001.pth", lambda x: x[..., :2]),
            r"episode_001.pth: expected \(T, H, W, 3\)",
        ),
        ("wall", remove("door_locations.pth"), "door_locations.pth: no such file"),
        ("wall", edit("wall_locations.pth", lambda x: x[1:]), r"wall_locations.pth: \(2, 14\)"),
        (
            "wall",
            edit("obses/episode_000.pth", with_value((3, 0, 0, 0), 300.0)),
            "episode_000.pth: values from 10.25 to 300.0",
        ),
        (
            "wall",
            edit("obses/episode_000.pth", with_value((3, 0, 0, 0), np.nan)),
            "episode_000.pth: values from nan",
        ),
        ("rope", remove("000001/obses.pth"), "000001/obses.pth: missing"),
        ("rope", edit("actions.pth", lambda x: x[:, 1:]), r"actions.pth: \(3, 13\)"),
    ],
)
def test_damage_is_named(made, name, damage, message):
    path, _ = made(name)
    everything(path)
    damage(path)
    with pytest.raises(DatasetError, match=message) as caught:
        everything(path)
    assert str(path) in str(caught.value)


def test_padding_may_hold_anything(made):
    path, _ = made("pusht")
    edit("rel_actions.pth", with_value((1, 9), np.nan))(path)
    everything(path)


def test_an_unknown_folder_says_what_was_looked_for(made, tmp_path):
    (tmp_path / "pusht").mkdir()
    (tmp_path / "pusht/notes.txt").touch()
    with pytest.raises(DatasetError, match="no data set.*seq_lengths.pkl.*door_loc.*mcap"):
        open_dataset(tmp_path / "pusht")
    with pytest.raises(DatasetError, match="nowhere: no such directory"):
        open_dataset(tmp_path / "nowhere")
    made("rope")
    made("wall")
    with pytest.raises(DatasetError, match=f"{tmp_path}: holds data sets in rope, wall; open one"):
        open_dataset(tmp_path)


class Evil:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def test_a_malicious_pickle_does_not_run(made, tmp_path):
    path, _ = made("pusht")
    victim = tmp_path / "touched"
    evil = pickle.dumps([14, 9, Evil(victim)])
    (path / "seq_lengths.pkl").write_bytes(evil)
    with pytest.raises(DatasetError, match=r"seq_lengths.pkl: asks for .*nothing in the .*is run"):
        open_dataset(path)
    make_pusht(tmp_path / "again")
    torch.save({"states": Evil(victim)}, tmp_path / "again" / "states.pth")
    with pytest.raises(DatasetError, match="states.pth: asks for "):
        open_dataset(tmp_path / "again")
    assert not victim.exists()
    pickle.loads(evil)
    assert victim.exists(), "the pickle was a real one"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_pickles(tmp_path, protocol):
    file = tmp_path / "a.pkl"
    grid = np.arange(6, dtype=">i4").reshape(2, 3)
    value = {
        "list": [1, 2.5, "T", None, True],
        "arrays": (grid, np.asfortranarray(grid.astype(np.float32)), np.array([True, False])),
        "scalars": [np.int64(7), np.float32(0.5)],
    }
    file.write_bytes(pickle.dumps(value, protocol))
    read = load_pickle(file)
    assert read["list"] == value["list"] and read["scalars"] == [7, 0.5]
    for found, written in zip(read["arrays"], value["arrays"], strict=True):
        np.testing.assert_array_equal(found, written)
        assert found.dtype == written.dtype
    for refused in (np.array([{}], object), np.array(["a"]), 1j, Path("x")):
        file.write_bytes(pickle.dumps(refused, protocol))
        with pytest.raises(DatasetError, match="a.pkl: (asks for|damaged)"):
            load_pickle(file)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", "bool"])
def test_tensors_of_every_kind(tmp_path, dtype):
    file = tmp_path / "a.pth"
    tensor = torch.arange(60).reshape(3, 4, 5).to(getattr(torch, dtype))
    value = {
        "plain": tensor,
        "turned": tensor.permute(2, 0, 1),
        "part": tensor[1:, ::2, 3],
        "spread": tensor[:1].expand(3, 4, 5),
        "empty": tensor[:0],
        "scalar": tensor[2, 1, 3],
        "more": OrderedDict(list=[tensor, 3], grad=torch.ones(2, requires_grad=True)),
    }
    torch.save(value, file)
    read = load_pth(file)
    for name in list(value)[:-1]:
        assert read[name].dtype == dtype
        np.testing.assert_array_equal(read[name], value[name].numpy())
    np.testing.assert_array_equal(read["more"]["list"][0], tensor.numpy())
    np.testing.assert_array_equal(read["more"]["grad"], np.ones(2))


def rewritten(file, change):
    """The archive with its members changed, or left out."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            data = change(name, data)
            if data is not None:
                archive.writestr(name, data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, data: data[:8] if name.endswith("/0") else data, "needs 6 values, 2 are"),
        (lambda name, data: None if name.endswith("/0") else data, "damaged: KeyError"),
        (lambda name, data: None if name.endswith(".pkl") else data, "not a whole file"),
        (lambda name, data: data[:-9] if name.endswith(".pkl") else data, "damaged"),
    ],
)
def test_a_tensor_must_lie_within_its_file(tmp_path, change, message):
    file = tmp_path / "a.pth"
    torch.save(torch.arange(6.0), file)
    rewritten(file, lambda name, data: data)
    np.testing.assert_array_equal(load_pth(file), np.arange(6))
    rewritten(file, change)
    with pytest.raises(DatasetError, match=f"a.pth: .*{message}"):
        load_pth(file)


class Rebuilt:
    """A tensor that views whatever it is given."""

    def __init__(self, storage, stride):
        self.arguments = storage, 0, (1000,), (stride,), False, OrderedDict()

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


def test_a_tensor_views_nothing_but_its_storage(tmp_path):
    """One value spread over a thousand is no room for a thousand."""
    file = tmp_path / "a.pth"
    torch.save(torch.zeros(1), file)
    forged = pickle.dumps(Rebuilt(Rebuilt(np.zeros(1), 0), 1), 5)
    rewritten(file, lambda name, data: forged if name.endswith(".pkl") else data)
    with pytest.raises(
        DatasetError, match="a.pth: damaged: ValueError: a tensor in a torch._utils"
    ):
        load_pth(file)


def referred_to(value, times=60):
    """Lists that refer twice to the one within: spelt out, 2 ** times values."""
    for _ in range(times):
        value = [value, value]
    return value


@pytest.mark.parametrize("name", ["a.pkl", "a.pth"])
def test_shared_lists_do_not_hang(tmp_path, name):
    file = tmp_path / name
    load = load_pth if name == "a.pth" else load_pickle

    def written(value):
        torch.save(value, file) if name == "a.pth" else file.write_bytes(pickle.dumps(value))

    shared = referred_to([1], 3)
    written(shared)
    read = load(file)
    assert read == shared and read[0] is read[1]
    for bomb in (referred_to([1]), {"a": referred_to(OrderedDict(b=1))}, referred_to(())):
        written(bomb)
        with pytest.raises(DatasetError, match=f"{name}: damaged.*more than 1000000 items"):
            load(file)
    endless = [1]
    endless.append(endless)
    written(endless)
    with pytest.raises(DatasetError, match=f"{name}: damaged: RecursionError"):
        load(file)


def test_a_compressed_pickle_is_refused_before_it_is_expanded(tmp_path):
    file = tmp_path / "a.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps(list(range(10**5))))
    with pytest.raises(DatasetError, match="a.pth: damaged: .*data.pkl is compressed"):
        load_pth(file)


def test_tensors_of_bfloat16_are_read_exactly(tmp_path):
    file = tmp_path / "a.pth"
    tensor = torch.linspace(-3, 3, 12).reshape(3, 4).bfloat16()
    torch.save(tensor.T, file)
    np.testing.assert_array_equal(load_pth(file), tensor.T.float().numpy())


def test_the_old_format_of_torch_is_named(tmp_path):
    file = tmp_path / "a.pth"
    torch.save(torch.ones(2), file, _use_new_zipfile_serialization=False)
    with pytest.raises(DatasetError, match="a.pth: .*before torch 1.6.*with a current torch"):
        load_pth(file)


@pytest.mark.parametrize("name", [*MAKERS, "store", "bags"])
def test_dataset_info(tmp_path, name, capsys, monkeypatch):
    path = tmp_path / name
    {**MAKERS, "store": make_store, "bags": make_bags}[name](path)
    sheet = tmp_path / "sheet.png"
    assert cli.main(["dataset", "info", str(path), "--contact-sheet", str(sheet)]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    dataset = open_dataset(path)
    assert found["layout"] == dataset.layout and found["embodiment"] == dataset.name
    assert found["trajectories"] == len(dataset)
    assert found["frames"] == dataset.lengths.sum()
    assert found["frames_per_trajectory"]["max"] == dataset.lengths.max()
    assert found["image"] == list(dataset.frames(0).shape[1:])
    assert found["action"]["mean"] == pytest.approx(dataset.stats()["action_mean"], rel=1e-5)
    assert found["proprio"]["size"] == dataset.proprio(0).shape[1]
    assert (found["state"] == "unknown") == (name == "bags")
    if name == "rope":
        assert found["state"]["size"] == 24
        assert found["state"]["std"]["largest"] == pytest.approx(max(dataset.stats()["state_std"]))
    picture = imageio.imread(sheet)
    columns = min(6, int(dataset.lengths.max()))
    assert picture.shape[1] == 16 + columns * (SIDE + GAP) - GAP  # nobody knows of a goal
    assert picture.shape[0] == 8 + len(dataset) * (2 * LINE + SIDE)
    # Last panel of the first line: the last frame of the first trajectory.
    shown = picture[4 + 2 * LINE + SIDE // 2, picture.shape[1] - SIDE // 2].astype(int)
    assert np.abs(shown - dataset.frames(0)[-1, 2, 2]).max() <= CODEC


def test_dataset_info_writes_where_it_is_run(tmp_path, monkeypatch, capsys):
    make_store(tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["dataset", "info", "store"]) == 0
    assert (tmp_path / "dataset_info.png").is_file()
    assert "contact_sheet: dataset_info.png" in capsys.readouterr().out
    assert cli.main(["dataset", "info", "store", "--contact-sheet", "no/where.png"]) == 2
    assert "no/where.png: cannot be written" in capsys.readouterr().err
    assert cli.main(["dataset", "info", "nothing"]) == 2
    assert "nothing: no such directory" in capsys.readouterr().err


def test_a_stores_damage_is_named(tmp_path):
    make_store(tmp_path / "store")
    actions = np.load(tmp_path / "store" / "actions.npy")
    actions[1, 2, 5] = np.nan
    np.save(tmp_path / "store" / "actions.npy", actions)
    dataset = open_dataset(tmp_path / "store")
    dataset.actions(0)
    with pytest.raises(DatasetError, match="actions.npy: trajectory 1, step 2, column 5: nan"):
        dataset.stats()
    (tmp_path / "store" / "meta.json").write_text('{"schema": 1, "seed": 1}')
    with pytest.raises(DatasetError, match="store/meta.json: has neither 'embodiment' nor 'task'"):
        open_dataset(tmp_path / "store")


TINY_RECIPE = {
    "encoder": {"num_patches": 1, "dim": 8, "channels": 8, "depth": 1, "batch_pairs": 4}
    | {"num_updates": 2},
    "model": {"num_updates": 2, "batch_size": 2, "held_out": 0.3}
    | {"predictor": {"depth": 1, "heads": 1, "dim_head": 8, "mlp_dim": 8, "width": 8}},
}


@pytest.mark.parametrize("name", ["rope", "granular"])
def test_published_deformables_train_through_the_same_commands(name, tmp_path, capsys):
    source, store, run = (tmp_path / part for part in (name, "store", "run"))
    make_rope(source)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(TINY_RECIPE))
    assert cli.main(["dataset", "build", str(source), "--output", str(store)]) == 0
    words = ["--recipe", str(tmp_path / "recipe.yaml"), "--no-cache", "--threads", "1"]
    words += ["--device", "cpu", "--data", str(store), "--output", str(run)]
    assert cli.main(["train", *words]) == 0
    said = capsys.readouterr().out
    assert f"next: wm-planner eval --data {store}" in said, "the simulated task is another robot"
    body = load_bundle(run / "checkpoint").embodiment
    assert (body.name, body.frame_skip, body.action.size) == (name, 1, 4)
