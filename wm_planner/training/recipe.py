"""A recipe: everything that makes one model from data, in one YAML file.

`ANY` is the recipe for any robot. It names no task, and its number of updates follows from the
size of the data and from the minutes that it may take.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from wm_planner.config import Natural, Seed, Size
from wm_planner.data.store import TrajectoryStore
from wm_planner.errors import ConfigError
from wm_planner.training.encoder import EncoderTraining
from wm_planner.training.finetune import Finetuning
from wm_planner.training.model import ModelTraining
from wm_planner.training.projector import ProjectorTraining
from wm_planner.training.upper import UpperTraining

ANY = Path(__file__).with_name("any.yaml")


@dataclass(frozen=True)
class Collection:
    """What `wm-planner collect` needs: `steps` are model steps per trajectory."""

    num_trajectories: Natural
    steps: Natural
    image_size: Size
    seed: Seed = 0


@dataclass(frozen=True)
class Recipe:
    """Data, encoder and projector, transition model, finetuning, upper model, planner settings.

    Attributes:
        task: name of the embodiment that it is for; None for any.
        collect: how the data of a simulated task are made; None where they are recorded.
        minutes: what encoder and model may take, on one core; it says how many updates both make,
            and their own `num_updates` count for nothing (see `duration`). None: they count.
    """

    task: str | None = None
    collect: Collection | None = None
    minutes: float | None = None
    encoder: EncoderTraining = field(default_factory=EncoderTraining)
    projector: ProjectorTraining = field(default_factory=ProjectorTraining)
    model: ModelTraining = field(default_factory=ModelTraining)
    finetune: Finetuning = field(default_factory=Finetuning)
    upper: UpperTraining = field(default_factory=UpperTraining)
    planner: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes <= 1e5:
            raise ValueError(f"minutes must be positive, at most 100000, got {self.minutes:g}")


def check_task(recipe: Recipe, store: TrajectoryStore) -> None:
    """Raises:
    ConfigError: the recipe is for another robot.
    """
    name = store.embodiment.name
    if recipe.task not in (None, name):
        raise ConfigError(
            f"{store.directory} holds '{name}', the recipe is for '{recipe.task}'; leave --recipe "
            "out to train by the recipe for any robot"
        )
