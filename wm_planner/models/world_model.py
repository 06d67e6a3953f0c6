"""The world model: encode observations, predict the next latent, roll out action sequences.

Shapes: B batch, T frames, H horizon in model steps, P patches, Dv visual size, Dp and Da
embedding sizes of proprioception and action, D = Dv + Dp + Da, A model action size.
All inputs are standardised (see `preprocess`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from wm_planner.config import Size
from wm_planner.errors import CheckpointError
from wm_planner.models.embeddings import StepEmbedding
from wm_planner.models.predictor import PredictorConfig, PredictorWindow, ViTPredictor, Window

ROLLOUT_MODES = ("markov", "history")


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a world model.

    Attributes:
        image_size: side of each camera's square picture, pixels.
        num_hist: longest history window K, frames.
        num_patches: P.
        visual_dim: Dv.
        action_dim: A = frame_skip * raw action size.
        proprio_dim: entries of the proprioception vector.
        action_emb_dim, proprio_emb_dim: Da, Dp.
        predictor: sizes of the predictor.
        encoder: see `build_encoder`.
        decoder: see `build_decoder`; only for pictures of what the model imagines.
    """

    image_size: Size
    num_hist: Size
    num_patches: Size
    visual_dim: Size
    action_dim: Size
    proprio_dim: Size
    action_emb_dim: Size = 10
    proprio_emb_dim: Size = 10
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    encoder: dict[str, Any] = field(default_factory=lambda: {"kind": "small"})
    decoder: str = "none"

    @property
    def token_dim(self) -> int:
        """D, the size of an assembled token."""
        return self.visual_dim + self.proprio_emb_dim + self.action_emb_dim


@dataclass(frozen=True)
class Latent:
    """What the model knows of T frames.

    Attributes:
        visual: (B, T, P, Dv) patch tokens.
        proprio: (B, T, Dp) embedded proprioception.
    """

    visual: Tensor
    proprio: Tensor

    def __getitem__(self, index: Any) -> Latent:
        """Select along the batch dimension."""
        return Latent(self.visual[index], self.proprio[index])

    def frames(self, index: slice) -> Latent:
        """Select along time."""
        return Latent(self.visual[:, index], self.proprio[:, index])


