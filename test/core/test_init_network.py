"""The initialisation network: published sizes, storage, and starts that are nearly the answer."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.cli.main import main  # noqa: E402
from wm_planner.data.store import write_store  # noqa: E402
from wm_planner.errors import CheckpointError, ConfigError, DatasetError  # noqa: E402
from wm_planner.models import catalog  # noqa: E402
from wm_planner.models.bundle import Bundle, build_model  # noqa: E402
from wm_planner.models.checkpoint import load_bundle, save_bundle  # noqa: E402
from wm_planner.models.init_network import InitNetwork  # noqa: E402
from wm_planner.models.predictor import PredictorConfig  # noqa: E402
from wm_planner.models.preprocess import Preprocess  # noqa: E402
from wm_planner.models.world_model import Latent, ModelConfig  # noqa: E402
from wm_planner.planning import Planner, PlannerConfig, Session  # noqa: E402
from wm_planner.tasks import get_task  # noqa: E402
from wm_planner.training.init_network import (  # noqa: E402
    InitLearner,
    InitTraining,
    train_init_network,
)
from wm_planner.training.latents import LatentTrajectories  # noqa: E402

from .dot_world import FIELD, DotModel, dot_bundle, goal, observation, picture  # noqa: E402

START, TARGET = (15.0, 12.0), (58.0, 55.0)
QUICK = InitTraining(num_updates=200, batch_size=64, learning_rate=3e-3)


class EncodingDot(DotModel):
    """The exact model, with the parts that training needs: one token of two entries."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            num_patches=1, visual_dim=2, proprio_emb_dim=2, proprio_dim=2, action_dim=10
        )
        self.proprio_encoder = torch.nn.Identity()

    def encode_images(self, images):
        return images[..., :2, 0, 0].unsqueeze(2)


def dot_store(count: int = 200, steps: int = 6) -> SimpleNamespace:
    """Dots that go straight, but for noise, from place to place."""
    rng = np.random.default_rng(0)
    aim = rng.uniform(-1, 1, (count, 1, 1, 2)) + rng.normal(0, 0.2, (count, steps, 5, 2))
    moved = np.cumsum(2.0 * aim.sum(axis=2), axis=1)
    path = np.concatenate([np.zeros((count, 1, 2)), moved], axis=1)
    room = FIELD - np.ptp(path, axis=1, keepdims=True)
    path += rng.random((count, 1, 2)) * np.maximum(room, 0) - path.min(axis=1, keepdims=True)
    return SimpleNamespace(
        images=np.array([[picture(p) for p in row] for row in path]),
        proprio=path.astype(np.float32),
        actions=aim.reshape(count, steps, 10).astype(np.float32),
        directory="dots",
        meta={"task": "wall"},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    bundle = dot_bundle()
    bundle.model = EncodingDot()
    return train_init_network(dot_store(), bundle, QUICK, tmp_path_factory.mktemp("run"))


def planner_of(bundle: Bundle, target=TARGET, proprio: bool = True, **settings) -> Session:
    settings = {"objective": "last", "action_noise_std": 0.0, **settings}
    session = Session(Planner(bundle, PlannerConfig(**settings)))
    session.set_goal(goal(target, proprio))
    return session


def small_bundle(horizon: int = 5) -> Bundle:
    """One that can be saved: 16 tokens of an untrained encoder, and an untrained network."""
    torch.manual_seed(0)
    predictor = PredictorConfig(depth=1, heads=2, dim_head=8, mlp_dim=16)
    config = ModelConfig(32, 1, 16, 8, 10, 2, predictor=predictor, encoder={"kind": "small"})
    preprocess = Preprocess(32, 5, (0.0, 0.0), (0.5, 0.5), (16.0, 16.0), (5.0, 5.0))
    network = InitNetwork.for_model(config, horizon)
    return Bundle(
        build_model(config), preprocess, get_task("wall").embodiment, init_network=network
    )


def random_latent(batch: int, patches: int, dim: int, frames: int = 1) -> Latent:
    return Latent(torch.randn(batch, frames, patches, dim), torch.randn(batch, frames, 10))


def test_published_sizes_have_the_published_number_of_parameters():
    network = InitNetwork(num_patches=196, token_dim=394, horizon=8, action_dim=10)
    assert sum(p.numel() for p in network.parameters()) == 2_725_904


@pytest.mark.parametrize(
    ("patches", "dim"), [(196, 384), (256, 16), (64, 8), (484, 8), (16, 64), (1, 96), (6, 4)]
)
def test_every_grid_gives_actions_that_depend_on_now_and_goal(patches: int, dim: int):
    torch.manual_seed(0)
    network = InitNetwork(patches, dim + 10, horizon=3, action_dim=4)
    now, goal_ = random_latent(2, patches, dim, frames=2), random_latent(2, patches, dim)
    actions = network(now, goal_)
    assert actions.shape == (2, 3, 4)
    torch.testing.assert_close(network(now[1:], goal_[1:]), actions[1:], rtol=1e-4, atol=1e-5)
    assert torch.equal(network(now.frames(slice(-1, None)), goal_), actions), "the newest frame"
    for other in (Latent(now.visual, goal_.proprio), Latent(goal_.visual, now.proprio)):
        assert not torch.allclose(network(other, goal_), actions)
        assert not torch.allclose(network(now, other), actions)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((80, 10, 5, 10), "80 patches make no square"), ((16, 10, 0, 10), "at least 1.*16, 10, 0")],
)
def test_sizes_that_cannot_be_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        InitNetwork(*sizes)


