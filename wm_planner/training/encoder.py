"""Self-supervised training of the small encoder.

The loss asks for pictures that can be drawn again (foreground-weighted reconstruction), for tokens
that change slowly in time (frames 1 to `max_gap` model steps apart agree), and against collapse
for a standard deviation of at least one and decorrelated entries (VICReg, arXiv 2105.04906,
section 4). Slowness makes latent distance rank true distance, which is what a planner descends.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from wm_planner.config import to_dict
from wm_planner.data.store import TrajectoryStore
from wm_planner.models.bundle import build_decoder, build_encoder
from wm_planner.training.run_log import RunLog


@dataclass(frozen=True)
class EncoderTraining:
    """Settings of one encoder run; sizes in pixels, tokens and frames.

    `kind` is 'small' (patch tokens) or 'keypoint' (image coordinates); `depth` is for 'small'.
    """

    kind: str = "small"
    num_patches: int = 16
    dim: int = 64
    channels: int = 128
    depth: int = 2
    num_updates: int = 1500
    batch_pairs: int = 96
    max_gap: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    reconstruction_weight: float = 40.0
    foreground_weight: float = 20.0
    invariance_weight: float = 1.0
    std_weight: float = 2.0
    covariance_weight: float = 0.1
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("small", "keypoint"):
            raise ValueError(f"unknown encoder kind '{self.kind}'; choices: small, keypoint")
        if self.num_updates < 1 or self.batch_pairs < 2 or self.max_gap < 1:
            raise ValueError(
                f"num_updates >= 1, batch_pairs >= 2 and max_gap >= 1 are needed, got "
                f"{self.num_updates}, {self.batch_pairs}, {self.max_gap}"
            )


def encoder_settings(config: EncoderTraining) -> dict:
    """The encoder entry of a ModelConfig."""
    settings = {"kind": config.kind, "channels": config.channels}
    return settings | ({"depth": config.depth} if config.kind == "small" else {})


def std_hinge(z_BN: Tensor) -> Tensor:
    """Mean shortfall of each entry's standard deviation below one."""
    return F.relu(1.0 - (z_BN.var(dim=0) + 1e-4).sqrt()).mean()


def covariance_penalty(z_BN: Tensor) -> Tensor:
    """Sum of squared off-diagonal covariances over the number of entries."""
    centred = z_BN - z_BN.mean(dim=0)
    covariance = centred.T @ centred / (len(z_BN) - 1)
    off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
    return off_diagonal / z_BN.shape[1]


def train_encoder(store: TrajectoryStore, config: EncoderTraining, output: Path) -> torch.nn.Module:
    """Train on the store's images and write ``encoder.safetensors`` (encoder and decoder).

    Args:
        store: trajectories; images are used as they are (their size is the encoder's).
        config: settings.
        output: run directory, must not hold a run.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    images = store.images
    size = images.shape[2]
    log = RunLog(output, {"encoder": to_dict(config), "data": str(store.meta)})
    encoder: Any = build_encoder(encoder_settings(config), size, config.num_patches, config.dim)
    decoder: Any = build_decoder(config.kind, size, config.num_patches, config.dim)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.num_updates, pct_start=0.05
    )
    background = _to_input(np.median(images[rng.choice(len(images), 64), 0], axis=0)[None])
    progress = tqdm(range(config.num_updates), desc="encoder", unit="update")
    for step in progress:
        x = _pairs(images, config, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            z = encoder(x)
            drawn = decoder(z)
        terms = _loss_terms(z.float(), drawn.float(), x, background, config)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == config.num_updates - 1:
            values = {name: float(value.detach()) for name, value in terms.items()}
            log.write(step, **values)
            progress.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
    encoder.eval()
    _standardise(encoder, decoder, images, rng)
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    state |= {f"decoder.{k}": v for k, v in decoder.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, output / "encoder.safetensors")
    log.close()
    return encoder


def _to_input(images: np.ndarray) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return x / 127.5 - 1.0


def _pairs(images: np.ndarray, config: EncoderTraining, rng: np.random.Generator) -> Tensor:
    """(2B, 3, S, S): frames and, in the second half, what followed a few model steps later."""
    count, frames = images.shape[:2]
    gap = rng.integers(1, config.max_gap + 1, config.batch_pairs)
    row = rng.integers(0, count, config.batch_pairs)
    start = rng.integers(0, frames - gap)
    rows, times = np.concatenate([row, row]), np.concatenate([start, start + gap])
    return _to_input(images[rows, times])


def _loss_terms(
    z: Tensor, drawn: Tensor, x: Tensor, background: Tensor, config: EncoderTraining
) -> dict[str, Tensor]:
    weight = 1 + config.foreground_weight * (x - background).abs().mean(1, keepdim=True)
    reconstruction = (weight * (drawn - x).square()).mean() / weight.mean()
    now, later = z.flatten(1).chunk(2)
    return {
        "reconstruction": config.reconstruction_weight * reconstruction,
        "invariance": config.invariance_weight * F.mse_loss(now, later),
        "std": config.std_weight * (std_hinge(now) + std_hinge(later)) / 2,
        "covariance": config.covariance_weight
        * (covariance_penalty(now) + covariance_penalty(later))
        / 2,
    }


@torch.no_grad()
def _standardise(encoder: Any, decoder: Any, images: np.ndarray, rng: np.random.Generator) -> None:
    rows = rng.integers(0, len(images), 2048)
    times = rng.integers(0, images.shape[1], 2048)
    z = torch.cat([encoder(_to_input(part)) for part in np.array_split(images[rows, times], 16)])
    for module in (encoder, decoder):
        module.token_mean.copy_(z.mean(dim=0))
        module.token_std.copy_((z - z.mean(dim=0)).std())
