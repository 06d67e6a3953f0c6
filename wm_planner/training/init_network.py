"""Training of the initialisation network: which actions led from one frame to a later one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from wm_planner.config import to_dict
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import DatasetError
from wm_planner.models.bundle import Bundle
from wm_planner.models.init_network import InitNetwork
from wm_planner.models.world_model import Latent, WorldModel
from wm_planner.training.latents import LatentTrajectories, encode_store
from wm_planner.training.run_log import RunLog


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
        if self.horizon < 1 or self.num_updates < 1 or self.batch_size < 1:
            raise ValueError("horizon, num_updates and batch_size must be at least 1")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be in (0, 1), got {self.held_out}")


def train_init_network(
    store: TrajectoryStore, bundle: Bundle, config: InitTraining, output: Path
) -> Bundle:
    """Train a fresh network on the latents of `bundle` and put it there; log to `output`.

    The target is the standardised actions themselves, the space that the network is used in.

    Raises:
        DatasetError: trajectories shorter than the horizon.
    """
    if store.actions.shape[1] < config.horizon:
        raise DatasetError(
            f"{store.directory}: trajectories have {store.actions.shape[1]} model steps, "
            f"horizon {config.horizon} needs at least as many"
        )
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    model = bundle.model
    network = InitNetwork.for_model(model.config, config.horizon)
    train, held_out = encode_store(store, model, bundle.preprocess).split(
        config.held_out, config.seed
    )
    log = RunLog(output, {"init_network": to_dict(config), "data": store.meta})
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.num_updates, pct_start=0.05
    )
    progress = tqdm(range(config.num_updates), desc="init", unit="update")
    for step in progress:
        now, goal, actions = _segments(model, train, config.batch_size, config.horizon, generator)
        loss = F.mse_loss(network(now, goal), actions)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == config.num_updates - 1:
            values = {"loss": float(loss.detach()), **evaluate(network, model, held_out)}
            log.write(step, **values)
            progress.set_postfix({name: f"{value:.4f}" for name, value in values.items()})
    bundle.init_network = network.eval().requires_grad_(False)
    run = {**log.provenance, "minutes": round(log.minutes, 1), "data": store.meta}
    run["held_out"] = evaluate(network, model, held_out)
    bundle.info = {**bundle.info, "init_network": run}
    log.close()
    return bundle


@torch.no_grad()
def evaluate(network: InitNetwork, model: WorldModel, data: LatentTrajectories) -> dict[str, float]:
    """Squared error of the actions, and that of always answering their mean."""
    generator = torch.Generator().manual_seed(0)
    now, goal, actions = _segments(model, data, 256, network.horizon, generator)
    return {
        "val_actions": float(F.mse_loss(network(now, goal), actions)),
        "val_mean": float(actions.square().mean()),
    }


@torch.no_grad()
def _segments(
    model: WorldModel,
    data: LatentTrajectories,
    batch_size: int,
    horizon: int,
    generator: torch.Generator,
) -> tuple[Latent, Latent, Tensor]:
    """Random first frames, goals `horizon` steps later and the (B, H, A) actions between.

    Every second goal comes without proprioception, that is with its mean (`Bundle.encode_goal`):
    a goal may be no more than a picture, and the mean must not then be taken for the place to go.
    """
    visual, proprio, actions = data.windows(batch_size, horizon, generator)
    unknown = torch.arange(batch_size) % 2 == 1
    aim = torch.where(unknown[:, None], 0.0, proprio[:, -1])
    now = Latent(visual[:, :1], model.proprio_encoder(proprio[:, :1]))
    return now, Latent(visual[:, -1:], model.proprio_encoder(aim[:, None])), actions
