"""Sizes of a released checkpoint: from its tensors, held against its ``hydra.yaml``."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from wm_planner.errors import CheckpointError
from wm_planner.models.dinov2 import DECODER_UPSAMPLING, VARIANTS
from wm_planner.models.pickled_modules import PickledFile, PickledModule
from wm_planner.models.predictor import PredictorConfig
from wm_planner.models.vqvae import VQVAE
from wm_planner.models.world_model import ModelConfig
from wm_planner.tasks import Task
from wm_planner.torch_file import StoredTensor

Variant = str | tuple[int, int, int]  # as `DinoV2Encoder` takes it
_BLOCK = "transformer.layers.0."


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """Value under a dotted key; None where there is none."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def infer_sizes(
    pickled: PickledFile,
    parts: Mapping[str, PickledModule],
    weights: Mapping[str, Mapping[str, Tensor]],
    config: Mapping[str, Any],
    variant: Variant | None,
) -> ModelConfig:
    """Sizes of the model; the configuration fills in only what no tensor tells.

    Args:
        pickled: the file.
        parts: its modules; the attention mask's first row tells patches from frames.
        weights: their tensors, by part and name.
        config: contents of ``hydra.yaml``; may be empty.
        variant: of the encoder; None takes that of the checkpoint, of the configuration, or the
            one that has the token size.

    Raises:
        CheckpointError: a tensor is missing or of an impossible shape, or nothing tells a size.
    """
    shapes = {name: _Shapes(f"{pickled.file}: {name}", weights[name]) for name in weights}
    predictor, settings = shapes["predictor"], parts["predictor"].settings
    rows, token_dim = predictor("pos_embedding", 3)[1:]
    action_emb_dim, action_dim = shapes["action_encoder"]("patch_embed.weight", 3)[:2]
    proprio_emb_dim, proprio_dim = shapes["proprio_encoder"]("patch_embed.weight", 3)[:2]
    heads = settings.get(f"{_BLOCK}0.heads", value_at(config, "predictor.heads"))
    inner = predictor(f"{_BLOCK}0.to_qkv.weight", 2)[0] // 3
    if not isinstance(heads, int) or heads < 1 or inner % heads:
        raise CheckpointError(f"{pickled.file}: predictor: {inner} channels on {heads} heads")
    dropout = settings.get(f"{_BLOCK}1.net.3.p")
    num_patches = _num_patches(pickled, parts["predictor"], rows, config)
    visual_dim = token_dim - action_emb_dim - proprio_emb_dim
    image_size = value_at(config, "img_size")
    if image_size is None:
        image_size = DECODER_UPSAMPLING * math.isqrt(num_patches)
    return ModelConfig(
        image_size=image_size,
        num_hist=rows // num_patches,
        num_patches=num_patches,
        visual_dim=visual_dim,
        action_dim=action_dim,
        proprio_dim=proprio_dim,
        action_emb_dim=action_emb_dim,
        proprio_emb_dim=proprio_emb_dim,
        predictor=PredictorConfig(
            depth=_count(weights["predictor"], r"transformer\.layers\.\d+\.0\.to_qkv\.weight"),
            heads=heads,
            dim_head=inner // heads,
            mlp_dim=predictor(f"{_BLOCK}1.net.1.weight", 2)[0],
            dropout=dropout if isinstance(dropout, float) else PredictorConfig.dropout,
        ),
        encoder={
            "kind": "dinov2",
            "variant": variant or _variant(pickled.file, parts, config, visual_dim),
        },
        decoder=_decoder_kind(parts, weights, shapes),
    )