@pytest.mark.parametrize("solver", ["gbp", "lbfgs"])
@pytest.mark.parametrize("proprio", [True, False])
def test_a_trained_start_is_nearly_the_answer(trained, solver: str, proprio: bool):
    costs = {}
    for init in ("zero", "network"):
        session = planner_of(trained, proprio=proprio, solver=solver, init=init, num_iterations=1)
        plan = session.plan(observation(START))
        costs[init] = (session.last.initial_costs[0], plan.cost)
    assert costs["network"][0] < 0.05 * costs["zero"][0]
    assert costs["network"][1] < costs["zero"][1]


def test_segments_lead_to_a_later_frame_of_the_same_trajectory():
    """Entries tell their trajectory (hundreds) and time; a goal without proprioception has 0."""
    when = torch.arange(1.0, 9.0) + 100 * torch.arange(1.0, 4.0)[:, None]
    data = LatentTrajectories(
        when[..., None, None].half(), when[..., None], when[:, :-1, None].expand(-1, -1, 10)
    )
    generator = torch.Generator().manual_seed(0)
    learner = SimpleNamespace(model=EncodingDot(), config=InitTraining(horizon=4))
    now, now_proprio, goal_, goal_proprio, actions = InitLearner._segments(
        learner, data, 50, generator
    )
    first = now.flatten()
    assert first.unique().tolist() == [100.0 * n + t for n in (1, 2, 3) for t in (1, 2, 3, 4)]
    assert torch.equal(now_proprio.flatten(), first)
    assert torch.equal(goal_.flatten(), first + 4)
    assert torch.equal(goal_proprio.flatten()[::2], first[::2] + 4)
    assert not goal_proprio[1::2].any()
    assert torch.equal(actions, (first[:, None] + torch.arange(4))[..., None].expand(-1, -1, 10))


def test_training_beats_the_mean_action(trained):
    scores = trained.info["init_network"]["held_out"]
    assert scores["val_actions"] < 0.5 * scores["val_mean"]


def test_the_network_starts_cold_plans_only_and_restarts_spread_around_it(trained):
    session = planner_of(trained, init="network", num_restarts=3, num_iterations=1)
    now, aim = (session.planner.bundle.encode_observation(observation(p)) for p in (START, TARGET))
    calls = []
    points = session.planner._starts.draw
    session.planner._starts.draw = lambda *args: calls.append(points(*args)) or calls[-1]
    session.planner.plan_latents(now, aim, None, 0, session.planner.generator())
    warm = torch.full((1, 5, 10), 0.3)
    session.planner.plan_latents(now, aim, warm, 1, session.planner.generator())
    cold_points, warm_points = calls
    guess = trained.init_network(now, aim)
    assert torch.equal(cold_points[:, 0], guess) and torch.equal(warm_points[:, 0], warm)
    torch.testing.assert_close(cold_points - guess[:, None], warm_points - warm[:, None])
    assert cold_points[:, 1:].sub(guess[:, None]).abs().mean() > 0.5


def test_a_batch_starts_each_problem_as_alone_and_twice_alike(trained):
    session = planner_of(trained, init="network", num_iterations=3)
    places = [(10.0, 20.0), (30.0, 15.0), (50.0, 45.0)]
    latents = [session.planner.bundle.encode_observation(observation(p)) for p in places]
    now = Latent(torch.cat([x.visual for x in latents]), torch.cat([x.proprio for x in latents]))
    aim = now[[1, 2, 0]]
    joint, again = (
        session.planner.plan_latents(now, aim, None, 0, session.planner.generator()).actions
        for _ in range(2)
    )
    assert torch.equal(joint, again)
    for i in range(3):
        alone = session.planner.plan_latents(
            now[[i]], aim[[i]], None, 0, session.planner.generator()
        ).actions
        torch.testing.assert_close(joint[[i]], alone, rtol=1e-4, atol=1e-4)


