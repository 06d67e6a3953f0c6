"""Tiny models and numbers made with the published implementation (test/data/reference_*.npz)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_planner.models.dinov2 import DinoV2Encoder
from wm_planner.models.predictor import PredictorConfig
from wm_planner.models.world_model import ModelConfig, WorldModel

DATA = Path(__file__).parents[1] / "data"


def load_reference(path: Path) -> tuple[WorldModel, dict[str, Tensor], dict[str, Any]]:
    """Model with its encoder, arrays 'in/...' and 'out/...', and the sizes of the file."""
    with np.load(path) as file:
        config = json.loads(str(file["config"]))
        arrays = {name: torch.as_tensor(file[name]) for name in file.files if name != "config"}
    weights = {
        name.removeprefix("weights/"): arrays.pop(name)
        for name in list(arrays)
        if name.startswith("weights/")
    }
    num_patches = arrays["out/encode_visual"].shape[2]
    inner = len(weights["predictor.transformer.layers.0.0.to_qkv.weight"]) // 3
    predictor = PredictorConfig(
        depth=config["depth"],
        heads=config["heads"],
        dim_head=inner // config["heads"],
        mlp_dim=config["mlp"],
    )
    sizes = ModelConfig(
        image_size=config["image"],
        num_hist=config["num_hist"],
        num_patches=num_patches,
        visual_dim=config["enc_dim"],
        action_dim=config["action"] * config["frameskip"],
        proprio_dim=config["proprio"],
        predictor=predictor,
    )
    size = (config["enc_dim"], config["enc_depth"], config["enc_heads"])
    model = WorldModel(sizes, DinoV2Encoder(config["image"], size))
    kept = {
        name: value
        for name, value in weights.items()
        # The mask is rebuilt; it is the only four-dimensional entry of the predictor.
        if not (name.startswith("predictor") and value.ndim == 4)
    }
    model.load_state_dict(kept)
    return model.eval(), arrays, config
