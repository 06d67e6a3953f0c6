"""The adversarial perturbation against the released numbers and a known optimum."""

from __future__ import annotations

import pytest
import torch

from wm_planner.models.world_model import Latent
from wm_planner.training.adversarial import Adversarial, AdversarialLoss, AdversarialRollout, ascend
from wm_planner.training.losses import rollout_loss

from .reference_fixture import DATA, load_reference
from .training_world import tiny_bundle


class GivenNoise(AdversarialLoss):
    """Starts from the given unit noise instead of drawing it, and keeps what it found."""

    noise: torch.Tensor
    delta: torch.Tensor

    def _noise(self, part):
        return self.noise

    def _tokens(self, deltas, actions):
        self.delta = super()._tokens(deltas, actions)
        return self.delta


@pytest.mark.parametrize("name", ["pusht", "wall"])
def test_perturbation_equals_the_released_one(name):
    model, arrays, _ = load_reference(DATA / f"reference_{name}_tiny.npz")
    hist = model.config.num_hist
    visual = arrays["out/encode_visual"][:, : hist + 1]
    proprio = arrays["in/proprio"][:, : hist + 1]
    actions = arrays["in/action"][:, : hist + 1]
    config = Adversarial()
    adversary = GivenNoise(model, config, torch.Generator())
    adversary.noise = arrays["in/fgsm_unit_noise"]
    loss = adversary(visual, proprio, actions)["loss"]
    factors = (config.visual_factor, config.proprio_factor, config.action_factor)
    for part, scale, factor in zip(
        ("visual", "proprio", "action"), adversary.scale, factors, strict=True
    ):
        expected = float(arrays[f"out/fgsm_radius_{part}"])
        assert float(scale) * factor == pytest.approx(expected, abs=1e-5)
    wrong = (adversary.delta - arrays["out/fgsm_delta"]).abs() > 1e-4
    assert float(wrong.float().mean()) < 0.005
    assert float(loss.detach()) == pytest.approx(float(arrays["out/fgsm_loss"]), abs=1e-4)


def test_perturbation_is_the_optimum_of_the_linearised_loss():
    """For a linear loss the box's best corner is radius * sign(gradient), whatever the start."""
    slope = torch.tensor([1.0, -2.0, 0.5])
    radius = torch.tensor([0.1, 0.2, 0.3])

    def climb(start, step, num_steps):
        return ascend(lambda deltas: (deltas[0] * slope).sum(), [radius], [start], step, num_steps)

    best = radius * slope.sign()
    assert torch.allclose(climb(torch.zeros(1, 3), 1.25, 1)[0], best)
    # From the far corner one step of 1.25 radii gets a quarter radius past the middle.
    far = -slope.sign()[None]
    assert torch.allclose(climb(far, 1.25, 1)[0], 0.25 * best)
    # Three steps of half a radius get half a radius past it, four to the corner, and no further.
    assert torch.allclose(climb(far, 0.5, 3)[0], 0.5 * best)
    assert torch.allclose(climb(far, 0.5, 7)[0], best)


def quadratic_model():
    model, arrays, _ = load_reference(DATA / "reference_wall_tiny.npz")
    hist = model.config.num_hist + 1
    names = ("out/encode_visual", "in/proprio", "in/action")
    return model, [arrays[name][:, :hist] for name in names]


@pytest.mark.parametrize("space", ["tokens", "inputs"])
def test_more_steps_find_a_worse_input_inside_the_box(space):
    model, batch = quadratic_model()
    clean = float(model.latent_loss(*batch)["loss"].detach())
    losses = []
    for num_steps, step in ((1, 1.25), (5, 0.4)):
        config = Adversarial(num_steps=num_steps, step=step, space=space, visual_factor=0.2)
        adversary = AdversarialLoss(model, config, torch.Generator().manual_seed(0))
        losses.append(float(adversary(*batch)["loss"].detach()))
    assert clean < losses[0] < losses[1]


def test_inputs_are_perturbed_once_per_frame_and_before_the_embedding():
    """'inputs': all patches of a frame share the change of action and proprioception."""
    model, batch = quadratic_model()
    config = Adversarial(space="inputs", visual_factor=0.0, action_factor=0.3)
    adversary = AdversarialLoss(model, config, torch.Generator().manual_seed(0))
    parts = adversary._parts(*batch)
    radius = adversary._radius(parts)
    expected = 0.3 * batch[2][:, :-1].flatten(1).std(dim=1).mean()
    assert float(radius[2]) == pytest.approx(float(expected))
    deltas = [r * adversary._noise(part) for r, part in zip(radius, parts, strict=True)]
    tokens = adversary._tokens(deltas, batch[2])
    dv, da = model.config.visual_dim, model.config.action_emb_dim
    assert float(tokens[..., :dv].abs().max()) == 0.0
    assert torch.allclose(tokens[..., dv:], tokens[:, :, :1, dv:].expand_as(tokens[..., dv:]))
    weight = model.action_encoder.patch_embed.weight.squeeze(-1)
    torch.testing.assert_close(tokens[:, :, 0, -da:], deltas[2] @ weight.T, rtol=1e-4, atol=1e-5)


def test_a_perturbed_rollout_is_worse_and_its_targets_stay():
    torch.manual_seed(0)
    model = tiny_bundle().model
    visual, proprio = torch.randn(4, 4, 16, 8), torch.randn(4, 4, 2)
    batch = (visual, proprio, torch.randn(4, 3, 10))
    clean = float(rollout_loss(model, *batch)["loss"].detach())
    losses = []
    for factor in (0.0, 0.05, 0.2):
        config = Adversarial(factor, factor, factor)
        adversary = AdversarialRollout(model, config, torch.Generator().manual_seed(0))
        losses.append(float(adversary(*batch)["loss"].detach()))
    assert losses[0] == clean and losses == sorted(losses) and losses[2] > 1.02 * clean
    shifted = [torch.ones(4, 1, 16, 8), torch.zeros(4, 1, 10), torch.zeros(4, 3, 10)]
    still = torch.nn.Module()
    still.config, still.proprio_encoder = model.config, model.proprio_encoder
    still.rollout = lambda latent, actions, mode: Latent(
        latent.visual.expand(-1, 4, -1, -1), latent.proprio.expand(-1, 4, -1)
    )
    same = (visual[:, :1].expand(-1, 4, -1, -1), proprio[:, :1].expand(-1, 4, -1), batch[2])
    terms = rollout_loss(still, *same, perturbation=shifted)
    assert float(terms["visual"]) == pytest.approx(1.0, abs=1e-5), "off by the shift, everywhere"


def test_fixed_radii_are_those_of_the_first_good_batch():
    model, (visual, proprio, actions) = quadratic_model()
    for adaptive in (False, True):
        loss = AdversarialLoss(model, Adversarial(adaptive=adaptive), torch.Generator())
        loss(visual * torch.nan, proprio, actions)
        assert loss.scale is None
        loss(visual, proprio, actions)
        first = loss.scale.clone()
        loss(3 * visual, proprio, actions)
        assert torch.equal(first, loss.scale) != adaptive


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"visual_factor": -0.1}, "visual_factor must be at least 0, got -0.1"),
        ({"num_steps": 0}, "num_steps"),
        ({"space": "raw"}, "unknown space 'raw'"),
    ],
)
def test_bad_settings_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Adversarial(**bad)
