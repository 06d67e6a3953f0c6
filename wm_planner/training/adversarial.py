"""Adversarial World Modeling: train where a planner will look (arXiv 2512.09929).

Every update perturbs the model's inputs inside a box so that the prediction error grows most, and
trains on the perturbed inputs against the clean next latents. The perturbation takes one signed
gradient step from a uniform start (FGSM with random start, arXiv 2001.03994), or several (PGD,
arXiv 1706.06083).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.config import Natural, Weight, check_at_least
from wm_planner.models.world_model import Latent, WorldModel
from wm_planner.training.losses import rollout_loss
from wm_planner.training.machine import Group

SPACES = ("tokens", "inputs")


@dataclass(frozen=True)
class Adversarial:
    """Radii as fractions of each modality's standard deviation.

    Attributes:
        visual_factor, proprio_factor, action_factor: radius over standard deviation.
        step: length of the signed step in radii.
        num_steps: signed steps; 1 is FGSM, more are PGD (with `step` well below 1).
        adaptive: measure the standard deviations in every batch instead of the first only.
        space: 'tokens' perturbs the tokens that the predictor sees, the embeddings of
            proprioception and action in every patch by themselves, as released; 'inputs' perturbs
            latents and the standardised action itself, one perturbation per frame, as the paper
            writes.
        rollouts: perturb the updates on imagined rollouts, too; the paper has none.
    """

    visual_factor: Weight = 0.05
    proprio_factor: Weight = 0.02
    action_factor: Weight = 0.02
    step: Weight = 1.25
    num_steps: Natural = 1
    adaptive: bool = False
    space: str = "tokens"
    rollouts: bool = True

    def __post_init__(self) -> None:
        check_at_least(self, visual_factor=0, proprio_factor=0, action_factor=0, num_steps=1)
        if self.step <= 0:
            raise ValueError(f"step must be positive, got {self.step}")
        if self.space not in SPACES:
            raise ValueError(f"unknown space '{self.space}'; choices: {', '.join(SPACES)}")


def modality_std(parts: list[Tensor]) -> Tensor:
    """(M,) scale of each modality (B, ...): as in the released code, the mean over windows of the
    (unbiased) standard deviation of all its entries.
    """
    return torch.stack([part.flatten(1).std(dim=1).mean() for part in parts])


def ascend(
    loss_fn: Callable[[list[Tensor]], Tensor],
    radius: list[Tensor],
    unit_noise: list[Tensor],
    step: float,
    num_steps: int,
) -> list[Tensor]:
    """Perturbations inside [-radius, radius] after signed gradient steps up the loss.

    Args:
        loss_fn: of the perturbations.
        radius: of each, broadcastable.
        unit_noise: the starts in [-1, 1], as fractions of the radius.
        step: in radii.
        num_steps: how many.
    """
    deltas = [noise * r for noise, r in zip(unit_noise, radius, strict=True)]
    for _ in range(num_steps):
        deltas = [delta.detach().requires_grad_(True) for delta in deltas]
        gradients = torch.autograd.grad(loss_fn(deltas), deltas)
        deltas = [
            torch.maximum(torch.minimum(delta.detach() + step * r * gradient.sign(), r), -r)
            for delta, r, gradient in zip(deltas, radius, gradients, strict=True)
        ]
    return deltas


class _Adversary(ABC):
    """Makes a batch as hard as the box around its inputs allows.

    Attributes:
        scale: (3,) standard deviations of visual, proprioception and action inputs that the radii
            are fractions of: those of the first batch, or of the last when adaptive.
    """

    def __init__(
        self,
        model: WorldModel,
        config: Adversarial,
        generator: torch.Generator,
        group: Group | None = None,
    ) -> None:
        self.model, self.config, self.generator = model, config, generator
        self.group = group or Group()
        self.scale: Tensor | None = None

    def __call__(self, visual: Tensor, proprio: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """Loss terms on the perturbed batch."""
        batch = (visual, proprio, actions)
        with torch.no_grad():
            parts = self._parts(*batch)
            radius = self._radius(parts)
            noise = [self._noise(part) for part in parts]
        steps = self.config.step, self.config.num_steps
        deltas = ascend(lambda d: self._terms(d, *batch)["loss"], radius, noise, *steps)
        return self._terms(deltas, *batch)

    @abstractmethod
    def _parts(self, visual: Tensor, proprio: Tensor, actions: Tensor) -> list[Tensor]:
        """What is perturbed: visual, proprioception and action, or all tokens in one."""

    @abstractmethod
    def _terms(
        self, deltas: list[Tensor], visual: Tensor, proprio: Tensor, actions: Tensor
    ) -> dict[str, Tensor]:
        """Loss terms of the batch under perturbations of the parts."""

    def _radius(self, parts: list[Tensor]) -> list[Tensor]:
        joined, config, sizes = len(parts) == 1, self.config, self.model.config
        widths = [sizes.visual_dim, sizes.proprio_emb_dim, sizes.action_emb_dim]
        modalities = list(parts[0].split(widths, dim=-1)) if joined else parts
        scale = self.scale
        if scale is None or config.adaptive:
            scale = self.group.mean(modality_std(modalities))
            if scale.isfinite().all():  # a damaged batch must not fix the radii
                self.scale = scale
        factors = [config.visual_factor, config.proprio_factor, config.action_factor]
        radius = scale.to(parts[0]) * parts[0].new_tensor(factors)
        if joined:
            return [radius.repeat_interleave(torch.tensor(widths, device=radius.device))]
        return list(radius)

    def _noise(self, part: Tensor) -> Tensor:
        """Uniform in [-1, 1]: this process's share of what is drawn for the whole batch."""
        count = len(part) * self.group.size
        noise = torch.rand((count, *part.shape[1:]), generator=self.generator) * 2 - 1
        return noise[self.group.share(count)].to(part.device)


