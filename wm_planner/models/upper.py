"""The upper model: long steps in the latent of another model, led by macro-actions.

A macro-step is K model steps. What their actions do together is a macro-action, a few numbers that
an action encoder makes of them, distributed about as N(0, I) over the training data (Zhang et al.,
arXiv 2604.03208). Predictor, rollout and losses are those of `WorldModel`, whose actions are
macro-actions here.

Shapes: B batch, T model steps, M = T / K macro-steps, A model action size, Z macro-action size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from wm_planner.config import Size, from_dict, to_dict
from wm_planner.errors import CheckpointError, ConfigError
from wm_planner.files import write_bytes
from wm_planner.models.catalog import CARD, UPPER, check_whole, file_sha256
from wm_planner.models.model import Model
from wm_planner.models.predictor import PredictorConfig
from wm_planner.models.world_model import WorldModel

_LOG_VARIANCE = (-6.0, 2.0)  # so far may a posterior be from that of the data
_SHARED = "model.proprio_encoder."  # weights of the model below


class Upper(Protocol):
    """What it takes to plan at the upper level; `UpperModel` is one.

    Attributes:
        model: its actions are macro-actions, and it needs no `encode`.
        steps: model steps of a macro-step, K.
        macro_dim: Z.
    """

    @property
    def model(self) -> Model: ...
    @property
    def steps(self) -> int: ...
    @property
    def macro_dim(self) -> int: ...


@dataclass(frozen=True)
class UpperConfig:
    """Sizes of an upper model.

    Attributes:
        predictor: sizes of its predictor.
        steps: model steps of a macro-step, K.
        macro_dim: entries of a macro-action, Z.
        hidden: width of the two hidden layers of the action encoder.
    """

    predictor: PredictorConfig
    steps: Size = 5
    macro_dim: Size = 8
    hidden: Size = 128


class ActionEncoder(nn.Module):
    """K model actions to the Gaussian of their macro-action.

    Args:
        in_dim: K * A.
        config: sizes.
    """

    def __init__(self, in_dim: int, config: UpperConfig) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(in_dim, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, 2 * config.macro_dim),
        )

    def forward(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances (B, M, Z), of (B, M, K * A) model actions."""
        mean, log_variance = self.net(actions).chunk(2, dim=-1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)


class UpperModel(nn.Module):
    """Action encoder, and a world model of macro-steps; it encodes no pictures.

    Args:
        config: sizes.
        base: the model whose latents it predicts, and whose proprioception embedding it shares.

    Attributes:
        info: provenance and held-out errors.
    """

    def __init__(self, config: UpperConfig, base: WorldModel) -> None:
        super().__init__()
        self.config = config
        sizes = replace(
            base.config,
            num_hist=1,
            action_dim=config.macro_dim,
            action_emb_dim=config.macro_dim,
            predictor=config.predictor,
        )
        self.model = WorldModel(sizes, nn.Identity())
        self.model.proprio_encoder = base.proprio_encoder
        self.action_encoder = ActionEncoder(config.steps * base.config.action_dim, config)
        self.info: dict[str, Any] = {}

    @property
    def steps(self) -> int:
        """Model steps of a macro-step, K."""
        return self.config.steps

    @property
    def macro_dim(self) -> int:
        """Entries of a macro-action, Z."""
        return self.config.macro_dim

    def macro_actions(self, actions: Tensor) -> Tensor:
        """(B, T, A) standardised model actions -> (B, M, Z), the means; what is left is dropped."""
        count = actions.shape[1] // self.steps
        chunks = actions[:, : count * self.steps].unflatten(1, (count, self.steps)).flatten(2)
        mean: Tensor = self.action_encoder(chunks)[0]
        return mean

    def own_state(self) -> dict[str, Tensor]:
        """The weights that are not the base model's."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith(_SHARED)}


def save_upper(upper: UpperModel, directory: Path) -> dict[str, Any]:
    """Write the file into a checkpoint directory; what the card says of it.

    Raises:
        WriteError: it cannot be written.
    """
    weights = {name: value.contiguous().cpu() for name, value in upper.own_state().items()}
    write_bytes(directory / UPPER, save(weights))
    sha256 = file_sha256(directory / UPPER)
    return {"sha256": sha256, "model": to_dict(upper.config), "info": upper.info}


def load_upper(directory: Path, card: dict[str, Any], base: WorldModel) -> UpperModel | None:
    """The upper model of a checkpoint; None where it has none.

    Args:
        directory: of the checkpoint.
        card: of the checkpoint.
        base: its model.

    Raises:
        CheckpointError: it is damaged, or does not fit the card or the model.
    """
    told = card.get("upper")
    if told is None:
        return None
    file = directory / UPPER
    check_whole(file, str(told["sha256"]))
    try:
        upper = UpperModel(from_dict(UpperConfig, told["model"], "upper"), base)
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{directory / CARD}: upper: {error}") from error
    try:
        weights = load_file(file)
        missing, unknown = upper.load_state_dict(weights, strict=False)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{file}: does not fit {CARD}: {error}") from error
    wrong = [*unknown, *(name for name in missing if not name.startswith(_SHARED))]
    if wrong:
        raise CheckpointError(f"{file}: does not fit {CARD}: weights '{wrong[0]}'")
    upper.info = dict(told.get("info", {}))
    return upper


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over macro-actions of the divergence of their Gaussians from N(0, I), nats."""
    each = mean.square() + log_variance.exp() - 1 - log_variance
    return 0.5 * each.sum(dim=-1).mean()


def sampled(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A draw from each Gaussian, by torch's global generator."""
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
