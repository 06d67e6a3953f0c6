"""Adversarial World Modeling: train where a planner will look (arXiv 2512.09929).

Every update perturbs the model's inputs (latents and embedded actions) inside a box so that the
prediction error grows most, one signed gradient step from a uniform start (FGSM with random
start, arXiv 2001.03994), and trains on the perturbed inputs against the clean next latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.models.world_model import Latent, WorldModel


@dataclass(frozen=True)
class Adversarial:
    """Radii as fractions of each modality's standard deviation.

    Attributes:
        visual_factor, proprio_factor, action_factor: radius over standard deviation.
        step: length of the signed step in radii.
        adaptive: measure the standard deviations in every batch instead of the first only.
    """

    visual_factor: float = 0.05
    proprio_factor: float = 0.02
    action_factor: float = 0.02
    step: float = 1.25
    adaptive: bool = False

    def __post_init__(self) -> None:
        factors = (self.visual_factor, self.proprio_factor, self.action_factor)
        if min(factors) < 0 or self.step <= 0:
            raise ValueError(f"factors must be >= 0 and step > 0, got {factors}, {self.step}")


def radii(model: WorldModel, z: Tensor, config: Adversarial) -> Tensor:
    """(D,) radius of every token entry.

    A modality's scale is the mean over windows of the (unbiased) standard deviation of all its
    entries, as in the released code.

    Args:
        z: (B, K, P, D) assembled inputs.
    """
    sizes = [
        model.config.visual_dim,
        model.config.proprio_emb_dim,
        model.config.action_emb_dim,
    ]
    factors = (config.visual_factor, config.proprio_factor, config.action_factor)
    return torch.cat(
        [
            factor * part.flatten(1).std(dim=1).mean().expand(size)
            for part, size, factor in zip(z.split(sizes, dim=-1), sizes, factors, strict=True)
        ]
    )


def perturb(
    model: WorldModel,
    visual: Tensor,
    proprio: Tensor,
    actions: Tensor,
    radius: Tensor,
    unit_noise: Tensor,
    step: float = 1.25,
) -> Tensor:
    """The perturbation (B, K, P, D) after one signed step, inside [-radius, radius].

    Args:
        visual: (B, K + 1, P, Dv), proprio: (B, K + 1, p), actions: (B, K + 1, A), standardised.
        radius: (D,).
        unit_noise: (B, K, P, D) in [-1, 1], the start as a fraction of the radius.
        step: length of the signed step in radii.
    """
    delta = (unit_noise * radius).detach().requires_grad_(True)
    loss = model.latent_loss(visual, proprio, actions, perturbation=delta)["loss"]
    (gradient,) = torch.autograd.grad(loss, delta)
    moved = delta.detach() + step * radius * gradient.sign()
    return torch.maximum(torch.minimum(moved, radius), -radius)


class AdversarialLoss:
    """The training loss of Adversarial World Modeling; keeps the radii of the first batch."""

    def __init__(self, model: WorldModel, config: Adversarial, generator: torch.Generator) -> None:
        self.model, self.config, self.generator = model, config, generator
        self.radius: Tensor | None = None

    def __call__(self, visual: Tensor, proprio: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """Loss terms on perturbed windows of K + 1 frames (see `WorldModel.latent_loss`)."""
        with torch.no_grad():
            latent = Latent(visual, self.model.proprio_encoder(proprio))
            z = self.model.assemble(latent, actions)[:, :-1]
            if self.radius is None or self.config.adaptive:
                self.radius = radii(self.model, z, self.config)
            noise = torch.rand(z.shape, generator=self.generator) * 2 - 1
        delta = perturb(self.model, visual, proprio, actions, self.radius, noise, self.config.step)
        return self.model.latent_loss(visual, proprio, actions, perturbation=delta)
