"""A world model with what it needs to be used: preprocessing, embodiment, planner settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wm_planner.models.init_network import InitNetwork
from wm_planner.models.model import EmbodiedModel
from wm_planner.models.world_model import Latent, ModelConfig, WorldModel


@dataclass
class Bundle(EmbodiedModel):
    """What a checkpoint directory holds.

    Attributes:
        model, preprocess, embodiment: see `EmbodiedModel`; the robot is the one of the training.
        planner: recommended planner settings for this model (keys of PlannerConfig).
        info: provenance (parent, commit, command, data, results).
        init_network: first guess of a plan, or None.
    """

    model: WorldModel
    planner: dict = field(default_factory=dict)
    info: dict = field(default_factory=dict)
    init_network: InitNetwork | None = None

    def __post_init__(self) -> None:
        # Released pickles carry training mode; planning with dropout active is never wanted.
        for module in (self.model, self.init_network):
            if module is not None:
                module.eval().requires_grad_(False)

    @torch.no_grad()
    def decode(self, latent: Latent) -> np.ndarray:
        """Pictures (B, T, S, S, 3) uint8 of a latent."""
        images = self.model.decode(latent.visual)
        pixels = ((images * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.movedim(-3, -1).cpu().numpy()


def build_model(config: ModelConfig) -> WorldModel:
    """Build a world model with fresh weights.

    Raises:
        ValueError: unknown encoder or decoder kind.
    """
    sizes = (config.image_size, config.num_patches, config.visual_dim)
    encoder = build_encoder(config.encoder, *sizes)
    return WorldModel(config, encoder, build_decoder(config.decoder, *sizes))


def build_encoder(settings: dict, image_size: int, num_patches: int, dim: int) -> torch.nn.Module:
    """The encoder that `settings['kind']` names.

    It is 'small', 'keypoint', 'dinov2', 'projected' or 'multi'. 'projected' is `dim` channels of
    what `settings['base']` names, which has a token size ('dim') of its own unless its kind fixes
    it. 'multi' looks at each of `settings['cameras']` pictures with what `settings['base']` names;
    `num_patches` are those of all cameras together.

    Raises:
        ValueError: another kind, or sizes it cannot have.
    """
    settings = dict(settings)
    kind = settings.pop("kind", None)
    if kind == "small":
        from wm_planner.models.small_encoder import SmallEncoder

        return SmallEncoder(image_size, num_patches, dim, **settings)
    if kind == "keypoint":
        from wm_planner.models.keypoint_encoder import KeypointEncoder

        return KeypointEncoder(image_size, num_patches, dim, **settings)
    if kind == "dinov2":
        from wm_planner.models.dinov2 import DinoV2Encoder

        return DinoV2Encoder(image_size=image_size, **settings)
    if kind == "projected":
        from wm_planner.models.projected_encoder import ProjectedEncoder

        base = dict(settings.pop("base", {}))
        base_dim = base.pop("dim", dim)
        base_encoder = build_encoder(base, image_size, num_patches, base_dim)
        return ProjectedEncoder(base_encoder, dim, **settings)
    if kind == "multi":
        from wm_planner.models.multi_camera import MultiCameraEncoder

        each = num_patches // settings["cameras"]
        one = build_encoder(settings.pop("base", {}), image_size, each, dim)
        return MultiCameraEncoder(one, **settings)
    raise ValueError(
        f"unknown encoder kind '{kind}'; choices: small, keypoint, dinov2, projected, multi"
    )


def build_decoder(kind: str, image_size: int, num_patches: int, dim: int) -> torch.nn.Module | None:
    """The decoder of that kind: 'none', 'small', 'keypoint', 'vqvae' or 'multi'.

    'vqvae' has the published sizes; others follow as in 'vqvae:channels=32,num_blocks=1'. In the
    same way 'keypoint:standardise=1' is that of an encoder with standardised pixels. 'multi:2:'
    before another kind is one of that for each of two cameras.

    Raises:
        ValueError: another kind, or sizes it cannot have.
    """
    if kind == "none":
        return None
    if kind == "small":
        from wm_planner.models.small_encoder import SmallDecoder

        return SmallDecoder(image_size, num_patches, dim)
    name, _, text = kind.partition(":")
    if name == "multi":
        return _build_multi_decoder(text, image_size, num_patches, dim)
    pairs = (item.split("=") for item in text.split(",") if item)
    settings: dict[str, Any] = {key: int(value) for key, value in pairs}
    if name == "keypoint":
        from wm_planner.models.keypoint_encoder import KeypointDecoder

        return KeypointDecoder(image_size, num_patches, dim, **settings)
    if name == "vqvae":
        from wm_planner.models.decoder import VQVAE

        return VQVAE(image_size, num_patches, dim, **settings)
    raise ValueError(f"unknown decoder kind '{kind}'; choices: none, small, keypoint, vqvae, multi")


def _build_multi_decoder(
    text: str, image_size: int, num_patches: int, dim: int
) -> torch.nn.Module | None:
    """Of 'C:KIND'; standardised pixels are the whole picture's affair."""
    from wm_planner.models.multi_camera import MultiCameraDecoder

    count, _, kind = text.partition(":")
    cameras = int(count)
    name, _, settings = kind.partition(":")
    kept = [item for item in settings.split(",") if item and item != "standardise=1"]
    one = ":".join([name, *([",".join(kept)] if kept else [])])
    built = [build_decoder(one, image_size, num_patches // cameras, dim) for _ in range(cameras)]
    bases = [base for base in built if base is not None]
    if not bases:
        return None
    return MultiCameraDecoder(
        bases, image_size, num_patches, dim, "standardise=1" in settings.split(",")
    )
