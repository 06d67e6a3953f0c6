"""What an encoder is, and where encoders are found: each is an entry point.

An encoder of another package is a class like ours, under a name in the group
'wm_planner.encoders'. A checkpoint's card holds that name and the settings that it is built from.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from wm_planner.errors import ConfigError
from wm_planner.registry import Registry


class Encoder(nn.Module):
    """(B, 3, S, S) in [-1, 1] -> (B, P, Dv); used as it comes, frozen.

    Built as ``cls(image_size, **settings)``; the settings are JSON. One called 'weights' says where
    weights are read from: a checkpoint leaves it out, for it has the weights.

    Attributes:
        image_size: side S of each camera's square picture, pixels.
        num_patches, dim: P and Dv.
        recipe_keys: keys of a recipe's `encoder` that are settings of this class; others stand
            below `encoder.settings`.
        needs_base: it looks through another encoder, and no recipe names it.
        decoder: kind of the decoder that is trained with it; 'none' where nothing is trained.
    """

    image_size: int
    num_patches: int
    dim: int
    recipe_keys: ClassVar[tuple[str, ...]] = ()
    needs_base: ClassVar[bool] = False
    decoder: ClassVar[str] = "none"

    @classmethod
    def build(cls, image_size: int, num_patches: int, dim: int, **settings: Any) -> Encoder:
        """Fresh, of a card's sizes and settings.

        Raises:
            ValueError: sizes that it cannot have.
        """
        return cls(image_size, **settings)


class StandardTokens(nn.Module):
    """Statistics that are set once after training: of an encoder's tokens before they leave it.

    They leave with zero mean and unit overall variance. The decoder has the same two buffers.
    """

    token_mean: Tensor
    token_std: Tensor

    def __init__(self, num_patches: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("token_mean", torch.zeros(num_patches, dim))
        self.register_buffer("token_std", torch.ones(()))

    def standardised(self, tokens: Tensor) -> Tensor:
        """(..., P, Dv) as they leave the encoder."""
        return (tokens - self.token_mean) / self.token_std

    @torch.no_grad()
    def measure_tokens(self, tokens: Tensor) -> None:
        """Set the statistics to those of (N, P, Dv) tokens."""
        mean = tokens.mean(dim=0)
        self.token_mean.copy_(mean)
        self.token_std.copy_((tokens - mean).std())

    def restored(self, tokens: Tensor) -> Tensor:
        """(..., P, Dv) as they were before `standardised`."""
        return tokens * self.token_std + self.token_mean


class TrainedEncoder(Encoder, StandardTokens):
    """An encoder that 'wm-planner train encoder' trains, of the sizes that a recipe names.

    Built as ``cls(image_size, num_patches, dim, **settings)``; `forward` ends with `standardised`.
    """

    decoder = "small"

    def __init__(self, image_size: int, num_patches: int, dim: int) -> None:
        super().__init__(num_patches, dim)
        self.image_size, self.num_patches, self.dim = image_size, num_patches, dim

    @classmethod
    def build(cls, image_size: int, num_patches: int, dim: int, **settings: Any) -> Encoder:
        """See `Encoder.build`."""
        return cls(image_size, num_patches, dim, **settings)


# What torch and our own checks say of settings and sizes that a network cannot have.
UNBUILT = (TypeError, KeyError, ValueError, RuntimeError, ArithmeticError, MemoryError)


def _complaint(_name: str, found: object) -> str:
    if isinstance(found, type) and issubclass(found, Encoder):
        return ""
    return f"must be a class derived from wm_planner.models.encoder.Encoder, got {found!r}"


ENCODERS: Registry[type[Encoder]] = Registry("wm_planner.encoders", "encoder", _complaint)


def comes_trained(kind: str) -> bool:
    """Whether encoders of that kind are used as they are, instead of trained first.

    Raises:
        ConfigError: none is installed.
    """
    return not issubclass(ENCODERS[kind], TrainedEncoder)


def build_encoder(settings: dict[str, Any], image_size: int, num_patches: int, dim: int) -> Encoder:
    """The encoder that `settings['kind']` names, built from the other settings.

    Args:
        settings: of a card's `model.encoder`.
        image_size: side of each camera's picture, pixels.
        num_patches, dim: P and Dv; an encoder that comes as it is has its own.

    Raises:
        ConfigError: no such encoder is installed, or it takes no such setting, or cannot have
            such sizes.
    """
    settings = dict(settings)
    kind = settings.pop("kind", None)
    encoder = ENCODERS[kind]
    try:
        return encoder.build(image_size, num_patches, dim, **settings)
    except UNBUILT as error:
        sizes = f"pictures of {image_size} pixels, {num_patches} tokens of {dim} entries"
        raise ConfigError(
            f"encoder '{kind}' cannot be built of {settings} for {sizes}: {error}"
        ) from error
