"""The published encoder: DINOv2 patch tokens, frozen.

Its weights are not part of this package. They are downloaded, or read from a local file under the
names of the official release or of Hugging Face, whichever the file has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from wm_planner.config import suggest
from wm_planner.errors import CheckpointError
from wm_planner.models.dinov2_weights import official_weights
from wm_planner.models.encoder import Encoder

PATCH = 14  # pixels
DECODER_UPSAMPLING = 16  # image pixels per token: the published decoder draws 16 for every 14
POSITION_OFFSET = 0.1  # patches; the official code adds it before it resizes the table
VARIANTS = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16)}

_TABLE = "embeddings.position_embeddings"
# Names of the official release, then older names of Hugging Face -> newer names of Hugging Face.
_RENAMES = (
    (r"^(cls_token|mask_token)$", r"embeddings.\1"),
    (r"^pos_embed$", _TABLE),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.attention\.attention\.(q|k|v)[a-z]+\.", r".attention.\1_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
)
_OLDER = {
    ".attention.q_proj.": ".attention.attention.query.",
    ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.",
    ".attention.o_proj.": ".attention.output.dense.",
}


class DinoV2Encoder(Encoder):
    """(B, 3, S, S) -> (B, P, Dv): normalised patch tokens of a DINOv2 without registers.

    `load_state_dict` takes the names of the official release (also below 'base_model.'), of
    Hugging Face, and its own; a position table of another size is resized.

    Args:
        image_size: side S of the square input, pixels; P = (S // 16) squared.
        variant: 's', 'b' or 'l', or sizes (dim, depth, heads).
        weights: local .pth or .safetensors file; 'official' for those of the release, downloaded
            once; None leaves random weights, for a checkpoint that brings its own.

    Raises:
        ValueError: unknown variant, or an image without a single patch.
        CheckpointError: the file is missing, cannot be had or read, or is of another variant.
    """

    recipe_keys = ("variant", "weights")

    def __init__(
        self,
        image_size: int,
        variant: str | Sequence[int] = "s",
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        side = image_size // DECODER_UPSAMPLING
        if side < 1:
            raise ValueError(f"image_size must be at least {DECODER_UPSAMPLING}, got {image_size}")
        if isinstance(variant, str) and variant not in VARIANTS:
            raise ValueError(f"unknown DINOv2 variant '{variant}'.{suggest(variant, VARIANTS)}")
        sizes = VARIANTS[variant] if isinstance(variant, str) else variant
        if len(sizes) != 3:
            raise ValueError(f"DINOv2 sizes must be (dim, depth, heads), got {tuple(sizes)}")
        dim, depth, heads = sizes
        self.image_size, self.num_patches, self.dim = image_size, side * side, dim
        self._inner_size = side * PATCH
        self.backbone = Dinov2Model(
            Dinov2Config(
                hidden_size=dim,
                num_hidden_layers=depth,
                num_attention_heads=heads,
                image_size=self._inner_size,
                patch_size=PATCH,
                layer_norm_eps=1e-6,
            )
        )
        self.register_load_state_dict_pre_hook(_accept_every_layout)  # type: ignore[no-untyped-call]
        if weights is not None:
            file = official_weights(variant) if weights == "official" else Path(weights)
            state = _read(file, variant)
            try:
                self.load_state_dict(state)
            except RuntimeError as error:
                raise CheckpointError(
                    f"{file}: is no DINOv2 without registers of variant {variant!r}: {error}"
                ) from error
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, P, Dv)."""
        size = (self._inner_size, self._inner_size)
        images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        result: Tensor = self.backbone(images).last_hidden_state[:, 1:]
        return result


def _read(file: Path, variant: str | Sequence[int]) -> dict[str, Any]:
    if not file.is_file():
        name = f"dinov2_vit{variant}14" if isinstance(variant, str) else "dinov2_vits14"
        raise CheckpointError(
            f"{file}: no such file. The DINOv2 weights do not come with this package: say "
            f"weights: official to download them, or get {name}_pretrain.pth from "
            f"https://dl.fbaipublicfiles.com/dinov2/{name}/ and save it there"
        )
    if file.suffix not in (".pth", ".safetensors"):
        raise CheckpointError(
            f"{file}: unknown ending '{file.suffix}'; choices: .pth, .safetensors"
        )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever damaged bytes lead it to
        said = str(error).partition("\n")[0]
        raise CheckpointError(f"{file}: cannot be read: {said}") from error
    if isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values()):
        return state
    raise CheckpointError(f"{file}: holds no mapping of names to tensors")


def _accept_every_layout(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Rename, in place, what lies below `prefix` to the names of `module`."""
    assert isinstance(module, DinoV2Encoder)
    given = {name: state.pop(name) for name in list(state) if name.startswith(prefix)}
    named: dict[str, Tensor] = {}
    for name, value in given.items():
        name = re.sub(r"^(backbone|base_model)\.", "", name.removeprefix(prefix))
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        if ".attn.qkv." in name:  # one matrix in the official release
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                named[name.replace(".attn.qkv.", f".attention.{part}_proj.")] = piece
        else:
            named[name] = value
    if _TABLE in named:
        named[_TABLE] = _resize_table(named[_TABLE], math.isqrt(module.num_patches))
    # Checkpoints outlive versions of transformers, which have renamed the attention's parts.
    older = any(".attention.attention." in name for name in module.backbone.state_dict())
    for name, value in named.items():
        for new, old in _OLDER.items() if older else ():
            name = name.replace(new, old)
        state[f"{prefix}backbone.{name}"] = value


def _resize_table(table: Tensor, side: int) -> Tensor:
    """(1, 1 + M * M, D) positions -> (1, 1 + side * side, D), as the official code does."""
    trained = math.isqrt(table.shape[1] - 1)
    if trained == side:
        return table
    scale = (side + POSITION_OFFSET) / trained
    grid = table[:, 1:].unflatten(1, (trained, trained)).permute(0, 3, 1, 2)
    # By scale, not by size: the offset then shifts where the table is sampled.
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
