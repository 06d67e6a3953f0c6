"""Probes of encoders whose answers are known: what they show, and what follows for planning."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.data.layouts import open_dataset  # noqa: E402
from wm_planner.data.store import write_store  # noqa: E402
from wm_planner.errors import DatasetError  # noqa: E402
from wm_planner.evaluation import readout  # noqa: E402
from wm_planner.evaluation.encoded import Frames, read_frames  # noqa: E402
from wm_planner.evaluation.probe import Probe, probe  # noqa: E402
from wm_planner.evaluation.verdict import text, verdict  # noqa: E402
from wm_planner.tasks import get_task  # noqa: E402

from .training_world import dot_store, mute_store, tiny_checkpoint  # noqa: E402

STATES = get_task("pusht").state_names
ANGLE = STATES.index("block_angle_rad")
FULL = np.array([512, 512, 512, 512, 2 * np.pi, 200, 200])
RECIPE = """
encoder: {kind: keypoint, num_patches: 1, dim: 8, channels: 4, num_updates: 2, batch_pairs: 2}
"""


@pytest.fixture(autouse=True)
def short_networks(monkeypatch):
    monkeypatch.setattr(readout, "STEPS", 80)


def walk(rng: np.random.Generator, near: bool) -> np.ndarray:
    """(7, 7) states of pusht; `near`: the pusher stays within 60 units of the block."""
    drift = rng.uniform(-20, 20, 7) * (1, 1, 1, 1, 0.02, 0, 0)
    states = rng.uniform(100, 400, 7) + drift * np.arange(7)[:, None]
    states[:, ANGLE] = (rng.uniform(0, 2 * np.pi) + drift[4] * np.arange(7)) % (2 * np.pi)
    if near:
        states[:, :2] = states[:, 2:4] + rng.uniform(-60, 60, 2)
    states[:, 5:] = rng.uniform(-100, 100, (7, 2))
    return states


def trajectory(states: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures whose first pixels are the state, as two bytes an entry."""
    whole = (states / FULL * 65535).clip(0, 65535).astype(int)
    images = np.zeros((7, 24, 24, 3), np.uint8)
    images[:, 0, :7, 0], images[:, 0, :7, 1] = whole >> 8, whole & 255
    proprio = states[:, [0, 1, 5, 6]].astype(np.float32)
    return {
        "images": images,
        "proprio": proprio,
        "actions": np.ones((6, 10), np.float32),
        "states": states,
    }


def states_of(images: np.ndarray) -> np.ndarray:
    return (images[:, 0, :7, 0] * 256.0 + images[:, 0, :7, 1]) / 65535 * FULL


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two stores of 60 trajectories: pusher anywhere, and always near the block."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    values = {"embodiment": get_task("pusht").embodiment.to_json() | {"cameras": CAMERA}}
    for name in ("far", "near"):
        rows = (trajectory(walk(rng, name == "near")) for _ in range(60))
        write_store(folder / name, 60, rows, values)
    return folder


CAMERA = [{"name": "front", "size": 24, "crop": None, "optional": False}]


def columns(states: np.ndarray, names: str) -> np.ndarray:
    places = {"pusher": states[:, :2] / 100, "block": states[:, 2:4] / 100}
    angle = states[:, ANGLE]
    places |= {"angle": np.stack([np.cos(angle), np.sin(angle)], axis=1)}
    return np.concatenate([places[name] for name in names.split()], axis=1)


def mixed() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(6, 12))


def encoder(names: str):
    """Shows what is named, mixed by a fixed matrix into twelve entries."""
    mix = mixed()

    def encode(images):
        shown = columns(states_of(images), names)
        return torch.from_numpy(shown @ mix[: shown.shape[1]]).float()[:, None]

    return encode


def found(data, encode, task="pusht", **options) -> Probe:
    return probe(read_frames(open_dataset(data), encode, **options), task)


@pytest.fixture(scope="module")
def sighted(data) -> Probe:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readout, "STEPS", 80)
        return found(data / "far", encoder("pusher block angle"))


