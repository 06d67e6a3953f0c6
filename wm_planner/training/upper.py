"""Training of the upper model: macro-steps in the latent of a checkpoint, which stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wm_planner.config import Natural, Weight, to_dict
from wm_planner.data.store import TrajectoryStore
from wm_planner.models.bundle import Bundle
from wm_planner.models.upper import UpperConfig, UpperModel, kl_divergence, sampled
from wm_planner.models.world_model import Latent
from wm_planner.training.finetune import check_fits
from wm_planner.training.latents import LatentTrajectories, encode_store, split_rows
from wm_planner.training.loop import fit
from wm_planner.training.machine import Machine
from wm_planner.training.model import SMALL, ModelLearner, TransitionTraining, check_length

_WINDOWS, _CHUNK = 256, 32  # evaluated, and evaluated together


@dataclass(frozen=True)
class UpperTraining(TransitionTraining):
    """Settings of one training of an upper model.

    Attributes:
        rollout_steps: length of the rollouts, macro-steps.
        kl_weight: of the divergence of macro-actions from N(0, I), in units of the latent's error
            per nat. More of it makes macro-actions say less, and plans of them surer.
        model: sizes.
    """

    num_updates: Natural = 4000
    rollout_steps: Natural = 3
    kl_weight: Weight = 1e-3
    model: UpperConfig = field(default_factory=lambda: UpperConfig(SMALL))


class UpperLearner(ModelLearner):
    """An upper model, on windows of encoded trajectories, a macro-step from frame to frame.

    Args:
        upper: on the machine's device; is put into training mode.
        data: whole set; its held-out part is only evaluated on.
        config: settings.
        machine: processes and precision.
    """

    name = "upper"

    def __init__(
        self,
        upper: UpperModel,
        data: LatentTrajectories,
        config: UpperTraining,
        machine: Machine,
    ) -> None:
        super().__init__(upper.model, data, config, machine)
        self.upper, self._kl_weight = upper, config.kl_weight
        upper.action_encoder.requires_grad_(True)
        self.module = nn.ModuleList([self.module, upper.action_encoder])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The model's, and the action encoder among the embeddings."""
        groups = super().parameter_groups()
        groups[-1]["params"] += list(self.upper.action_encoder.parameters())
        return groups

    def windows(self, data: LatentTrajectories, count: int) -> tuple[Tensor, ...]:
        """This process's share of `count` random windows of `data`."""
        steps, share = self.config.rollout_steps, self.group.share(count)
        return data.windows(count, steps, self.generator, share, self.upper.steps)

    def loss(self, step: int, *batch: Tensor) -> dict[str, Tensor]:
        """As the model's, with macro-actions drawn from what the action encoder gives."""
        visual, proprio, actions = batch
        gaussians = self.upper.action_encoder(actions)
        terms = super().loss(step, visual, proprio, sampled(*gaussians))
        kl = kl_divergence(*gaussians)
        return {**terms, "loss": terms["loss"] + self._kl_weight * kl, "kl": kl}

    def evaluate(self) -> dict[str, float]:
        """Error of the last macro-step of a rollout, and that of assuming nothing moves."""
        errors = macro_errors(self.upper, self.held_out, self.config.rollout_steps)
        return {"val_last": errors["model"][-1], "val_copy": errors["copy"][-1]}


@torch.no_grad()
def macro_errors(upper: UpperModel, data: LatentTrajectories, steps: int) -> dict[str, Any]:
    """Latent error of each macro-step 1 .. `steps` of rollouts, beside copying the first frame.

    Macro-actions are the means that the action encoder gives.

    Returns:
        'model' and 'copy': as many numbers, and 'windows', of how many they are the mean.
    """
    was_training = upper.model.predictor.training
    upper.model.predictor.eval()
    windows = data.windows(_WINDOWS, steps, torch.Generator().manual_seed(0), stride=upper.steps)
    found: dict[str, list[Tensor]] = {"model": [], "copy": []}
    for part in zip(*(x.split(_CHUNK) for x in windows), strict=True):
        visual, proprio, actions = (x.to(upper.model.device) for x in part)
        now = Latent(visual[:, :1], upper.model.proprio_encoder(proprio[:, :1]))
        imagined = upper.model.rollout(now, upper.action_encoder(actions)[0]).visual
        for name, what in (("model", imagined), ("copy", now.visual)):
            found[name].append((what - visual).square().mean(dim=(-2, -1))[:, 1:].cpu())
    upper.model.predictor.train(was_training)
    means = {name: torch.cat(each).mean(dim=0).tolist() for name, each in found.items()}
    return {**means, "windows": _WINDOWS}


def train_upper(
    store: TrajectoryStore,
    bundle: Bundle,
    config: UpperTraining,
    output: Path,
    parent: dict[str, Any],
    machine: Machine | None = None,
) -> Bundle:
    """Give `bundle` a new upper model, in place; log to `output`.

    Args:
        store: trajectories of the bundle's robot, none shorter than the rollouts to train on.
        bundle: as loaded from a checkpoint; all else of it stays as it is.
        config: settings.
        output: run directory.
        parent: what is told of the checkpoint.
        machine: device, cache, and whether to resume; one CPU by default.

    Raises:
        DatasetError: the data are too short, or of another robot, size or action.
        TrainingError: a loss is not finite.
    """
    machine = machine or Machine()
    check_fits(store, bundle)
    check_length(store, config.rollout_steps * config.model.steps, config.rollout_steps)
    bundle.model.to(machine.device)
    data = encode_store(store, bundle.model, bundle.preprocess, machine)
    torch.manual_seed(config.seed)
    upper = UpperModel(config.model, bundle.model).to(machine.device)
    learner = UpperLearner(upper, data, config, machine)
    settings = {"upper": to_dict(config), "parent": parent, "data": store.meta}
    run = fit(learner, settings, output, machine)
    upper.eval().requires_grad_(False)
    _, held_out = split_rows(len(data), config.held_out, config.seed)
    upper.info = {
        **run,
        "data": store.meta,
        "held_out": macro_errors(upper, learner.held_out, len(data.actions[0]) // upper.steps),
        "held_out_trajectories": sorted(held_out.tolist()),
    }
    bundle.upper = upper
    return bundle