class AdversarialLoss(_Adversary):
    """The published loss: one step ahead, from perturbed windows of K + 1 frames.

    Batches are those of `WorldModel.latent_loss`.
    """

    def _parts(self, visual: Tensor, proprio: Tensor, actions: Tensor) -> list[Tensor]:
        latent = Latent(visual, self.model.proprio_encoder(proprio))
        if self.config.space == "inputs":
            return [x[:, :-1] for x in (latent.visual, latent.proprio, actions)]
        return [self.model.assemble(latent, actions)[:, :-1]]

    def _terms(
        self, deltas: list[Tensor], visual: Tensor, proprio: Tensor, actions: Tensor
    ) -> dict[str, Tensor]:
        added = self._tokens(deltas, actions)
        return self.model.latent_loss(visual, proprio, actions, perturbation=added)

    def _tokens(self, deltas: list[Tensor], actions: Tensor) -> Tensor:
        """The change of the tokens (B, K, P, D) that perturbations of the parts make."""
        if self.config.space == "tokens":
            return deltas[0]
        visual, proprio, action = deltas
        taken = actions[:, :-1]
        clean = self.model.assemble(Latent(0 * visual, 0 * proprio), taken)
        return self.model.assemble(Latent(visual, proprio), taken + action) - clean


class AdversarialRollout(_Adversary):
    """The same for imagined rollouts: the latent that they start from and all their actions.

    Not in the paper. Batches are those of `losses.rollout_loss`; the actions are perturbed before
    they are embedded, as in the space 'inputs'.
    """

    def _parts(self, visual: Tensor, proprio: Tensor, actions: Tensor) -> list[Tensor]:
        return [visual[:, :1], self.model.proprio_encoder(proprio[:, :1]), actions]

    def _terms(
        self, deltas: list[Tensor], visual: Tensor, proprio: Tensor, actions: Tensor
    ) -> dict[str, Tensor]:
        return rollout_loss(self.model, visual, proprio, actions, perturbation=deltas)
