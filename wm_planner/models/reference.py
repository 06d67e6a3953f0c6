"""Released DINO-WM and robust-world-model checkpoints, turned into ours.

A released checkpoint is one ``.pth`` of whole pickled modules and the ``hydra.yaml`` of its
training. Sizes are taken from the tensors; what the configuration says otherwise is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wm_planner.errors import CheckpointError
from wm_planner.models.bundle import Bundle
from wm_planner.models.catalog import file_sha256
from wm_planner.models.decoder import build_decoder
from wm_planner.models.dinov2 import DinoV2Encoder
from wm_planner.models.pickled_modules import PickledFile, PickledModule
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.reference_sizes import Variant, check_config, infer_sizes, value_at
from wm_planner.models.world_model import ModelConfig, WorldModel
from wm_planner.tasks import Task, get_task, resized, task_names

_NEEDED = ("predictor", "action_encoder", "proprio_encoder")
_USED = (*_NEEDED, "encoder", "decoder")
_MASK = re.compile(r"transformer\.layers\.\d+\.0\.bias")
# Of the published planning objective what differs from the usual, by task.
_PLANNER = {"point_maze": {"objective_alpha": 0.0}}
_CODEBOOK = re.compile(r"quantize_b\..*")


@dataclass
class Report:
    """What became of a released checkpoint.

    Attributes:
        mapped: number of parameters by part.
        dropped: what was in the file and is not needed, with the reason.
        missing: what was not in the file, and what stands in for it.
        inert: every name that the file asks to call; none was.
    """

    mapped: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    inert: list[str] = field(default_factory=list)


def locate(path: Path) -> Path:
    """The ``.pth`` at a path: itself, or of a run's directory the latest one.

    Raises:
        CheckpointError: nothing lies there.
    """
    if not path.is_dir():
        return path
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    latest = folder / "model_latest.pth"
    if latest.is_file():
        return latest
    numbered = [(re.fullmatch(r"model_(\d+)\.pth", p.name), p) for p in folder.iterdir()]
    found = [(int(match[1]), p) for match, p in numbered if match]
    if not found:
        raise CheckpointError(f"{folder}: holds neither model_latest.pth nor model_<epoch>.pth")
    return max(found)[1]


def find_config(file: Path) -> Path | None:
    """``hydra.yaml`` beside the file or one level above, as released; None without one."""
    candidates = [folder / "hydra.yaml" for folder in file.absolute().parents[:2]]
    return next((path for path in candidates if path.is_file()), None)


def find_task(config: Mapping[str, Any], name: str | None, source: str) -> Task:
    """The task that is named, or that the configuration was for.

    Raises:
        CheckpointError: neither says, they contradict each other, or it is none of ours.
        TaskError: an unknown name.
    """
    environment = value_at(config, "env.name")  # the same names as ours
    if environment is None:
        if name is None:
            raise CheckpointError(f"{source}: no key env.name, so give --task")
        return get_task(name)
    if environment not in task_names():
        raise CheckpointError(
            f"{source}: env.name is {environment!r}; the tasks are {', '.join(task_names())}"
        )
    if name not in (None, environment):
        raise CheckpointError(f"{source}: env.name is {environment!r}, not --task {name!r}")
    return get_task(environment)


def import_released(
    file: Path,
    task: Task,
    statistics: Mapping[str, tuple[float, ...]],
    config: Mapping[str, Any],
    source: str = "hydra.yaml",
    encoder: Path | str = "official",
    variant: Variant | None = None,
) -> tuple[Bundle, Report]:
    """Read a released checkpoint without executing anything in it.

    Args:
        file: the ``.pth``.
        task: that it was trained for.
        statistics: action_mean, action_std, proprio_mean and proprio_std, physical units.
        config: contents of its ``hydra.yaml``; empty without one.
        source: names the configuration in errors.
        encoder: weights of the encoder, as `DinoV2Encoder` takes them, for a checkpoint that does
            not bring its own; the released ones do not.
        variant: of the encoder; None takes it from the checkpoint, the configuration or the size
            of a token.

    Returns:
        The checkpoint, in evaluation mode, and what was mapped, dropped and missing.

    Raises:
        CheckpointError: damaged, a part is missing or of another kind, or sizes contradict each
            other, the configuration, the statistics or the task.
    """
    pickled = PickledFile(file)
    parts = {name: m for name, m in pickled.entries.items() if isinstance(m, PickledModule)}
    for name in _NEEDED:
        if name not in parts:
            found = ", ".join(map(str, pickled.entries)) or "nothing"
            raise CheckpointError(f"{file}: no module '{name}'; the file holds {found}")
    weights = {name: pickled.read(parts[name].tensors) for name in _USED if name in parts}
    sizes = infer_sizes(pickled, parts, weights, config, variant)
    check_config(config, sizes, task, source)
    preprocess = _preprocess(sizes, task, statistics)
    report = Report(inert=pickled.origins)
    model = _build(file, weights, sizes, encoder, report)
    for name in pickled.entries:
        if name != "epoch" and name not in report.mapped:
            report.dropped.setdefault(str(name), "not needed to plan")
    epoch = pickled.entries.get("epoch")
    info = {
        "imported_from": file.name,
        "sha256": file_sha256(file),
        "epoch": epoch if isinstance(epoch, int) else None,
        "encoder": "imported" if "encoder" in parts else Path(encoder).name,
        "saved_in_training_mode": parts["predictor"].settings.get("training") is True,
    }
    body = resized(task.embodiment, sizes.image_size)
    planner = dict(_PLANNER.get(task.name, {}))
    return Bundle(model, preprocess, body, planner, info), report


def _preprocess(sizes: ModelConfig, task: Task, statistics: Mapping[str, Any]) -> Preprocess:
    try:
        preprocess = Preprocess(sizes.image_size, task.embodiment.frame_skip, **statistics)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"statistics: {error}") from error
    given = (preprocess.action_dim, len(preprocess.proprio_mean))
    if given != (sizes.action_dim, sizes.proprio_dim):
        raise CheckpointError(
            f"statistics are of {len(preprocess.action_mean)} action and {given[1]} "
            f"proprioception entries; the model takes {sizes.action_dim} "
            f"({task.embodiment.frame_skip} actions in a row) and {sizes.proprio_dim}"
        )
    return preprocess


def _build(
    file: Path,
    weights: Mapping[str, Mapping[str, Tensor]],
    sizes: ModelConfig,
    source: Path | str,
    report: Report,
) -> WorldModel:
    """The model with the weights of the file, and of `source` where it has no encoder."""
    own = "encoder" in weights
    try:
        encoder = DinoV2Encoder(sizes.image_size, sizes.encoder["variant"], None if own else source)
        decoder = build_decoder(
            sizes.decoder, sizes.image_size, sizes.num_patches, sizes.visual_dim
        )
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error
    model = WorldModel(sizes, encoder, decoder)
    for name in _USED:
        module = getattr(model, name)
        if name in weights and module is not None:
            _fill(module, name, file, weights[name], report)
    if not own:
        report.missing["encoder"] = f"DINOv2 weights: {source}"
    if decoder is None:
        report.missing["decoder"] = "none of the published kind; imagined frames are not drawn"
    return model


def _fill(
    module: nn.Module, name: str, file: Path, weights: Mapping[str, Tensor], report: Report
) -> None:
    """Load the tensors strictly; drop masks, and of a codebook what is of no use."""
    kept = {}
    for key, value in weights.items():
        if name == "predictor" and _MASK.fullmatch(key):
            report.dropped[f"{name}: attention masks"] = "not needed: frames attend one by one"
        elif name == "decoder" and _CODEBOOK.fullmatch(key) and key not in module.state_dict():
            report.dropped[f"{name}: codebook"] = "its training state, or quantisation is off"
        elif not torch.isfinite(value).all():
            raise CheckpointError(f"{file}: {name}: tensor '{key}' holds NaN or infinity")
        else:
            kept[key] = value
    try:
        module.load_state_dict(kept)
    except RuntimeError as error:
        raise CheckpointError(f"{file}: {name}: {error}") from error
    report.mapped[name] = sum(p.numel() for p in module.parameters())
