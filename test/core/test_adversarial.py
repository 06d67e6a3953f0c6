"""The adversarial perturbation against the released numbers and a known optimum."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from wm_planner.models.world_model import Latent
from wm_planner.training.adversarial import Adversarial, AdversarialLoss, perturb, radii

from .reference_fixture import DATA, load_reference


@pytest.mark.parametrize("name", ["pusht", "wall"])
def test_perturbation_equals_the_released_one(name):
    model, arrays, _ = load_reference(DATA / f"reference_{name}_tiny.npz")
    hist = model.config.num_hist
    visual = arrays["out/encode_visual"][:, : hist + 1]
    proprio = arrays["in/proprio"][:, : hist + 1]
    actions = arrays["in/action"][:, : hist + 1]
    z = model.assemble(Latent(visual, model.proprio_encoder(proprio)), actions)[:, :-1]
    radius = radii(model, z, Adversarial())
    for part, index in (("visual", 0), ("proprio", -11), ("action", -1)):
        expected = float(arrays[f"out/fgsm_radius_{part}"])
        assert float(radius[index].detach()) == pytest.approx(expected, abs=1e-5)
    delta = perturb(model, visual, proprio, actions, radius, arrays["in/fgsm_unit_noise"])
    wrong = (delta - arrays["out/fgsm_delta"]).abs() > 1e-4
    assert float(wrong.float().mean()) < 0.005
    loss = model.latent_loss(visual, proprio, actions, perturbation=delta)["loss"]
    assert float(loss.detach()) == pytest.approx(float(arrays["out/fgsm_loss"]), abs=1e-4)


def test_perturbation_is_the_optimum_of_the_linearised_loss():
    """For a linear loss the box's best corner is radius * sign(gradient), whatever the start."""
    slope = torch.tensor([1.0, -2.0, 0.5])

    def latent_loss(visual, proprio, actions, perturbation):
        return {"loss": (perturbation * slope).sum()}

    model = SimpleNamespace(latent_loss=latent_loss)
    radius = torch.tensor([0.1, 0.2, 0.3])
    start = torch.zeros(1, 1, 1, 3)
    delta = perturb(model, None, None, None, radius, start)
    assert torch.allclose(delta.flatten(), radius * slope.sign())
    # From the far corner one step of 1.25 radii gets a quarter radius past the middle.
    delta = perturb(model, None, None, None, radius, -slope.sign().expand(1, 1, 1, 3))
    assert torch.allclose(delta.flatten(), 0.25 * radius * slope.sign())


def test_fixed_radii_are_those_of_the_first_batch():
    model, arrays, _ = load_reference(DATA / "reference_wall_tiny.npz")
    visual = arrays["out/encode_visual"]
    for adaptive in (False, True):
        loss = AdversarialLoss(model, Adversarial(adaptive=adaptive), torch.Generator())
        loss(visual, arrays["in/proprio"], arrays["in/action"])
        first = loss.radius.clone()
        loss(3 * visual, arrays["in/proprio"], arrays["in/action"])
        assert torch.equal(first, loss.radius) != adaptive


def test_bad_radii_are_refused():
    with pytest.raises(ValueError, match="factors"):
        Adversarial(visual_factor=-0.1)