def check_config(config: Mapping[str, Any], sizes: ModelConfig, task: Task, source: str) -> None:
    """Hold what the configuration says against the tensors, the task and what is supported.

    Raises:
        CheckpointError: names the key, its value and the expected one.
    """
    expected = {
        "num_hist": sizes.num_hist,
        "num_pred": 1,
        "concat_dim": 1,
        "num_action_repeat": 1,
        "num_proprio_repeat": 1,
        "action_emb_dim": sizes.action_emb_dim,
        "proprio_emb_dim": sizes.proprio_emb_dim,
        "frameskip": task.embodiment.frame_skip,
        "predictor.depth": sizes.predictor.depth,
        "predictor.heads": sizes.predictor.heads,
        "predictor.mlp_dim": sizes.predictor.mlp_dim,
        "encoder.feature_key": "x_norm_patchtokens",
    }
    for key, value in expected.items():
        given = value_at(config, key)
        if given not in (None, value):
            raise CheckpointError(
                f"{source}: {key} is {given!r}; the tensors, the task '{task.name}' or what this "
                f"package supports make it {value!r}. Is it the configuration of this checkpoint?"
            )
    target = value_at(config, "encoder._target_")
    if target is not None and "dino" not in str(target).lower():
        raise CheckpointError(f"{source}: encoder._target_ is {target!r}; only DINOv2 is read")
    side = sizes.image_size // DECODER_UPSAMPLING if isinstance(sizes.image_size, int) else 0
    if side**2 != sizes.num_patches:
        raise CheckpointError(
            f"{source}: img_size is {sizes.image_size!r}; {sizes.num_patches} patches need "
            f"{DECODER_UPSAMPLING} pixels each"
        )
    variant = sizes.encoder["variant"]
    dim = VARIANTS.get(variant, (None,))[0] if isinstance(variant, str) else variant[0]
    if dim not in (None, sizes.visual_dim):
        raise CheckpointError(
            f"{source}: DINOv2 {variant} gives tokens of {dim} entries, the predictor takes "
            f"{sizes.visual_dim}; give another --encoder-variant"
        )
    actual = (sizes.action_dim, sizes.proprio_dim)
    wanted = (
        task.embodiment.action.size * task.embodiment.frame_skip,
        len(task.embodiment.proprio),
    )
    if actual != wanted:
        raise CheckpointError(
            f"{source}: the model takes actions and proprioception of {actual} entries, task "
            f"'{task.name}' has {wanted}; choose another --task"
        )


class _Shapes:
    """Shapes of a part's tensors, checked."""

    def __init__(self, where: str, tensors: Mapping[str, Tensor]) -> None:
        self._where, self._tensors = where, tensors

    def __call__(self, name: str, ndim: int) -> tuple[int, ...]:
        if name not in self._tensors:
            raise CheckpointError(f"{self._where}: tensor '{name}' is missing")
        shape = tuple(self._tensors[name].shape)
        if len(shape) != ndim or 0 in shape:
            raise CheckpointError(f"{self._where}: tensor '{name}' has shape {shape}")
        return shape


def _num_patches(
    pickled: PickledFile, predictor: PickledModule, rows: int, config: Mapping[str, Any]
) -> int:
    """Tokens that the first one may attend to: those of its own frame."""
    name = f"{_BLOCK}0.bias"  # a buffer, in the older release a plain attribute
    mask = predictor.tensors.get(name, predictor.settings.get(name))
    frames = value_at(config, "num_hist")
    if isinstance(mask, StoredTensor):
        first_row = pickled.read({name: mask})[name].flatten()[:rows]
        patches = int(first_row.count_nonzero())
    elif isinstance(frames, int) and frames > 0:
        patches = rows // frames
    else:
        raise CheckpointError(
            f"{pickled.file}: holds no attention mask, so its hydra.yaml must tell num_hist; give "
            "--config"
        )
    if not patches or rows % patches:
        raise CheckpointError(f"{pickled.file}: {rows} positions for frames of {patches} patches")
    return patches


def _variant(
    file: Path, parts: Mapping[str, PickledModule], config: Mapping[str, Any], dim: int
) -> Variant:
    named = re.fullmatch(r"dinov2_vit([a-z])14", str(value_at(config, "encoder.name")))
    if "encoder" in parts:
        depth = _count(parts["encoder"].tensors, r"base_model\.blocks\.\d+\.norm1\.weight")
        heads = parts["encoder"].settings.get("base_model.num_heads")
        if isinstance(heads, int) and heads > 0:
            return (dim, depth, heads)
    elif named and named[1] in VARIANTS:
        return named[1]
    for name, official in VARIANTS.items():
        if official[0] == dim:
            return name
    raise CheckpointError(
        f"{file}: no DINOv2 has tokens of {dim} entries; give --encoder-variant s, b, l or "
        "DIM,DEPTH,HEADS"
    )


def _decoder_kind(
    parts: Mapping[str, PickledModule],
    weights: Mapping[str, Mapping[str, Tensor]],
    shapes: Mapping[str, _Shapes],
) -> str:
    """Decoder kind of `build_decoder`; 'none' when there is none of the published kind."""
    names = weights.get("decoder", {})
    if "upsample_b.blocks.0.weight" not in names:
        return "none"
    shape, quantize = shapes["decoder"], parts["decoder"].settings.get("quantize")
    sizes = {
        "channels": shape("upsample_b.blocks.0.weight", 4)[0],
        "num_blocks": _count(names, r"upsample_b\.blocks\.\d+\.conv\.1\.weight"),
        "block_channels": shape("upsample_b.blocks.1.conv.1.weight", 4)[0],
        "num_codes": shape("quantize_b.embed", 2)[1] if quantize else 0,
    }
    usual = inspect.signature(VQVAE).parameters
    changed = [f"{key}={size}" for key, size in sizes.items() if size != usual[key].default]
    return ":".join(["vqvae", *([",".join(changed)] if changed else [])])


def _count(names: Iterable[str], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in names)
