"""The core set: a little of the training data, which travels with the checkpoint.

Training data are large and stay where they were recorded. Whoever trains a checkpoint further
replays the latents of the core set beside the new recordings, so that what the model knew is not
forgotten. The mean picture shows how the cameras stood.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
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
MOST_BYTES = 2_000_000  # of the latents; the mean picture takes 0.1 to 0.4 MB of each camera
_AXES = {"visual": 4, "proprio": 3, "actions": 3}


@dataclass(frozen=True)
class Shown:
    """What the training pictures showed, pixel by pixel: (3, S, C * S) each, in [-1, 1].

    Attributes:
        mean, deviation: float16, see `PixelStandard`.
        lowest, highest: float16; a colour beyond them was never seen there.
    """

    mean: Tensor
    deviation: Tensor
    lowest: Tensor
    highest: Tensor

    def __post_init__(self) -> None:
        values = [getattr(self, field.name) for field in fields(self)]
        if len({value.shape for value in values}) != 1 or values[0].ndim != 3:
            raise ValueError("what the training pictures showed must be of the same pictures")
        if not all(bool(value.isfinite().all()) for value in values):
            raise ValueError("what the training pictures showed must be finite")
        if not bool((self.deviation > 0).all()):
            raise ValueError("the deviation of the training pictures must be positive")

    def standard(self) -> PixelStandard:
        """Pixels in units of their deviations; the cameras' pictures are square."""
        known = PixelStandard(self.mean.shape[1], self.mean.shape[2] // self.mean.shape[1])
        known.mean.copy_(self.mean)
        known.deviation.copy_(self.deviation)
        return known


@dataclass(frozen=True)
class CoreSet:
    """N stretches of T model steps, as the checkpoint's encoder sees them.

    Attributes:
        visual: (N, T + 1, P, Dv) float16 tokens.
        proprio: (N, T + 1, p) float32, standardised.
        actions: (N, T, A) float32, standardised.
        shown: what all training pictures showed; None: nothing is known of them.
    """

    visual: Tensor
    proprio: Tensor
    actions: Tensor
    shown: Shown | None = None

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
    if core.shown is not None:
        tensors |= {name: value.half().contiguous() for name, value in vars(core.shown).items()}
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
        tensors = load_file(file)
        pictures = {f.name: tensors.pop(f.name) for f in fields(Shown) if f.name in tensors}
        core = CoreSet(**tensors, shown=Shown(**pictures) if pictures else None)
    except (TypeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{file}: holds no core set: {error}") from error
    model = card["model"]
    wanted = [model[key] for key in ("num_patches", "visual_dim", "proprio_dim", "action_dim")]
    got = [*core.visual.shape[2:], core.proprio.shape[2], core.actions.shape[2]]
    if wanted != got:
        raise CheckpointError(
            f"{file}: patches, visual, proprio and action sizes are {got}, the model's {wanted}"
        )
    side, cameras = int(model["image_size"]), len(card["embodiment"]["cameras"])
    if core.shown is not None and core.shown.mean.shape != (3, side, cameras * side):
        raise CheckpointError(
            f"{file}: the mean picture is {tuple(core.shown.mean.shape)}, the model's {cameras} "
            f"cameras have {side} pixels"
        )
    return core
