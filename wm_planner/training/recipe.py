"""A recipe: everything that makes one shipped model from nothing, in one YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field

from wm_planner.training.encoder import EncoderTraining
from wm_planner.training.finetune import Finetuning
from wm_planner.training.init_network import InitTraining
from wm_planner.training.projector_learner import ProjectorTraining
from wm_planner.training.trainer import ModelTraining


@dataclass(frozen=True)
class Collection:
    """What `wm-planner collect` needs: `steps` are model steps per trajectory."""

    num_trajectories: int
    steps: int
    image_size: int
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """Data, encoder and projector, transition model, plan starts, finetuning, planner settings."""

    task: str
    collect: Collection
    encoder: EncoderTraining = field(default_factory=EncoderTraining)
    projector: ProjectorTraining = field(default_factory=ProjectorTraining)
    model: ModelTraining = field(default_factory=ModelTraining)
    init_network: InitTraining = field(default_factory=InitTraining)
    finetune: Finetuning = field(default_factory=Finetuning)
    planner: dict = field(default_factory=dict)
