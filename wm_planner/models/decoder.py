"""What a decoder is, and where decoders are found: each is an entry point.

It only draws what the model imagines; nothing is planned with it. A checkpoint's card names it, as
a word or with whole numbers behind it: 'vqvae:channels=32,num_blocks=1'.
"""

from __future__ import annotations

from torch import nn

from wm_planner.errors import ConfigError
from wm_planner.models.encoder import UNBUILT
from wm_planner.registry import Registry


class Decoder(nn.Module):
    """(B, P, Dv) -> (B, 3, S, S) in about [-1, 1].

    Built as ``cls(image_size, num_patches, dim, **settings)``. One that is trained with an encoder
    derives from `StandardTokens` too, and begins with `restored`.
    """

    @classmethod
    def build(cls, text: str, image_size: int, num_patches: int, dim: int) -> Decoder | None:
        """Of a card's sizes, and of what stands behind its name there.

        Raises:
            ValueError: settings or sizes that it cannot have.
        """
        pairs = (item.split("=") for item in text.split(",") if item)
        return cls(image_size, num_patches, dim, **{key: int(value) for key, value in pairs})


def _complaint(_name: str, found: object) -> str:
    if isinstance(found, type) and issubclass(found, Decoder):
        return ""
    return f"must be a class derived from wm_planner.models.decoder.Decoder, got {found!r}"


DECODERS: Registry[type[Decoder]] = Registry("wm_planner.decoders", "decoder", _complaint)


def build_decoder(kind: str, image_size: int, num_patches: int, dim: int) -> Decoder | None:
    """The decoder of that kind: a name, or 'NAME:settings'; 'none' is None.

    Raises:
        ConfigError: no such decoder is installed, or it takes no such setting, or cannot have
            such sizes.
    """
    if kind == "none":
        return None
    name, _, text = kind.partition(":")
    try:
        return DECODERS[name].build(text, image_size, num_patches, dim)
    except UNBUILT as error:
        sizes = f"pictures of {image_size} pixels, {num_patches} tokens of {dim} entries"
        raise ConfigError(f"decoder '{kind}' cannot be built for {sizes}: {error}") from error
