"""The published model at its full size, with random weights: it encodes, predicts and plans."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from wm_planner.models.bundle import Bundle, build_model  # noqa: E402
from wm_planner.models.preprocess import Preprocess  # noqa: E402
from wm_planner.models.world_model import ModelConfig  # noqa: E402
from wm_planner.planning import Planner, PlannerConfig, Session  # noqa: E402
from wm_planner.tasks import get_task  # noqa: E402
from wm_planner.types import Goal, Observation  # noqa: E402

HORIZON = 2


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    torch.manual_seed(0)
    config = ModelConfig(
        image_size=224,
        num_hist=3,
        num_patches=196,
        visual_dim=384,
        action_dim=10,
        proprio_dim=4,
        encoder={"kind": "dinov2"},
    )
    preprocess = Preprocess(224, 5, (0.0, 0.0), (0.2, 0.2), (236.0, 265.0, 0.0, 0.0), (100.0,) * 4)
    return Bundle(build_model(config), preprocess, get_task("pusht").embodiment)


def test_parts_have_the_published_numbers_of_parameters(bundle) -> None:
    model = bundle.model
    counts = {
        name: sum(p.numel() for p in getattr(model, name).parameters())
        for name in ("predictor", "action_encoder", "proprio_encoder")
    }
    assert counts == {"predictor": 20_122_600, "action_encoder": 110, "proprio_encoder": 50}


def test_encode_predict_and_rollout(bundle) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    proprio = np.zeros((3, 4), np.float32)
    now = bundle.encode_observation(Observation(images, proprio, 0))
    assert now.visual.shape == (1, 3, 196, 384) and now.proprio.shape == (1, 3, 10)
    model = bundle.model
    with torch.no_grad():
        tokens = model.assemble(now, torch.zeros(1, 3, 10))
        assert tokens.shape == (1, 3, 196, 404)
        assert model.predict(tokens).shape == (1, 3, 196, 404)
        past, actions = torch.zeros(1, 2, 10), torch.zeros(1, HORIZON, 10)
        ahead = model.rollout(now, actions, mode="history", past_actions=past)
    assert ahead.visual.shape == (1, 1 + HORIZON, 196, 384)
    assert torch.equal(ahead.visual[:, 0], now.visual[:, -1])
    assert torch.isfinite(ahead.visual).all()


def test_ten_gradient_steps_lower_the_cost(bundle) -> None:
    rng = np.random.default_rng(1)
    first, aim = rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    config = PlannerConfig(horizon=HORIZON, num_iterations=10, learning_rate=0.01)
    session = Session(Planner(bundle, config))
    session.set_goal(Goal(aim, None))
    plan = session.plan(Observation(first[None], np.zeros((1, 4), np.float32), 0))
    assert plan.actions.shape == (HORIZON * 5, 2) and np.isfinite(plan.actions).all()
    assert plan.cost < session.last.initial_costs[0]
