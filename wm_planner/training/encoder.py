"""Self-supervised training of the small encoder.

The loss asks for pictures that can be drawn again (foreground-weighted reconstruction), for tokens
that change slowly in time (frames 1 to `max_gap` model steps apart agree), and against collapse
for a standard deviation of at least one and decorrelated entries (VICReg, arXiv 2105.04906,
section 4). Slowness makes latent distance rank true distance, which is what a planner descends.
Temporal straightening (arXiv 2603.12231) is an option: a weight on the curvature of the latent path
through three equally distant frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from wm_planner.config import Natural, Seed, Size, Weight, check_at_least, from_dict, to_dict
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import CheckpointError, ConfigError, DatasetError, raised_as
from wm_planner.files import read_json, write_bytes
from wm_planner.models.checkpoint import in_float16
from wm_planner.models.decoder import build_decoder
from wm_planner.models.encoder import ENCODERS, build_encoder, comes_trained
from wm_planner.models.keypoint_encoder import KeypointEncoder
from wm_planner.training.learner import Learner, Schedule
from wm_planner.training.loop import fit
from wm_planner.training.losses import covariance_penalty, curvature, std_hinge
from wm_planner.training.machine import Machine

_LEFT_OUT = {"standardise": False}  # of a card, where they are these
# Updates after which heat maps are no longer sharp, and at most this share of all.
SOFTENED, SOFTENED_SHARE = 400, 0.6
_MEASURED = 512  # frames that the pixels' statistics are of


@dataclass(frozen=True)
class EncoderTraining:
    """Settings of one encoder run; sizes in pixels, tokens and frames.

    `kind` is an encoder that is installed, for example 'small' (patch tokens), 'keypoint' (image
    coordinates), or 'dinov2' and 'pretrained', which are used as they are: `weights` is for these,
    `variant` for the first (see `DinoV2Encoder`, `PretrainedEncoder`), `depth` is for 'small'.
    `settings` are of an encoder for which no key stands here. `curvature_weight` above 0
    straightens latent paths.

    `standardise` looks at pictures standardised per pixel and draws those again (`PixelStandard`;
    'keypoint' only, as the next is): no colour and no weight has to be chosen for a scene.
    `first_sharpness` is that of the heat maps at the first update; it falls to 1.
    `proprio_weight` above 0 asks that the proprioception can be read from the latent, linearly:
    the robot is often the smallest thing that moves, and what it does is known.
    """

    kind: str = "small"
    num_patches: Size = 16
    dim: Size = 64
    channels: Size = 128
    depth: Size = 2
    num_updates: Natural = 1500
    batch_pairs: Natural = 96
    max_gap: Natural = 4
    learning_rate: Weight = 1e-3
    weight_decay: Weight = 1e-4
    reconstruction_weight: Weight = 40.0
    foreground_weight: Weight = 20.0
    invariance_weight: Weight = 1.0
    std_weight: Weight = 2.0
    covariance_weight: Weight = 0.1
    curvature_weight: Weight = 0.0
    proprio_weight: Weight = 0.0
    bf16: bool = False
    standardise: bool = False
    first_sharpness: float = 1.0
    seed: Seed = 0
    variant: str = "s"
    weights: str = "official"
    settings: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        encoder = ENCODERS[self.kind]
        if encoder.needs_base:
            raise ValueError(
                f"kind '{self.kind}' is built around another encoder: name that one; 'multi' "
                "follows from the cameras of the data, 'projected' from 'train projector'"
            )
        check_at_least(self, num_updates=1, batch_pairs=2, max_gap=1)
        for key, usual in _LEFT_OUT.items():
            if getattr(self, key) != usual and key not in encoder.recipe_keys:
                raise ValueError(f"{key} is for another kind of encoder, not for '{self.kind}'")
        if self.first_sharpness != 1.0 and not issubclass(encoder, KeypointEncoder):
            raise ValueError(f"first_sharpness is for 'keypoint', not for '{self.kind}'")
        if self.standardise and self.foreground_weight:
            raise ValueError(
                "standardise weighs pixels already; set foreground_weight to 0, got "
                f"{self.foreground_weight:g}"
            )

    @property
    def comes_trained(self) -> bool:
        """Whether the encoder is used as it is, instead of trained first."""
        return comes_trained(self.kind)

    @property
    def num_frames(self) -> int:
        """Frames of each place in a batch."""
        return 3 if self.curvature_weight else 2


def encoder_settings(config: EncoderTraining, cameras: int = 1) -> dict:
    """The encoder entry of a ModelConfig, for pictures of so many cameras."""
    if cameras > 1:
        base = encoder_settings(replace(config, standardise=False))
        multi: dict[str, Any] = {"kind": "multi", "cameras": cameras, "base": base}
        return multi | ({"standardise": True} if config.standardise else {})
    own = {key: getattr(config, key) for key in ENCODERS[config.kind].recipe_keys}
    own = {key: value for key, value in own.items() if _LEFT_OUT.get(key, ...) != value}
    return {"kind": config.kind, **own, **config.settings}


def decoder_settings(config: EncoderTraining, cameras: int = 1) -> str:
    """The decoder entry of a ModelConfig, for pictures of so many cameras."""
    kind = ENCODERS[config.kind].decoder
    if kind == "none":
        return kind
    if cameras > 1:
        return f"multi:{cameras}:{decoder_settings(config)}"
    return f"{kind}:standardise=1,channels={config.channels}" if config.standardise else kind


class EncoderLearner(Learner):
    """Encoder and decoder, on pairs (or triples, for the curvature) of a store's images.

    Args:
        images: (N, T + 1, S, C * S, 3) uint8 of C cameras.
        config: settings.
        machine: device.
        proprio: (N, T + 1, P), for `proprio_weight`.
        rows: those of the N trajectories that are trained on; None for all.
    """

    name = "encoder"
    log_every = 50

    def __init__(
        self,
        images: np.ndarray,
        config: EncoderTraining,
        machine: Machine,
        proprio: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed)
        self.images, self.config = images, config
        self.rows = np.arange(len(images)) if rows is None else rows
        self.schedule = Schedule(config.num_updates, config.learning_rate, config.weight_decay)
        cameras = images.shape[3] // images.shape[2]
        sizes = (images.shape[2], cameras * config.num_patches, config.dim)
        self.encoder: Any = build_encoder(encoder_settings(config, cameras), *sizes)
        self.decoder: Any = build_decoder(decoder_settings(config, cameras), *sizes)
        parts: dict[str, Any] = {"encoder": self.encoder, "decoder": self.decoder}
        self.readout: nn.Linear | None = None
        if config.proprio_weight:
            if proprio is None:
                raise ValueError("proprio_weight needs the proprioception")
            self._proprio = _standard_columns(proprio, self.rows)
            self.readout = nn.Linear(sizes[1] * config.dim, proprio.shape[-1])
            parts["readout"] = self.readout
        self.module = nn.ModuleDict(parts).to(machine.device)
        sample = images[self.rows[self.rng.choice(len(self.rows), 64)], 0]
        self._background = _to_input(np.median(sample, axis=0)[None]).to(machine.device)
        if config.standardise:
            seen = _to_input(self.pick(_MEASURED)).to(machine.device)
            for name in ("encoder", "decoder"):
                parts[name].pixels.measure(seen)

    def pick(self, count: int) -> np.ndarray:
        """(count, S, C * S, 3) random images of those that are trained on."""
        rows = self.rows[self.rng.integers(0, len(self.rows), count)]
        return self.images[rows, self.rng.integers(0, self.images.shape[1], count)]

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Images (nB, 3, S, S) of n frames, a few model steps apart, of B places.

        Where it is to be read, also their proprioception (nB, P), standardised.
        """
        places, times = _places((len(self.rows), self.images.shape[1]), self.config, self.rng)
        rows = self.rows[places]
        images = _to_input(self.images[rows, times])
        if self.readout is None:
            return (images,)
        return images, torch.from_numpy(self._proprio[rows, times])

    def loss(self, step: int, *batch: Tensor) -> dict[str, Tensor]:
        """See the module."""
        x, *known = batch
        self._soften(step)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.bf16):
            z = self.encoder(x)
            drawn = self.decoder.standard(z) if self.config.standardise else self.decoder(z)
        if self.config.standardise:
            x = self.encoder.pixels(x)
        z, drawn, config = z.float(), drawn.float(), self.config
        weight = 1 + config.foreground_weight * (x - self._background).abs().mean(1, keepdim=True)
        reconstruction = (weight * (drawn - x).square()).mean() / weight.mean()
        now, later, *after = z.flatten(1).chunk(config.num_frames)
        covariance = covariance_penalty(now) + covariance_penalty(later)
        terms = {
            "reconstruction": config.reconstruction_weight * reconstruction,
            "invariance": config.invariance_weight * F.mse_loss(now, later),
            "std": config.std_weight * (std_hinge(now) + std_hinge(later)) / 2,
            "covariance": config.covariance_weight * covariance / 2,
        }
        if after:
            terms["curvature"] = config.curvature_weight * curvature(now, later, after[0])
        if self.readout is not None:
            read = self.readout(z.flatten(1))
            terms["proprio"] = config.proprio_weight * F.mse_loss(read, known[0])
        return {**terms, "loss": torch.stack(list(terms.values())).sum()}

    def _soften(self, step: int) -> None:
        """Let the sharpness of heat maps fall to 1 within the first `SOFTENED` updates.

        Sharp ones find places soon, and then hold on to one cell each, through which no gradient
        goes: places jump from cell to cell, and what is smaller than a cell is lost.
        """
        end = min(SOFTENED, SOFTENED_SHARE * self.config.num_updates)
        sharpness = self.config.first_sharpness ** max(0.0, 1.0 - step / end)
        for part in self.encoder.modules():
            if isinstance(part, KeypointEncoder):
                part.sharpness = sharpness

    def state(self) -> dict[str, Any]:
        """See `Learner.state`."""
        return {"rng": self.rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `state`."""
        self.rng.bit_generator.state = state["rng"]


def train_encoder(
    store: TrajectoryStore,
    config: EncoderTraining,
    output: Path,
    machine: Machine | None = None,
    rows: np.ndarray | None = None,
) -> torch.nn.Module:
    """Train on the store's images and write ``encoder.safetensors`` (encoder and decoder).

    Args:
        store: trajectories; images are used as they are (their size is the encoder's).
        config: settings.
        output: run directory.
        machine: device, and whether to resume; one CPU by default.
        rows: the trajectories to train on; None for all.

    Raises:
        ConfigError: the encoder comes trained; or there are several processes, and variance and
            covariance are the whole batch's.
        DatasetError: trajectories are too short.
        TrainingError: a loss is not finite.
    """
    machine = machine or Machine()
    if config.comes_trained:
        raise ConfigError(
            f"encoder.kind {config.kind} is used as it is; go on with 'wm-planner train model', "
            "without --encoder"
        )
    machine.check_alone("train encoder")
    needed = (config.num_frames - 1) * config.max_gap
    if store.images.shape[1] <= needed:
        raise DatasetError(
            f"{store.directory}: trajectories have {store.images.shape[1]} frames, max_gap "
            f"{config.max_gap} and curvature_weight {config.curvature_weight} need {needed + 1}"
        )
    learner = EncoderLearner(store.images, config, machine, np.asarray(store.proprio), rows)
    settings: dict[str, Any] = {"encoder": to_dict(config), "data": str(store.meta)}
    if rows is not None:
        settings["rows"] = rows.tolist()
    with denormals_as_zero(config.standardise):
        fit(learner, settings, output, machine)
    encoder, decoder = learner.encoder.eval(), learner.decoder
    z = encode_images(encoder, learner.pick(2048), machine)
    for module in (encoder, decoder):
        module.measure_tokens(z)
    # Float16 numbers: a checkpoint exported with 'wm-planner export' encodes as the one that was
    # trained, and what was encoded once need not be again.
    in_float16(encoder, str(output)).float()
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    state |= {f"decoder.{k}": v for k, v in decoder.state_dict().items()}
    state = {key: value.contiguous().cpu() for key, value in state.items()}
    write_bytes(output / "encoder.safetensors", save(state))
    return encoder


def load_encoder_run(directory: Path, image_size: int, cameras: int) -> Any:
    """The encoder that `train_encoder` left in its run directory, ready for use.

    Args:
        directory: holds ``config.json`` and ``encoder.safetensors``.
        image_size: side of each camera's picture, pixels.
        cameras: how many pictures lie side by side.

    Raises:
        CheckpointError: a file is missing or damaged, or was trained on other pictures.
        ConfigError: the settings are of another version.
    """
    file = directory / "config.json"
    values = read_json(file, CheckpointError, "train the encoder again")
    if not isinstance(values, dict) or "encoder" not in values:
        raise CheckpointError(f"{file}: has no settings of an encoder; train it again")
    if "projector" in values:
        raise CheckpointError(
            f"{directory}: holds a projector; train the model on it, and give its checkpoint"
        )
    config = from_dict(EncoderTraining, values["encoder"], f"{file}: encoder")
    settings = encoder_settings(config, cameras)
    encoder: Any = build_encoder(settings, image_size, cameras * config.num_patches, config.dim)
    weights = directory / "encoder.safetensors"
    after = f"; pictures of {cameras} camera(s) and {image_size} px were tried"
    with raised_as(CheckpointError, RuntimeError, SafetensorError, OSError, after=after):
        state = load_file(weights)
        prefix = "encoder."
        encoder.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
    return encoder.eval().requires_grad_(False)


@contextmanager
def denormals_as_zero(wanted: bool = True) -> Iterator[None]:
    """Numbers below 1e-38 count as zero: sharp heat maps are full of them, and they take a CPU
    three times as long.
    """
    if wanted:
        torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if wanted:
            torch.set_flush_denormal(False)


@torch.no_grad()
def encode_images(encoder: Any, images: np.ndarray, machine: Machine) -> Tensor:
    """(n, S, C * S, 3) uint8 -> (n, C * P, D) tokens, on the CPU, a few images at a time."""
    parts = np.array_split(images, -(-len(images) // 128))
    return torch.cat([encoder(_to_input(part).to(machine.device)).cpu() for part in parts])


def _to_input(images: np.ndarray) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return x / 127.5 - 1.0


def _standard_columns(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(N, T + 1, P) float32, of zero mean and unit deviation in `rows`; what never changes is 0."""
    mean, deviation = values[rows].mean(axis=(0, 1)), values[rows].std(axis=(0, 1))
    return ((values - mean) / np.where(deviation > 1e-6, deviation, 1)).astype(np.float32)


def _places(
    shape: tuple[int, int], config: EncoderTraining, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(nB,) rows and times: frames, then what followed a few model steps later, then as much.

    `shape` is the number of trajectories and of their frames.
    """
    count, frames = shape
    gap = rng.integers(1, config.max_gap + 1, config.batch_pairs)
    row = rng.integers(0, count, config.batch_pairs)
    start = rng.integers(0, frames - (config.num_frames - 1) * gap)
    rows = np.tile(row, config.num_frames)
    times = np.concatenate([start + i * gap for i in range(config.num_frames)])
    return rows, times
