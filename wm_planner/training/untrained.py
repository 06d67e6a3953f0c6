"""Checkpoints before their transition model is trained: sizes, statistics, fresh weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import CheckpointError, ConfigError, DatasetError, raised_as
from wm_planner.models.bundle import Bundle
from wm_planner.models.decoder import build_decoder
from wm_planner.models.encoder import UNBUILT, build_encoder
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import ModelConfig, WorldModel
from wm_planner.training.encoder import EncoderTraining, decoder_settings, encoder_settings
from wm_planner.training.model import ModelTraining

_STILL = 1e-7  # a standard deviation, relative to the mean above 1: rounding, not motion


def build_untrained(
    store: TrajectoryStore,
    encoder: EncoderTraining,
    encoder_file: Path | None,
    config: ModelTraining,
) -> Bundle:
    """A bundle with the trained encoder and decoder and a fresh predictor, drawn by its seed.

    Args:
        store: gives image size and statistics.
        encoder: settings.
        encoder_file: as `train_encoder` wrote it; None for one that comes trained.
        config: sizes of the predictor.

    Raises:
        CheckpointError: the encoder file is missing or of other sizes.
        DatasetError: an entry of the action never changes.
    """
    bundle = build_fresh(store, *parts_of(store, encoder), config)
    if not encoder.comes_trained:
        load_encoder(bundle.model, encoder_file)
    return bundle


def parts_of(
    store: TrajectoryStore, encoder: EncoderTraining
) -> tuple[dict[str, Any], int, int, str]:
    """Encoder settings, tokens, their size and the decoder, as `build_fresh` takes them."""
    cameras = len(store.embodiment.cameras)
    settings, decoder = encoder_settings(encoder, cameras), decoder_settings(encoder, cameras)
    return settings, cameras * encoder.num_patches, encoder.dim, decoder


def build_fresh(
    store: TrajectoryStore,
    encoder: dict[str, Any],
    num_patches: int,
    dim: int,
    decoder: str,
    config: ModelTraining,
) -> Bundle:
    """A bundle with fresh weights, drawn by its seed; sizes as `build_encoder` takes them.

    Raises:
        ConfigError: no model has these settings and sizes.
        DatasetError: an entry of the action never changes.
    """
    body = store.embodiment
    height, width = store.images.shape[2:4]
    if width != len(body.cameras) * height:
        raise DatasetError(
            f"{store.directory}: pictures of {width} x {height} pixels are not those of "
            f"{len(body.cameras)} cameras side by side; build the store again"
        )
    statistics = _usable_stats(store)
    try:
        preprocess = Preprocess(
            height, body.frame_skip, **statistics, num_cameras=len(body.cameras)
        )
    except ValueError as error:
        raise DatasetError(f"{store.directory}: cannot be standardised: {error}") from error
    torch.manual_seed(config.seed)
    sizes = (height, num_patches, dim)
    built = build_encoder(encoder, *sizes)
    cannot = f"{store.directory}: a model of these settings cannot be built: "
    with raised_as(ConfigError, *UNBUILT, before=cannot):
        model = WorldModel(
            ModelConfig(
                image_size=height,
                num_hist=config.num_hist,
                num_patches=built.num_patches,
                visual_dim=built.dim,
                action_dim=preprocess.action_dim,
                proprio_dim=len(body.proprio),
                predictor=config.predictor,
                encoder=encoder,
                decoder=decoder,
            ),
            built,
            build_decoder(decoder, *sizes),
        )
    return Bundle(model, preprocess, body)


def _usable_stats(store: TrajectoryStore) -> dict[str, tuple[float, ...]]:
    """The store's statistics; proprioception that never changes is left in its unit."""
    stats = store.stats()
    still = {
        kind: [
            deviation <= _STILL * max(1.0, abs(mean))
            for mean, deviation in zip(stats[f"{kind}_mean"], stats[f"{kind}_std"], strict=True)
        ]
        for kind in ("action", "proprio")
    }
    names = [n for n, s in zip(store.embodiment.action.names, still["action"], strict=True) if s]
    if names:
        raise DatasetError(
            f"{store.directory}: cannot be standardised: the action of {', '.join(names)} never "
            "changes, so nothing can be learnt of what it does; record it moving, or leave it out "
            "of the robot file's action"
        )
    pairs = zip(stats["proprio_std"], still["proprio"], strict=True)
    stats["proprio_std"] = tuple(1.0 if constant else deviation for deviation, constant in pairs)
    return stats


def load_encoder(model: WorldModel, file: Path | None) -> None:
    """Load the weights of the encoder, and of the decoder if the model has one.

    Raises:
        CheckpointError: the file is missing or of other sizes.
    """
    if file is None or not file.is_file():
        raise CheckpointError(f"{file}: no such file; run 'wm-planner train encoder' first")
    state = load_file(file)
    for name in ("encoder",) if model.decoder is None else ("encoder", "decoder"):
        part = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
        try:
            getattr(model, name).load_state_dict(part)
        except RuntimeError as error:
            raise CheckpointError(f"{file}: does not fit the recipe: {error}") from error