def test_the_same_seed_gives_the_same_weights(trained, tmp_path):
    def weights(seed: int, name: str):
        bundle = dot_bundle()
        bundle.model = EncodingDot()
        config = InitTraining(num_updates=5, batch_size=8, seed=seed)
        bundle = train_init_network(dot_store(20), bundle, config, tmp_path / name)
        return torch.cat([p.flatten() for p in bundle.init_network.parameters()])

    first, again, other = weights(0, "a"), weights(0, "b"), weights(1, "c")
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_planner_without_the_network_says_so():
    bundle = dot_bundle()
    with pytest.raises(ConfigError, match="no initialisation network.*train init"):
        Planner(bundle, PlannerConfig(init="network"))
    Planner(bundle, PlannerConfig(init="network", solver="cem"))  # has no starting point


def test_a_network_of_another_horizon_is_refused(trained):
    with pytest.raises(ConfigError, match="plans 5 model steps, not horizon 7"):
        Planner(trained, PlannerConfig(init="network", horizon=7))


def test_short_trajectories_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="2 model steps, horizon 5"):
        train_init_network(dot_store(4, 2), dot_bundle(), QUICK, tmp_path)


def test_round_trip(tmp_path):
    bundle = small_bundle(horizon=4)
    directory = save_bundle(bundle, tmp_path / "with")
    loaded = load_bundle(directory).init_network
    now, aim = random_latent(2, 16, 8), random_latent(2, 16, 8)
    assert torch.equal(loaded(now, aim), bundle.init_network(now, aim))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    bundle.init_network = None
    directory = save_bundle(bundle, tmp_path / "without")
    assert load_bundle(directory).init_network is None
    assert not (directory / catalog.INIT_WEIGHTS).exists()
    assert "init_network" not in json.loads((directory / catalog.CARD).read_text())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file, card: file.unlink(), "init_network.safetensors: no such file"),
        (lambda file, card: file.write_bytes(file.read_bytes()[:-1]), "init_.*: its checksum"),
        (lambda file, card: card["init_network"].update(horizon=6), "does not fit 'init_network'"),
        (lambda file, card: card.update(init_network={"horizon": 5}), "'init_network'.*'sha256'"),
        (lambda file, card: card.update(init_network=5), "does not fit 'init_network'"),
    ],
)
def test_a_damaged_network_is_named(tmp_path, damage, message):
    directory = save_bundle(small_bundle(), tmp_path / "checkpoint")
    card = json.loads((directory / catalog.CARD).read_text())
    damage(directory / catalog.INIT_WEIGHTS, card)
    (directory / catalog.CARD).write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=message):
        load_bundle(directory)


def test_the_command_adds_a_network_to_a_checkpoint(tmp_path, capsys):
    bundle = small_bundle()
    bundle.init_network, bundle.planner, bundle.info = None, {"horizon": 3}, {"seed": 0}
    checkpoint = save_bundle(bundle, tmp_path / "base")
    rng = np.random.default_rng(0)
    trajectories = [
        {
            "images": rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8),
            "proprio": rng.normal(size=(5, 2)).astype(np.float32),
            "actions": rng.normal(size=(4, 10)).astype(np.float32),
            "states": np.zeros((5, 2)),
        }
        for _ in range(3)
    ]
    write_store(tmp_path / "data", 3, trajectories, {"task": "wall", "frame_skip": 5})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "task: wall\ncollect: {num_trajectories: 3, steps: 4, image_size: 32}\n"
        "init_network: {horizon: 3, num_updates: 2, batch_size: 4}\n"
    )
    words = ["train", "init", "--recipe", recipe, "--data", tmp_path / "data", "--output"]
    command = [*map(str, words), str(tmp_path / "run")]
    assert main(command) == 2 and "train init needs --checkpoint" in capsys.readouterr().err
    assert main([*command, "--checkpoint", str(checkpoint), "--threads", "1"]) == 0
    result = load_bundle(tmp_path / "run/checkpoint")
    assert result.planner == bundle.planner and result.info["seed"] == 0
    assert result.info["init_network"]["held_out"]["val_actions"] > 0
    before, after = bundle.model.state_dict(), result.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "run/metrics.jsonl").read_text().count("val_actions") == 2
    session = Session(Planner(result, PlannerConfig(init="network", horizon=3, num_iterations=1)))
    latent = random_latent(1, 16, 8)
    plan = session.planner.plan_latents(latent, latent, None, 0, session.planner.generator())
    assert plan.actions.shape == (1, 3, 10)
