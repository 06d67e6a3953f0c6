"""The core set: a little of the training data, which travels with the checkpoint.

Training data are large and stay where they were recorded. Whoever trains a checkpoint further
replays the latents of the core set beside the new recordings, so that what the model knew is not
forgotten. The mean picture shows how the cameras stood.
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
from wm_planner.models.pixels import PixelStandard

CORE = "core.safetensors"
MOST_BYTES = 2_000_000  # of the latents
_AXES = {"visual": 4, "proprio": 3, "actions": 3}
_PICTURES = ("mean", "deviation")


@dataclass(frozen=True)
class CoreSet:
    """N stretches of T model steps, as the checkpoint's encoder sees them.

    Attributes:
        visual: (N, T + 1, P, Dv) float16 tokens.
        proprio: (N, T + 1, p) float32, standardised.
        actions: (N, T, A) float32, standardised.
        mean, deviation: (3, S, C * S) float16, of the training pictures (see `PixelStandard`);
            None: nothing is known of them.
    """

    visual: Tensor
    proprio: Tensor
    actions: Tensor
    mean: Tensor | None = None
    deviation: Tensor | None = None

    def __post_init__(self) -> None:
        for name, axes in _AXES.items():
            value = getattr(self, name)
            if value.ndim != axes or not bool(value.isfinite().all()):
                raise ValueError(f"{name} must be finite and have {axes} axes")
        frames = {self.visual.shape[:2], self.proprio.shape[:2]}
        count, steps = self.actions.shape[:2]
        if frames != {(count, steps + 1)} or not count or not steps:
            raise ValueError("visual, proprio and actions must be of the same stretches")
        if self.mean is None or self.deviation is None:
            if self.mean is not self.deviation:
                raise ValueError("mean and deviation must be there both")
        elif self.mean.shape != self.deviation.shape or not bool(
            (self.mean.isfinite() & (self.deviation > 0) & self.deviation.isfinite()).all()
        ):
            raise ValueError("mean and deviation must be finite, positive and of the same pictures")

    def reference(self, cameras: int) -> PixelStandard | None:
        """The training pictures of so many cameras; None where nothing is known of them."""
        if self.mean is None or self.deviation is None:
            return None
        known = PixelStandard(self.mean.shape[1], cameras)
        known.mean.copy_(self.mean)
        known.deviation.copy_(self.deviation)
        return known


def save_core_set(core: CoreSet, directory: Path) -> dict[str, Any]:
    """Write the file into a checkpoint directory; what the card says of it.

    Raises:
        WriteError: it cannot be written.
    """
    tensors = {name: getattr(core, name).contiguous() for name in _AXES}
    tensors["visual"] = tensors["visual"].to(torch.float16)
    if core.mean is not None and core.deviation is not None:
        tensors |= {name: getattr(core, name).half().contiguous() for name in _PICTURES}
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
    side = int(model["image_size"])
    if core.mean is not None and core.mean.shape[:2] != (3, side):
        raise CheckpointError(
            f"{file}: the mean picture is {tuple(core.mean.shape)}, the model's pictures have "
            f"{side} pixels"
        )
    return core