def test_a_latent_that_shows_the_state_linearly_can_be_planned_in(data, sighted):
    result = sighted
    shown = [entry for entry in result.entries if entry.thing]
    assert [entry.name for entry in shown] == list(STATES[:5])
    assert all(entry.linear > 0.99 and entry.beyond > 0.95 for entry in shown)
    assert max(entry.error for entry in shown[:4]) < 5 and shown[4].error < 5, "units, degrees"
    speeds = [entry for entry in result.entries if entry.thing is None]
    assert [entry.name for entry in speeds] == ["vx", "vy"]
    assert all(entry.linear < 0.3 for entry in speeds), "no picture shows them"
    assert result.ranks["all"] > 0.6 and result.shares["else"] < 0.02
    states = np.concatenate([open_dataset(data / "far").states(i) for i in range(60)])
    part = columns(states, "pusher block angle").var(axis=0) * (mixed()[:6] ** 2).sum(axis=1)
    true = {"pusher": part[:2].sum() / part.sum(), "block": part[2:].sum() / part.sum()}
    assert {thing: result.shares[thing] for thing in true} == pytest.approx(true, abs=0.1)
    assert verdict(result)[0] == "yes", text(result)
    assert result == found(data / "far", encoder("pusher block angle")), "the same again"


def test_a_blind_encoder_cannot(data):
    def blind(images):
        seed = int(images.astype(np.int64).sum() % 2**31)
        return torch.from_numpy(np.random.default_rng(seed).normal(size=(len(images), 1, 12)))

    result = found(data / "far", blind)
    grade, reasons = verdict(result)
    assert grade == "no"
    assert "It does not see the pusher: no plan can aim at it." in reasons
    assert "It does not see the block: no plan can aim at it." in reasons
    assert any("do not rank true distances" in reason for reason in reasons)
    assert "verdict: no" in text(result)


def test_an_encoder_that_sees_no_angle_is_named_so(data):
    grade, reasons = verdict(found(data / "far", encoder("pusher block")))
    assert grade == "in part" and "It sees the pusher." in reasons
    assert any("does not see block_angle_rad" in reason for reason in reasons)


def test_a_thing_that_is_read_by_way_of_its_neighbour_is_not_seen(data):
    result = found(data / "near", encoder("block angle"))
    pusher = result.entries[0]
    assert pusher.linear > 0.75 and pusher.beyond < 0.3
    grade, reasons = verdict(result)
    assert grade == "no" and "It does not see the pusher: no plan can aim at it." in reasons


def test_a_constant_latent_shows_nothing(data):
    result = found(data / "far", lambda images: torch.ones(len(images), 1, 4))
    assert verdict(result)[0] == "no" and result.ranks["all"] == 0


@pytest.mark.parametrize(
    ("share", "grade", "words"),
    [(0.05, "yes", "5 % of what copying"), (0.6, "in part", "rough"), (1.2, "no", "nothing moves")],
)
def test_the_models_error_counts_where_there_is_a_model(sighted, share, grade, words):
    errors = {"model": [0.1, 2 * share], "copy": [1.0, 2.0], "windows": 5}
    judged, reasons = verdict(sighted, errors)
    assert judged == grade and words in reasons[-1]


def test_without_states_the_robot_and_the_order_of_frames_are_asked(tmp_path):
    store = mute_store(tmp_path / "data", count=60)

    def sees(images):  # where the dot is
        red = (images[..., 1] < 128).astype(np.float64)
        axis = np.arange(red.shape[1]) / red.shape[1]
        whole = red.sum(axis=(1, 2))
        places = [(red.sum(axis=1 + i) * axis).sum(axis=1) / whole for i in range(2)]
        return torch.from_numpy(np.stack(places, axis=1))[:, None]

    result = found(store.directory, sees, task=None)
    assert not result.is_state and {entry.thing for entry in result.entries} == {"robot"}
    assert all(entry.linear > 0.95 for entry in result.entries) and result.order > 0.55
    _, reasons = verdict(result)
    assert "It sees the robot." in reasons
    assert any("not known without states" in reason for reason in reasons)
    assert any("later in time" in reason for reason in reasons)


