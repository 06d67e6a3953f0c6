"""Predictor, embeddings, rollouts and loss against numbers of the published implementation."""

from __future__ import annotations

import pytest
import torch

from wm_planner.models.predictor import PredictorConfig, ViTPredictor
from wm_planner.models.world_model import Latent

from .reference_fixture import DATA, load_reference


@pytest.fixture(params=["pusht", "wall"])
def reference(request):
    """Model, arrays and the latent of every frame."""
    model, arrays, _ = load_reference(DATA / f"reference_{request.param}_tiny.npz")
    proprio = model.proprio_encoder(arrays["in/proprio"])
    return model, arrays, Latent(arrays["out/encode_visual"], proprio)


def close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(actual, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_embeddings_assembly_and_prediction(reference):
    model, arrays, latent = reference
    assert close(latent.proprio, arrays["out/encode_proprio"])
    z = model.assemble(latent, arrays["in/action"])
    assert close(z, arrays["out/encode_full"])
    assert close(model.predict(z[:, :-1]), arrays["out/predict"])


@torch.no_grad()
def test_training_loss(reference):
    model, arrays, latent = reference
    terms = model.latent_loss(latent.visual, arrays["in/proprio"], arrays["in/action"])
    for ours, theirs in (("loss", ""), ("visual", "visual_"), ("proprio", "proprio_")):
        assert close(terms[ours], arrays[f"out/z_{theirs}loss"])


@pytest.mark.parametrize("mode", ["markov", "history"])
@torch.no_grad()
def test_rollouts(reference, mode):
    model, arrays, latent = reference
    imagined = model.rollout(latent.frames(slice(0, 1)), arrays["in/plan_actions"], mode=mode)
    assert close(imagined.visual, arrays[f"out/rollout_{mode}_visual"])
    assert close(imagined.proprio, arrays[f"out/rollout_{mode}_proprio"])


def test_full_size_predictors_have_the_published_parameter_counts():
    for num_hist, expected in ((3, 20_122_600), (1, 19_964_232)):
        predictor = ViTPredictor(404, 196, num_hist, PredictorConfig())
        assert sum(p.numel() for p in predictor.parameters()) == expected


def test_a_frame_sees_itself_whole_and_those_before_it():
    config = PredictorConfig(depth=2, heads=2, dim_head=4, mlp_dim=8)
    long, short = (ViTPredictor(8, 4, history, config).eval() for history in (3, 1))
    z = torch.randn(1, 3, 4, 8, requires_grad=True)
    for frame, output in enumerate(long(z).unbind(1)):
        (gradient,) = torch.autograd.grad(output[0, 0, 0], z, retain_graph=True)
        seen = gradient[0].abs().amax(dim=2) > 0
        assert seen[: frame + 1].all() and not seen[frame + 1 :].any()
    with pytest.raises(ValueError, match="up to 1 frames of 4 patches"):
        short(torch.zeros(1, 2, 4, 8))
