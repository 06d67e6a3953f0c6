"""A world model with what it needs to be used: preprocessing, embodiment, planner settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wm_planner.models.decoder import build_decoder
from wm_planner.models.encoder import build_encoder
from wm_planner.models.model import EmbodiedModel
from wm_planner.models.upper import UpperModel
from wm_planner.models.world_model import Latent, ModelConfig, WorldModel


@dataclass
class Bundle(EmbodiedModel):
    """What a checkpoint directory holds.

    Attributes:
        model, preprocess, embodiment, upper: see `EmbodiedModel`; the robot is the one of the
            training.
        planner: recommended planner settings for this model (keys of PlannerConfig).
        info: provenance (parent, commit, command, data, results).
    """

    model: WorldModel
    upper: UpperModel | None = field(default=None, kw_only=True)
    planner: dict[str, Any] = field(default_factory=dict[str, Any])
    info: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        # Released pickles carry training mode; planning with dropout active is never wanted.
        for model in (self.model, self.upper):
            if model is not None:
                model.eval().requires_grad_(False)

    @torch.no_grad()
    def decode(self, latent: Latent) -> np.ndarray:
        """Pictures (B, T, S, S, 3) uint8 of a latent."""
        images = self.model.decode(latent.visual)
        pixels = ((images * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.movedim(-3, -1).cpu().numpy()


def build_model(config: ModelConfig) -> WorldModel:
    """Build a world model with fresh weights.

    Raises:
        ConfigError, ValueError: see `build_encoder` and `build_decoder`.
    """
    sizes = (config.image_size, config.num_patches, config.visual_dim)
    encoder = build_encoder(config.encoder, *sizes)
    return WorldModel(config, encoder, build_decoder(config.decoder, *sizes))
