"""Training of the transition model on encoded trajectories.

First teacher forcing (one step ahead from true latents), then imagined rollouts: the error of
every step of an `rollout_steps` long rollout, which is what a planner will look at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from wm_planner.config import to_dict
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import CheckpointError, DatasetError
from wm_planner.models.bundle import Bundle, build_model
from wm_planner.models.predictor import PredictorConfig
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import Latent, ModelConfig, WorldModel
from wm_planner.tasks import get_task
from wm_planner.training.adversarial import Adversarial, AdversarialLoss
from wm_planner.training.encoder import EncoderTraining, encoder_settings
from wm_planner.training.latents import LatentTrajectories, encode_store
from wm_planner.training.run_log import RunLog


def _small_predictor() -> PredictorConfig:
    return PredictorConfig(
        depth=3, heads=4, dim_head=32, mlp_dim=256, dropout=0.0, width=128, residual=True
    )


@dataclass(frozen=True)
class ModelTraining:
    """Settings of one transition-model run.

    Attributes:
        predictor: sizes.
        num_hist: history window K.
        num_updates: optimizer steps in all.
        rollout_fraction: share of the updates, at the end, that train on rollouts.
        rollout_steps: length of those rollouts, model steps.
        batch_size: windows per update; each gives `rollout_steps` predictions.
        learning_rate, weight_decay: AdamW, one-cycle cosine schedule.
        held_out: share of trajectories kept for validation.
    """

    predictor: PredictorConfig = field(default_factory=_small_predictor)
    num_hist: int = 1
    num_updates: int = 6000
    rollout_fraction: float = 0.5
    rollout_steps: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    held_out: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_updates < 1 or self.batch_size < 1 or self.rollout_steps < 1:
            raise ValueError("num_updates, batch_size and rollout_steps must be at least 1")
        if not 0 <= self.rollout_fraction <= 1 or not 0 < self.held_out < 1:
            raise ValueError(
                f"rollout_fraction must be in [0, 1] and held_out in (0, 1), got "
                f"{self.rollout_fraction}, {self.held_out}"
            )


def build_untrained(
    store: TrajectoryStore, encoder: EncoderTraining, encoder_file: Path, config: ModelTraining
) -> Bundle:
    """A bundle with the trained encoder and decoder and a fresh predictor.

    Raises:
        CheckpointError: the encoder file is missing or of other sizes.
    """
    task = get_task(store.meta["task"])
    stats = store.stats()
    preprocess = Preprocess(
        image_size=store.images.shape[2],
        frame_skip=task.frame_skip,
        action_mean=stats["action_mean"],
        action_std=stats["action_std"],
        proprio_mean=stats["proprio_mean"],
        proprio_std=stats["proprio_std"],
    )
    model = build_model(
        ModelConfig(
            image_size=preprocess.image_size,
            num_hist=config.num_hist,
            num_patches=encoder.num_patches,
            visual_dim=encoder.dim,
            action_dim=preprocess.action_dim,
            proprio_dim=len(task.proprio_names),
            predictor=config.predictor,
            encoder=encoder_settings(encoder),
            decoder=encoder.kind,
        )
    )
    if not encoder_file.is_file():
        raise CheckpointError(f"{encoder_file}: no such file; run 'wm-planner train encoder' first")
    state = load_file(encoder_file)
    for name in ("encoder", "decoder"):
        part = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
        try:
            getattr(model, name).load_state_dict(part)
        except RuntimeError as error:
            raise CheckpointError(f"{encoder_file}: does not fit the recipe: {error}") from error
    return Bundle(model, preprocess, task.name)


def rollout_loss(
    model: WorldModel, visual: Tensor, proprio: Tensor, actions: Tensor
) -> dict[str, Tensor]:
    """Error of every step of an imagined rollout, joint mean as in `WorldModel.latent_loss`.

    Args:
        visual: (B, L + 1, P, Dv), proprio: (B, L + 1, p), actions: (B, L, A).
    """
    mode = "markov" if model.config.num_hist == 1 else "history"
    embedded = model.proprio_encoder(proprio)
    predicted = model.rollout(Latent(visual[:, :1], embedded[:, :1]), actions, mode=mode)
    error_visual = (predicted.visual[:, 1:] - visual[:, 1:]).square().mean()
    error_proprio = (predicted.proprio[:, 1:] - embedded[:, 1:].detach()).square().mean()
    dv, dp = model.config.visual_dim, model.config.proprio_emb_dim
    loss = (dv * error_visual + dp * error_proprio) / (dv + dp)
    return {"loss": loss, "visual": error_visual, "proprio": error_proprio}


def train_model(
    store: TrajectoryStore,
    bundle: Bundle,
    config: ModelTraining,
    output: Path,
    adversarial: Adversarial | None = None,
) -> Bundle:
    """Train the predictor and the action embedding of `bundle` in place; log to `output`.

    With `adversarial` the teacher-forcing updates train on perturbed inputs.

    The proprioception embedding stays as drawn: it fixes the scale that the planning objective's
    alpha refers to, and training it lets the loss shrink its own target.

    Raises:
        DatasetError: trajectories shorter than the rollouts to train on.
    """
    if store.actions.shape[1] < config.rollout_steps:
        raise DatasetError(
            f"{store.directory}: trajectories have {store.actions.shape[1]} model steps, "
            f"rollout_steps {config.rollout_steps} needs at least as many"
        )
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    model = bundle.model
    train, held_out = encode_store(store, model, bundle.preprocess).split(
        config.held_out, config.seed
    )
    log = RunLog(
        output,
        {"model": to_dict(config), "adversarial": to_dict(adversarial), "data": store.meta},
    )
    one_step: Callable[..., dict[str, Tensor]] = model.latent_loss
    if adversarial is not None:
        one_step = AdversarialLoss(model, adversarial, generator)
    parameters = [*model.predictor.parameters(), *model.action_encoder.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.num_updates, pct_start=0.05
    )
    rollouts_from = int(config.num_updates * (1 - config.rollout_fraction))
    progress = tqdm(range(config.num_updates), desc="model", unit="update")
    model.predictor.train()
    for step in progress:
        visual, proprio, actions = train.windows(config.batch_size, config.rollout_steps, generator)
        if step < rollouts_from:
            terms = one_step(*_history_windows(model, visual, proprio, actions))
        else:
            terms = rollout_loss(model, visual, proprio, actions)
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == config.num_updates - 1:
            values = {name: float(value.detach()) for name, value in terms.items()}
            values |= evaluate(model, held_out, config.rollout_steps)
            log.write(step, **values)
            progress.set_postfix({name: f"{value:.4f}" for name, value in values.items()})
    model.eval().requires_grad_(False)
    bundle.info = {
        **log.provenance,
        "minutes": round(log.minutes, 1),
        "data": store.meta,
        "held_out": evaluate(model, held_out, config.rollout_steps),
    }
    log.close()
    return bundle


@torch.no_grad()
def evaluate(model: WorldModel, data: LatentTrajectories, steps: int) -> dict[str, float]:
    """Error of the last step of a rollout, and that of assuming nothing moves."""
    was_training = model.predictor.training
    model.predictor.eval()
    generator = torch.Generator().manual_seed(0)
    visual, proprio, actions = data.windows(256, steps, generator)
    mode = "markov" if model.config.num_hist == 1 else "history"
    now = Latent(visual[:, :1], model.proprio_encoder(proprio[:, :1]))
    last = model.rollout(now, actions, mode=mode).visual[:, -1]
    model.predictor.train(was_training)
    return {
        "val_last": float((last - visual[:, -1]).square().mean()),
        "val_copy": float((visual[:, 0] - visual[:, -1]).square().mean()),
    }


def _history_windows(
    model: WorldModel, visual: Tensor, proprio: Tensor, actions: Tensor
) -> list[Tensor]:
    """Every window of K + 1 frames in the segments, as `WorldModel.latent_loss` takes them."""
    length = model.config.num_hist + 1
    # The last frame's action is never used.
    actions = torch.cat([actions, torch.zeros_like(actions[:, :1])], dim=1)
    return [x.unfold(1, length, 1).movedim(-1, 2).flatten(0, 1) for x in (visual, proprio, actions)]
