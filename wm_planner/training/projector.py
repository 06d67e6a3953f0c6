"""A channel projector on a frozen encoder (arXiv 2603.12231): trained, saved, and built upon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wm_planner.config import to_dict
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import CheckpointError, ConfigError, DatasetError
from wm_planner.models.bundle import Bundle
from wm_planner.models.projected_encoder import ProjectedEncoder
from wm_planner.models.world_model import WorldModel
from wm_planner.training.encoder import EncoderTraining, encoder_settings
from wm_planner.training.feature_cache import weights_sha256
from wm_planner.training.latents import LatentTrajectories, encode_store
from wm_planner.training.loop import fit
from wm_planner.training.machine import Machine
from wm_planner.training.projector_learner import STEPS, ProjectorLearner, ProjectorTraining
from wm_planner.training.trainer import ModelTraining, build_fresh, build_untrained, load_encoder


def train_projector(
    store: TrajectoryStore,
    encoder: EncoderTraining,
    encoder_file: Path | None,
    config: ProjectorTraining,
    output: Path,
    machine: Machine | None = None,
) -> ProjectedEncoder:
    """Train a projector on an encoder's tokens; write both to ``encoder.safetensors``.

    Args:
        store: trajectories of at least two model steps.
        encoder: settings of the encoder to project, which stays as it is.
        encoder_file: as `train_encoder` wrote it; None for one that comes trained.
        config: settings.
        output: run directory.
        machine: device, cache, and whether to resume; one CPU by default.

    Raises:
        CheckpointError: the encoder file is missing or of other sizes.
        ConfigError: sizes that do not fit the encoder, or several processes: variance and
            covariance are the whole batch's.
        DatasetError: trajectories are too short.
        TrainingError: a loss is not finite.
    """
    machine = machine or Machine()
    if machine.group.size > 1:
        raise ConfigError(
            "train projector runs in one process: its variance and covariance terms need the "
            "whole batch; start it without torchrun"
        )
    _check_one_camera(store)
    if store.actions.shape[1] < STEPS:
        raise DatasetError(
            f"{store.directory}: trajectories have {store.actions.shape[1]} model steps, a "
            f"projector needs at least {STEPS}"
        )
    sizes = ModelTraining(predictor=config.predictor, seed=config.seed)
    base = build_untrained(store, encoder, encoder_file, sizes)
    model = _on_top(base.model, encoder, config).to(machine.device)
    data = encode_store(store, base.model, base.preprocess, machine)
    learner = ProjectorLearner(model, data, config, machine)
    settings = {
        "projector": to_dict(config),
        "encoder": to_dict(encoder),
        "encoder_sha256": weights_sha256(base.model.encoder),
        "data": store.meta,
    }
    fit(learner, settings, output, machine)
    projected = learner.encoder.eval().requires_grad_(False)
    _standardise(projected, learner.train, config.seed)
    state = {f"encoder.{k}": v.contiguous().cpu() for k, v in projected.state_dict().items()}
    save_file(state, output / "encoder.safetensors")
    return projected


def is_projected(file: Path) -> bool:
    """Whether `file` is what `train_projector` wrote; False when there is none.

    Raises:
        CheckpointError: it cannot be read.
    """
    if not file.is_file():
        return False
    try:
        with safe_open(file, "pt") as tensors:
            return any(name.startswith("encoder.projector.") for name in tensors.keys())
    except SafetensorError as error:
        raise CheckpointError(f"{file}: cannot be read: {error}") from error


def build_projected(
    store: TrajectoryStore,
    encoder: EncoderTraining,
    projector: ProjectorTraining,
    file: Path,
    config: ModelTraining,
) -> Bundle:
    """As `build_untrained`, on the encoder that `train_projector` wrote; it has no decoder.

    Raises:
        CheckpointError: the file is missing or of other sizes.
        DatasetError: an entry of actions or proprioception never changes.
    """
    _check_one_camera(store)
    settings = _settings(encoder, projector)
    bundle = build_fresh(store, settings, encoder.num_patches, projector.dim, "none", config)
    load_encoder(bundle.model, file)
    return bundle


def _check_one_camera(store: TrajectoryStore) -> None:
    cameras = len(store.embodiment.cameras)
    if cameras > 1:
        raise ConfigError(
            f"{store.directory}: a projector is for one camera, its pictures are of {cameras}; "
            "train the model on the encoder itself"
        )


def _settings(encoder: EncoderTraining, config: ProjectorTraining) -> dict[str, Any]:
    """The encoder entry of a ModelConfig: sizes alone, for the file has all the weights."""
    base = {k: v for k, v in encoder_settings(encoder).items() if k != "weights"}
    if not encoder.comes_trained:
        base["dim"] = encoder.dim
    sizes = {"hidden_dim": config.hidden_dim, "kernel_size": config.kernel_size}
    return {"kind": "projected", "base": base, **sizes}


def _on_top(base: WorldModel, encoder: EncoderTraining, config: ProjectorTraining) -> WorldModel:
    """A model of the same sizes on fewer channels, around the same encoder."""
    sizes = (config.dim, config.hidden_dim, config.kernel_size)
    try:
        projected = ProjectedEncoder(base.encoder, *sizes)
    except ValueError as error:
        raise ConfigError(f"projector: {error}") from error
    settings = _settings(encoder, config)
    return WorldModel(
        replace(base.config, visual_dim=config.dim, encoder=settings, decoder="none"), projected
    )


@torch.no_grad()
def _standardise(encoder: ProjectedEncoder, data: LatentTrajectories, seed: int) -> None:
    """Zero mean for each patch's channels, unit overall variance."""
    tokens, _, _ = data.windows(512, 1, torch.Generator().manual_seed(seed))
    z = encoder.project(tokens.flatten(0, 1).to(encoder.token_std.device))
    encoder.token_mean.copy_(z.mean(dim=0))
    encoder.token_std.copy_((z - z.mean(dim=0)).std())
