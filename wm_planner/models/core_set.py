"""The core set: a few latents of the training data, which travel with the checkpoint.

Training data are large and stay where they were recorded. Whoever trains a checkpoint further
replays the core set beside the new recordings, so that what the model knew is not forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from wm_planner.errors import CheckpointError
from wm_planner.files import write_bytes
from wm_planner.models.catalog import check_whole, file_sha256

CORE = "core.safetensors"
MOST_BYTES = 2_000_000
_AXES = {"visual": 4, "proprio": 3, "actions": 3}


@dataclass(frozen=True)
class CoreSet:
    """N stretches of T model steps, as the checkpoint's encoder sees them.

    Attributes:
        visual: (N, T + 1, P, Dv) float16 tokens.
        proprio: (N, T + 1, p) float32, standardised.
        actions: (N, T, A) float32, standardised.
    """

    visual: Tensor
    proprio: Tensor
    actions: Tensor

    def __post_init__(self) -> None:
        for name, axes in _AXES.items():
            value = getattr(self, name)
            if value.ndim != axes or not bool(value.isfinite().all()):
                raise ValueError(f"{name} must be finite and have {axes} axes")
        frames = {self.visual.shape[:2], self.proprio.shape[:2]}
        count, steps = self.actions.shape[:2]
        if frames != {(count, steps + 1)} or not count or not steps:
            raise ValueError("visual, proprio and actions must be of the same stretches")


def save_core_set(core: CoreSet, directory: Path) -> dict[str, Any]:
    """Write the file into a checkpoint directory; what the card says of it.

    Raises:
        WriteError: it cannot be written.
    """
    tensors = {name: getattr(core, name).contiguous() for name in _AXES}
    tensors["visual"] = tensors["visual"].to(torch.float16)
    write_bytes(directory / CORE, save(tensors))
    count, steps = core.actions.shape[:2]
    return {"sha256": file_sha256(directory / CORE), "stretches": count, "steps": steps}


def load_core_set(directory: Path, card: dict[str, Any]) -> CoreSet | None:
    """The core set of a checkpoint; None where it has none, as those of before.

    Raises:
        CheckpointError: it is damaged, or is not of this checkpoint's model.
    """
    told = card.get("core_set")
    if told is None:
        return None
    file = directory / CORE
    check_whole(file, str(told["sha256"]))
    try:
        core = CoreSet(**load_file(file))
    except (TypeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{file}: holds no core set: {error}") from error
    model = card["model"]
    wanted = [model[key] for key in ("num_patches", "visual_dim", "proprio_dim", "action_dim")]
    got = [*core.visual.shape[2:], core.proprio.shape[2], core.actions.shape[2]]
    if wanted != got:
        raise CheckpointError(
            f"{file}: patches, visual, proprio and action sizes are {got}, the model's {wanted}"
        )
    return core