class WorldModel(nn.Module):
    """Encoder, embeddings, predictor and (for pictures) a decoder.

    Args:
        config: sizes.
        encoder: see `Encoder`.
        decoder: see `Decoder`; None draws nothing.
    """

    def __init__(
        self, config: ModelConfig, encoder: nn.Module, decoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.decoder = decoder
        self.predictor = ViTPredictor(
            config.token_dim, config.num_patches, config.num_hist, config.predictor
        )
        self.action_encoder = StepEmbedding(config.action_dim, config.action_emb_dim)
        self.proprio_encoder = StepEmbedding(config.proprio_dim, config.proprio_emb_dim)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.predictor.pos_embedding.device

    @property
    def num_hist(self) -> int:
        """Frames of the longest history window."""
        return self.config.num_hist

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, T, 3, S, S) in [-1, 1] -> (B, T, P, Dv). The encoder is frozen: no gradient."""
        batch, frames = images.shape[:2]
        with torch.no_grad():
            result: Tensor = self.encoder(images.flatten(0, 1)).unflatten(0, (batch, frames))
            return result

    def encode(self, images: Tensor, proprio: Tensor) -> Latent:
        """Encode (B, T, 3, S, S) images and (B, T, p) proprioception."""
        return Latent(self.encode_images(images), self.proprio_encoder(proprio))

    def read_proprio(self, embedded: Tensor) -> Tensor:
        """(..., Dp) embedded -> (..., p) standardised proprioception, by least squares."""
        embedding = self.proprio_encoder.patch_embed
        inverse = torch.linalg.pinv(embedding.weight.squeeze(-1))
        offset = 0.0 if embedding.bias is None else embedding.bias
        read: Tensor = (embedded - offset) @ inverse.T
        return read

    def assemble(self, latent: Latent, actions: Tensor) -> Tensor:
        """Join latents of T frames with the T actions taken from them: (B, T, P, D)."""
        return self._join(latent.visual, self._tile(latent.proprio), self.action_encoder(actions))

    def predict(self, z: Tensor) -> Tensor:
        """One predictor call, (B, T, P, D) -> (B, T, P, D); see `ViTPredictor`."""
        result: Tensor = self.predictor(z)
        return result

    def rollout(
        self,
        latent: Latent,
        actions: Tensor,
        past_actions: Tensor | None = None,
        mode: str = "markov",
        window: Window | None = None,
    ) -> Latent:
        """Imagine what H actions do.

        Args:
            latent: T frames, the last one is now.
            actions: (B, H, A), the first one is taken now.
            past_actions: (B, T - 1, A) that led through the given frames; needed when T > 1 and
                mode is 'history'.
            mode: 'markov' predicts every step from one frame, proprioception re-tiled;
                'history' from a window that grows to num_hist and then slides.
            window: what predicts; None for this model's predictor, as it trains.

        Returns:
            H + 1 frames: now as encoded, then the predictions.
        """
        window = window or PredictorWindow(self.predictor)
        if mode not in ROLLOUT_MODES:
            choices = ", ".join(ROLLOUT_MODES)
            raise ValueError(f"rollout mode '{mode}' is unknown; choices: {choices}")
        if mode == "markov":
            latent = latent.frames(slice(-1, None))
        frames = latent.visual.shape[1]
        if frames > 1:
            if past_actions is None or past_actions.shape[1] != frames - 1:
                got = None if past_actions is None else tuple(past_actions.shape)
                raise ValueError(f"{frames} frames need {frames - 1} past actions, got {got}")
            actions = torch.cat([past_actions, actions], dim=1)
        embedded = self.action_encoder(actions)
        visual, proprio = [latent.visual[:, -1:]], [latent.proprio[:, -1:]]
        new_visual, new_proprio = latent.visual, self._tile(latent.proprio)
        for step in range(frames, actions.shape[1] + 1):
            taken = embedded[:, step - new_visual.shape[1] : step]
            z = self._join(new_visual, new_proprio, taken)
            slides = mode == "history" and step > frames
            new_visual, new_proprio = self._split(window.append(z) if slides else window.begin(z))
            visual.append(new_visual)
            proprio.append(new_proprio[:, :, 0])
            if mode == "markov":  # in a history it stays as predicted, patch by patch
                new_proprio = self._tile(proprio[-1])
        return Latent(torch.cat(visual, dim=1), torch.cat(proprio, dim=1))

    def loss(self, images: Tensor, proprio: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """Teacher-forcing loss over windows of K + 1 frames (see `latent_loss`)."""
        return self.latent_loss(self.encode_images(images), proprio, actions)

    def latent_loss(
        self, visual: Tensor, proprio: Tensor, actions: Tensor, perturbation: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Mean squared error of the next latent over visual and proprioception entries.

        Args:
            visual: (B, K + 1, P, Dv) encoded frames.
            proprio: (B, K + 1, p), actions: (B, K + 1, A), standardised.
            perturbation: (B, K, P, D) added to the inputs, never to the targets.

        Returns:
            'loss' (joint mean), 'visual' and 'proprio' parts (for logs).
        """
        z = self.assemble(Latent(visual, self.proprio_encoder(proprio)), actions)
        target = z[:, 1:].detach()
        source = z[:, :-1]
        if perturbation is not None:
            source = source + perturbation
        error = (self.predict(source) - target)[..., : -self.config.action_emb_dim].square()
        return {
            "loss": error.mean(),
            "visual": error[..., : self.config.visual_dim].mean(),
            "proprio": error[..., self.config.visual_dim :].mean(),
        }

    def decode(self, visual: Tensor) -> Tensor:
        """(B, T, P, Dv) -> images (B, T, 3, S, S) in about [-1, 1].

        Raises:
            CheckpointError: the model has no decoder.
        """
        if self.decoder is None:
            raise CheckpointError("this checkpoint has no decoder: it cannot draw what it imagines")
        result: Tensor = self.decoder(visual.flatten(0, 1)).unflatten(0, visual.shape[:2])
        return result

    def _tile(self, embedding_BTE: Tensor) -> Tensor:
        return embedding_BTE.unsqueeze(2).expand(-1, -1, self.config.num_patches, -1)

    def _join(self, visual: Tensor, proprio_BTPE: Tensor, action_BTE: Tensor) -> Tensor:
        return torch.cat([visual, proprio_BTPE, self._tile(action_BTE)], dim=-1)

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Visual (B, T, P, Dv) and per-patch proprioception (B, T, P, Dp) of tokens."""
        sizes = [self.config.visual_dim, self.config.proprio_emb_dim, self.config.action_emb_dim]
        visual, proprio, _ = z.split(sizes, dim=-1)
        return visual, proprio
