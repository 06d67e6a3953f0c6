"""Two cameras in one picture, from training to a plan and what it imagines."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.data.store import TrajectoryStore, write_store  # noqa: E402
from wm_planner.errors import ConfigError, DatasetError  # noqa: E402
from wm_planner.models.checkpoint import load_bundle  # noqa: E402
from wm_planner.models.decoder import build_decoder  # noqa: E402
from wm_planner.models.encoder import build_encoder  # noqa: E402
from wm_planner.models.preprocess import Preprocess  # noqa: E402
from wm_planner.planning import Planner, Session, planner_config  # noqa: E402
from wm_planner.tasks import get_task, resized  # noqa: E402
from wm_planner.training.encoder import EncoderTraining  # noqa: E402
from wm_planner.training.model import ModelTraining  # noqa: E402
from wm_planner.training.projector import ProjectorTraining, train_projector  # noqa: E402
from wm_planner.training.untrained import build_fresh, parts_of  # noqa: E402
from wm_planner.types import Goal, Observation  # noqa: E402

from .test_train_all import RECIPE, command  # noqa: E402
from .training_world import SIZE, TINY, dot_trajectory  # noqa: E402

CAMERAS = [{"name": "front", "size": SIZE}, {"name": "wrist", "size": SIZE, "optional": True}]


def two_camera_store(directory, count=12, steps=6, cameras=CAMERAS):
    """The second camera sees the first one's picture upside down; a third of them lack it."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        row = dot_trajectory(rng, steps) | {"states": np.zeros((steps + 1, 0))}
        other = row["images"][:, ::-1] if number % 3 else np.zeros_like(row["images"])
        row["images"] = np.concatenate([row["images"], other], axis=2)
        rows.append(row)
    values = resized(get_task("wall").embodiment, SIZE).to_json()
    values |= {"name": "two_eyes", "cameras": cameras}
    return write_store(directory, count, rows, {"embodiment": values})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store of two cameras and the run that was trained on it."""
    directory = tmp_path_factory.mktemp("world")
    two_camera_store(directory / "data")
    (directory / "recipe.yaml").write_text(RECIPE)
    assert main(command(directory, directory / "run")) == 0
    return directory


@pytest.mark.parametrize("kind", ["keypoint", "small"])
def test_each_camera_has_its_own_tokens(kind):
    settings = {"keypoint": {"channels": 8}, "small": {"channels": 16, "depth": 1}}[kind]
    base = {"kind": kind, **settings}
    torch.manual_seed(0)
    encoder = build_encoder({"kind": "multi", "cameras": 2, "base": base}, 32, 8, 6).eval()
    decoder = build_decoder(f"multi:2:{kind}", 32, 8, 6)
    left, right = torch.rand(2, 5, 3, 32, 32)
    tokens = encoder(torch.cat([left, right], dim=3))
    assert tokens.shape == (5, 8, 6) and encoder.num_patches == 8
    assert torch.allclose(tokens[:, :4], encoder.base(left), atol=1e-6)
    assert torch.allclose(tokens[:, 4:], encoder.base(right), atol=1e-6)
    drawn = decoder(tokens)
    assert drawn.shape == (5, 3, 32, 64)
    assert torch.equal(drawn[..., :32], decoder.bases[0](tokens[:, :4]))
    assert build_decoder("multi:2:none", 32, 8, 6) is None
    with pytest.raises(ConfigError, match="at least 2 for kind multi, got 1"):
        build_encoder({"kind": "multi", "cameras": 1, "base": base}, 32, 4, 6)


def test_pictures_of_several_cameras_are_resized_one_by_one():
    two = Preprocess(16, 5, (0.0,), (1.0,), (0.0,), (1.0,), num_cameras=2)
    one = Preprocess(16, 5, (0.0,), (1.0,), (0.0,), (1.0,))
    images = np.random.default_rng(0).integers(0, 255, (3, 40, 80, 3), dtype=np.uint8)
    seen = two.images(images)
    assert seen.shape == (3, 3, 16, 32)
    parts = [one.images(np.ascontiguousarray(images[:, :, at : at + 40])) for at in (0, 40)]
    assert torch.equal(seen, torch.cat(parts, dim=-1))
    with pytest.raises(ValueError, match="2 square pictures side by side, got .* 40 x 40"):
        two.images(images[:, :, :40])


def test_two_cameras_train_plan_and_imagine(world):
    bundle = load_bundle(world / "run")
    config = bundle.model.config
    assert config.num_patches == 2 and config.encoder["kind"] == "multi"
    assert bundle.preprocess.num_cameras == 2
    deviation = bundle.model.encoder.pixels.deviation
    assert deviation.shape == (3, SIZE, 2 * SIZE)
    assert deviation[..., SIZE:].mean() > deviation[..., :SIZE].mean(), "it is black at times"
    row = TrajectoryStore.open(world / "data")
    now = Observation(np.array(row.images[1, :1]), np.array(row.proprio[1, :1]), 0)
    session = Session(Planner(bundle, planner_config({**bundle.planner, "horizon": 3})))
    session.set_goal(Goal(np.array(row.images[2, -1]), np.array(row.proprio[2, -1])))
    plan = session.plan(now)
    assert plan.actions.shape == (15, 2) and np.isfinite(plan.actions).all()
    pictures = bundle.decode(session.imagine())
    assert pictures.shape == (1, 4, SIZE, 2 * SIZE, 3) and pictures.dtype == np.uint8
    seen = bundle.preprocess.images(now.images)[None]
    assert bundle.model.encode_images(seen).shape == (1, 1, 2, 16)


def test_recordings_of_two_cameras_are_evaluated(world, capsys):
    words = ["--data", str(world / "data"), "--checkpoint", str(world / "run"), "--episodes", "2"]
    assert main(["eval", *words]) == 0
    assert "two_eyes" in capsys.readouterr().out


def test_pictures_that_do_not_fit_the_cameras_are_refused(tmp_path):
    store = two_camera_store(tmp_path / "data", count=4, cameras=CAMERAS[:1])
    encoder = EncoderTraining(dim=8, channels=8, depth=1)
    with pytest.raises(DatasetError, match="64 x 32 pixels are not those of 1 cameras"):
        build_fresh(store, *parts_of(store, encoder), ModelTraining(predictor=TINY))
    with pytest.raises(ConfigError, match="a projector is for one camera"):
        other = two_camera_store(tmp_path / "two", count=4)
        train_projector(other, encoder, tmp_path / "x", ProjectorTraining(), tmp_path / "run")
