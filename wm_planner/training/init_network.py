"""Training of the initialisation network: which actions led from one frame to a later one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from wm_planner.config import check_at_least, to_dict
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError
from wm_planner.models.bundle import Bundle
from wm_planner.models.init_network import InitNetwork
from wm_planner.models.world_model import Latent, WorldModel
from wm_planner.training.latents import LatentTrajectories, encode_store
from wm_planner.training.learner import Learner, Schedule
from wm_planner.training.loop import fit
from wm_planner.training.machine import Machine


@dataclass(frozen=True)
class InitTraining:
    """Settings of one run.

    Attributes:
        horizon: model steps from a frame to its goal; the planner's horizon.
        num_updates: optimizer steps.
        batch_size: segments per update.
        learning_rate, weight_decay: AdamW, one-cycle cosine schedule.
        held_out: share of trajectories kept for validation.
    """

    horizon: int = 5
    num_updates: int = 3000
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    held_out: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(self, horizon=1, num_updates=1, batch_size=1)
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be in (0, 1), got {self.held_out}")


class InitLearner(Learner):
    """A fresh initialisation network, on segments of encoded trajectories."""

    name = "init"

    def __init__(
        self, model: WorldModel, data: LatentTrajectories, config: InitTraining, machine: Machine
    ) -> None:
        torch.manual_seed(config.seed)
        self.model, self.config, self.group = model, config, machine.group
        self.generator = torch.Generator().manual_seed(config.seed)
        self.network = InitNetwork.for_model(model.config, config.horizon).to(machine.device)
        self.module = self.network
        self.train, self.held_out = data.split(config.held_out, config.seed)
        self.schedule = Schedule(config.num_updates, config.learning_rate, config.weight_decay)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Frames, goals and the actions between, see `_segments`."""
        count = self.config.batch_size
        return self._segments(self.train, count, self.generator, self.group.share(count))

    def loss(self, step: int, *batch: Tensor) -> dict[str, Tensor]:
        """Squared error of the actions."""
        *latents, actions = batch
        now, goal = Latent(*latents[:2]), Latent(*latents[2:])
        return {"loss": F.mse_loss(self.network(now, goal), actions)}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Squared error of the actions, and that of always answering their mean."""
        segments = self._segments(self.held_out, 256, torch.Generator().manual_seed(0))
        return {
            "val_actions": float(self.loss(0, *segments)["loss"]),
            "val_mean": float(segments[-1].square().mean()),
        }

    @torch.no_grad()
    def _segments(
        self,
        data: LatentTrajectories,
        count: int,
        generator: torch.Generator,
        share: slice = slice(None),
    ) -> tuple[Tensor, ...]:
        """Random first frames, goals `horizon` steps later and the (B, H, A) actions between.

        Every second goal comes without proprioception, that is with its mean
        (`Bundle.encode_goal`): a goal may be no more than a picture, and the mean must not then be
        taken for the place to go.
        """
        windows = data.windows(count, self.config.horizon, generator, share)
        visual, proprio, actions = (x.to(self.model.device) for x in windows)
        unknown = (torch.arange(count)[share] % 2 == 1).to(self.model.device)
        aim = torch.where(unknown[:, None], 0.0, proprio[:, -1])
        embedded = (self.model.proprio_encoder(p) for p in (proprio[:, :1], aim[:, None]))
        now, goal = zip((visual[:, :1], visual[:, -1:]), embedded, strict=True)
        return *now, *goal, actions


def train_init_network(
    store: TrajectoryStore,
    bundle: Bundle,
    config: InitTraining,
    output: Path,
    machine: Machine | None = None,
) -> Bundle:
    """Train a fresh network on the latents of `bundle` and put it there; log to `output`.

    The target is the standardised actions themselves, the space that the network is used in.

    Raises:
        DatasetError: trajectories shorter than the horizon.
        TrainingError: a loss is not finite.
    """
    machine = machine or Machine()
    if store.actions.shape[1] < config.horizon:
        raise DatasetError(
            f"{store.directory}: trajectories have {store.actions.shape[1]} model steps, "
            f"horizon {config.horizon} needs at least as many"
        )
    model = bundle.model.to(machine.device)
    data = encode_store(store, model, bundle.preprocess, machine)
    learner = InitLearner(model, data, config, machine)
    run = fit(learner, {"init_network": to_dict(config), "data": store.meta}, output, machine)
    bundle.init_network = learner.network.eval().requires_grad_(False)
    run |= {"data": store.meta, "held_out": learner.evaluate()}
    bundle.info = {**bundle.info, "init_network": run}
    return bundle
