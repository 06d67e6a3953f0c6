"""A channel projector on a frozen encoder (temporal straightening, arXiv 2603.12231).

The projector learns together with a light transition model, which is thrown away. The loss asks for
tokens that can be predicted one step ahead (the target takes no gradient) and whose path through
three frames is straight. Against collapse it asks, beyond the paper, for a standard deviation of at
least one and for decorrelated channels (VICReg, arXiv 2105.04906, section 4), of what changes at a
patch: differences between patches that stay the same in every frame do not count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from wm_planner.config import Natural, Seed, Size, Weight, check_at_least, to_dict
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import CheckpointError, ConfigError, DatasetError
from wm_planner.files import write_bytes
from wm_planner.models.bundle import Bundle
from wm_planner.models.predictor import PredictorConfig
from wm_planner.models.projected_encoder import ProjectedEncoder
from wm_planner.models.world_model import WorldModel
from wm_planner.training.encoder import EncoderTraining, encoder_settings
from wm_planner.training.feature_cache import weights_sha256
from wm_planner.training.latents import LatentTrajectories, encode_store
from wm_planner.training.learner import Learner, Schedule
from wm_planner.training.loop import fit
from wm_planner.training.losses import covariance_penalty, curvature, history_windows, std_hinge
from wm_planner.training.machine import Machine
from wm_planner.training.model import SMALL, ModelTraining
from wm_planner.training.untrained import build_fresh, build_untrained, load_encoder

STEPS = 2  # model steps of a window: three frames, as many as a curvature needs


@dataclass(frozen=True)
class ProjectorTraining:
    """Settings of one projector run.

    Attributes:
        dim: channels of each token that are left.
        hidden_dim, kernel_size: see `ChannelProjector`.
        num_updates: optimizer steps.
        batch_size: windows of three frames per update.
        learning_rate, weight_decay: AdamW, one-cycle cosine schedule.
        curvature_weight: of the path of all tokens together.
        std_weight, covariance_weight: against collapse.
        predictor: sizes of the transition model that helps.
        held_out: share of trajectories kept for validation.
    """

    dim: Size = 8
    hidden_dim: Size = 192
    kernel_size: Size = 3
    num_updates: Natural = 1200
    batch_size: Natural = 64
    learning_rate: Weight = 1e-3
    weight_decay: Weight = 1e-4
    curvature_weight: Weight = 0.1
    std_weight: Weight = 1.0
    covariance_weight: Weight = 0.04
    predictor: PredictorConfig = SMALL
    held_out: float = 0.05
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_at_least(self, num_updates=1, batch_size=2)
        check_at_least(self, curvature_weight=0, std_weight=0, covariance_weight=0)
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be in (0, 1), got {self.held_out}")


class ProjectorLearner(Learner):
    """Projector, predictor and action embedding, on windows of the base encoder's tokens.

    Args:
        model: its encoder is the one to train, on the machine's device.
        data: tokens of the base encoder; the held-out part is only evaluated on.
        config: settings.
        machine: whether to compile the predictor.
    """

    name = "projector"
    log_every = 100

    def __init__(
        self,
        model: WorldModel,
        data: LatentTrajectories,
        config: ProjectorTraining,
        machine: Machine,
    ) -> None:
        self.model, self.config = model, config
        assert isinstance(model.encoder, ProjectedEncoder)
        self.encoder = model.encoder
        self.generator = torch.Generator().manual_seed(config.seed)
        self.train, self.held_out = data.split(config.held_out, config.seed)
        self.schedule = Schedule(config.num_updates, config.learning_rate, config.weight_decay)
        model.proprio_encoder.requires_grad_(False)  # as drawn, see `ModelLearner`
        embeddings = (model.action_encoder, model.proprio_encoder)
        self.module = nn.ModuleList((self.encoder.projector, model.predictor, *embeddings))
        if machine.compile:
            model.predictor.compile()

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Windows of three frames, see `LatentTrajectories.windows`."""
        return self.train.windows(self.config.batch_size, STEPS, self.generator)

    def loss(self, step: int, *batch: Tensor) -> dict[str, Tensor]:
        """See the module."""
        terms = self._measures(*batch)
        for name in ("curvature", "std", "covariance"):
            terms[name] = getattr(self.config, f"{name}_weight") * terms[name]
        return {**terms, "loss": torch.stack(list(terms.values())).sum()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held out: prediction error, curvature (and that of the base), least channel deviation."""
        windows = self.held_out.windows(256, STEPS, torch.Generator().manual_seed(0))
        batch = tuple(x.to(self.model.device) for x in windows)
        self.model.predictor.eval()
        measures = self._measures(*batch)
        self.model.predictor.train()
        return {
            "val_prediction": float(measures["prediction"]),
            "val_curvature": float(measures["curvature"]),
            "val_curvature_base": float(curvature(*batch[0].flatten(2).unbind(dim=1))),
            "val_std": float(_changes(self.encoder.project(batch[0])).std(dim=0).min()),
        }

    def _measures(self, base: Tensor, proprio: Tensor, actions: Tensor) -> dict[str, Tensor]:
        z = self.encoder.project(base).float()
        changes = _changes(z)
        windows = history_windows(self.model, z, proprio, actions)
        return {
            "prediction": self.model.latent_loss(*windows)["loss"],
            "curvature": curvature(*z.flatten(2).unbind(dim=1)),  # of all tokens together
            "std": std_hinge(changes),
            "covariance": covariance_penalty(changes),
        }


def train_projector(
    store: TrajectoryStore,
    encoder: EncoderTraining,
    encoder_file: Path | None,
    config: ProjectorTraining,
    output: Path,
    machine: Machine | None = None,
) -> ProjectedEncoder:
    """Train a projector on an encoder's tokens; write both to ``encoder.safetensors``.

    Args:
        store: trajectories of at least two model steps.
        encoder: settings of the encoder to project, which stays as it is.
        encoder_file: as `train_encoder` wrote it; None for one that comes trained.
        config: settings.
        output: run directory.
        machine: device, cache, and whether to resume; one CPU by default.

    Raises:
        CheckpointError: the encoder file is missing or of other sizes.
        ConfigError: sizes that do not fit the encoder, or several processes: variance and
            covariance are the whole batch's.
        DatasetError: trajectories are too short.
        TrainingError: a loss is not finite.
    """
    machine = machine or Machine()
    machine.check_alone("train projector")
    _check_one_camera(store)
    if store.actions.shape[1] < STEPS:
        raise DatasetError(
            f"{store.directory}: trajectories have {store.actions.shape[1]} model steps, a "
            f"projector needs at least {STEPS}"
        )
    sizes = ModelTraining(predictor=config.predictor, seed=config.seed)
    base = build_untrained(store, encoder, encoder_file, sizes)
    try:
        projected = ProjectedEncoder(
            base.model.encoder, config.dim, config.hidden_dim, config.kernel_size
        )
    except ValueError as error:
        raise ConfigError(f"projector: {error}") from error
    narrow: dict[str, Any] = {"visual_dim": config.dim, "decoder": "none"}
    narrow["encoder"] = _settings(encoder, config)
    # A model of the same sizes on fewer channels, around the same encoder.
    model = WorldModel(replace(base.model.config, **narrow), projected).to(machine.device)
    data = encode_store(store, base.model, base.preprocess, machine)
    learner = ProjectorLearner(model, data, config, machine)
    settings = {
        "projector": to_dict(config),
        "encoder": to_dict(encoder),
        "encoder_sha256": weights_sha256(base.model.encoder),
        "data": store.meta,
    }
    fit(learner, settings, output, machine)
    projected.eval().requires_grad_(False)
    # Zero mean for each patch's channels, unit overall variance.
    windows = learner.train.windows(512, 1, torch.Generator().manual_seed(config.seed))
    with torch.no_grad():
        projected.measure_tokens(projected.project(windows[0].flatten(0, 1).to(machine.device)))
    state = {f"encoder.{k}": v.contiguous().cpu() for k, v in projected.state_dict().items()}
    write_bytes(output / "encoder.safetensors", save(state))
    return projected


def is_projected(file: Path) -> bool:
    """Whether `file` is what `train_projector` wrote; False when there is none.

    Raises:
        CheckpointError: it cannot be read.
    """
    if not file.is_file():
        return False
    try:
        with safe_open(file, "pt") as tensors:
            return any(name.startswith("encoder.projector.") for name in tensors.keys())
    except SafetensorError as error:
        raise CheckpointError(f"{file}: cannot be read: {error}") from error


def build_projected(
    store: TrajectoryStore,
    encoder: EncoderTraining,
    projector: ProjectorTraining,
    file: Path,
    config: ModelTraining,
) -> Bundle:
    """As `build_untrained`, on the encoder that `train_projector` wrote; it has no decoder.

    Raises:
        CheckpointError: the file is missing or of other sizes.
        DatasetError: an entry of actions or proprioception never changes.
    """
    _check_one_camera(store)
    settings = _settings(encoder, projector)
    bundle = build_fresh(store, settings, encoder.num_patches, projector.dim, "none", config)
    load_encoder(bundle.model, file)
    return bundle


def _check_one_camera(store: TrajectoryStore) -> None:
    cameras = len(store.embodiment.cameras)
    if cameras > 1:
        raise ConfigError(
            f"{store.directory}: a projector is for one camera, its pictures are of {cameras}; "
            "train the model on the encoder itself"
        )


def _settings(encoder: EncoderTraining, config: ProjectorTraining) -> dict[str, Any]:
    """The encoder entry of a ModelConfig: sizes alone, for the file has all the weights."""
    base = {k: v for k, v in encoder_settings(encoder).items() if k != "weights"}
    if not encoder.comes_trained:
        base["dim"] = encoder.dim
    sizes = {"hidden_dim": config.hidden_dim, "kernel_size": config.kernel_size}
    return {"kind": "projected", "base": base, **sizes}


def _changes(z_BTPD: Tensor) -> Tensor:
    """(BTP, D): tokens without what their patch shows on average."""
    frames = z_BTPD.flatten(0, 1)
    return (frames - frames.mean(dim=0)).flatten(0, 1)