def test_held_out_trajectories_are_the_ones_that_are_tested(data):
    frames: Frames = read_frames(open_dataset(data / "far"), encoder("block"), [3, 5], frames=90)
    assert set(frames.trajectory[frames.tested].tolist()) == {3, 5}
    assert len(frames.trajectory[~frames.tested]) > 2
    assert 60 < len(frames.latent) <= 120 and frames.length == 6


def test_one_trajectory_is_too_few(tmp_path):
    rows = [trajectory(walk(np.random.default_rng(0), False))]
    values = {"embodiment": get_task("pusht").embodiment.to_json() | {"cameras": CAMERA}}
    write_store(tmp_path / "one", 1, rows, values)
    with pytest.raises(DatasetError, match="record more, or build the store"):
        read_frames(open_dataset(tmp_path / "one"), encoder("block"))


# The command --------------------------------------------------------------------------------


def test_command_probes_a_checkpoint_on_a_store_and_on_another_layout(tmp_path, capsys):
    pytest.importorskip("h5py", reason="needs the 'train' extra")
    from wm_planner.data.hdf5_export import export_hdf5

    store = dot_store(tmp_path / "data", 24, 6)
    export_hdf5(store, tmp_path / "data.hdf5")
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    for source in ("data", "data.hdf5"):
        report = tmp_path / f"{source}.json"
        words = ["probe", str(checkpoint), "--data", str(tmp_path / source), "--frames", "120"]
        assert main([*words, "--json", str(report)]) == 0
        output = capsys.readouterr().out
        assert "verdict: " in output and "after 5 steps its model errs by" in output
        result = json.loads(report.read_text())
        assert result["verdict"] in ("yes", "in part", "no") and len(result["entries"]) == 2
        assert len(result["errors"]["model"]) == 5


def test_command_probes_an_encoder_that_has_no_model_yet(tmp_path, capsys):
    store = dot_store(tmp_path / "data", 24, 6)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    paths = ["--recipe", str(tmp_path / "recipe.yaml"), "--data", str(store.directory)]
    run = tmp_path / "run"
    device = ["--device", "cpu", "--threads", "1"]
    assert main(["train", "encoder", *paths, "--output", str(run), *device]) == 0
    assert "verdict: " in capsys.readouterr().out and (run / "probe.json").is_file()
    assert main(["probe", str(run), "--data", str(store.directory), "--frames", "120"]) == 0
    output = capsys.readouterr().out
    assert "verdict: " in output and "its model errs" not in output


def test_command_collects_of_a_task(capsys):
    from sim_bridge.rendering import check_rendering
    from wm_planner.errors import RenderError

    try:
        check_rendering()
    except RenderError as error:
        pytest.skip(str(error))
    words = "probe wall-base --task wall --trajectories 4 --frames 100"
    assert main(words.split()) == 0
    assert "dot: x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{empty} --task wall", "nor does it hold encoder.safetensors"),
        ("nothing --task wall", "unknown checkpoint 'nothing'"),
        ("wall-base --task wall --trajectories 1", "--trajectories must be at least 2"),
        ("wall-base --task wall --reader store", "--reader is for --data"),
        ("arm_reach-base --data {data}", "not the checkpoint's robot"),
        ("wall-base --data {data} --task wall", "not allowed with"),
    ],
)
def test_what_cannot_be_probed_is_said_in_one_line(tmp_path, data, capsys, words, message):
    (tmp_path / "empty").mkdir()
    given = words.format(empty=tmp_path / "empty", data=data / "far")
    assert main(["probe", *given.split()]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error and error.startswith("wm-planner")


def test_probing_leaves_the_random_numbers_of_training_alone(data):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    found(data / "far", encoder("block"), frames=120)
    assert torch.equal(torch.random.get_rng_state(), before)
