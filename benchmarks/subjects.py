"""What is measured: the published model at full size, and the shipped ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.released import GradientDescent, ReleasedModel
from wm_planner.models.bundle import Bundle, build_model
from wm_planner.models.checkpoint import load_bundle
from wm_planner.models.preprocess import Preprocess
from wm_planner.models.world_model import ModelConfig
from wm_planner.planning import Planner, PlannerConfig, Session, planner_config
from wm_planner.planning.bounds import Bounds
from wm_planner.planning.gradient import descend, make_optimizer
from wm_planner.planning.objective import frame_weights
from wm_planner.planning.problem import Problem
from wm_planner.tasks import get_task
from wm_planner.types import Goal, Observation

SHIPPED = ("wall", "point_maze", "pusht")


def full_size(num_hist: int = 3, num_patches: int = 196, device: str = "cpu") -> Bundle:
    """The published sizes with random weights; 196 patches are those of 224 pixels."""
    torch.manual_seed(0)
    side = 16 * round(num_patches**0.5)
    config = ModelConfig(
        image_size=side,
        num_hist=num_hist,
        num_patches=num_patches,
        visual_dim=384,
        action_dim=10,
        proprio_dim=4,
        encoder={"kind": "dinov2"},
    )
    statistics = (0.0, 0.0), (0.2, 0.2), (256.0, 256.0, 0.0, 0.0), (100.0,) * 4
    model = build_model(config).to(device)
    return Bundle(model, Preprocess(side, 5, *statistics), get_task("pusht").embodiment)


def shipped(task: str, device: str = "cpu") -> Bundle:
    """The checkpoint that comes with the package."""
    return load_bundle("base", device, task)


@dataclass
class Subject:
    """A model, the same weights in the plain implementation, and one thing to plan.

    Attributes:
        name: of the model.
        bundle, plain: the two implementations.
        observation, goal: random pictures.
    """

    name: str
    bundle: Bundle
    plain: ReleasedModel
    observation: Observation
    goal: Goal

    @staticmethod
    def of(name: str, bundle: Bundle, camera: tuple[int, int] | None = None) -> Subject:
        """With a random scene; `camera` is height and width of the picture, or the model's."""
        rng = np.random.default_rng(0)
        shape = camera or (bundle.preprocess.image_size,) * 2
        first, aim = rng.integers(0, 256, (2, *shape, 3), dtype=np.uint8)
        proprio = np.asarray(bundle.preprocess.proprio_mean, np.float32)
        seen = Observation(first[None], proprio[None], 0)
        plain = ReleasedModel(bundle.model).to(bundle.device)
        return Subject(name, bundle, plain, seen, Goal(aim, proprio))

    @property
    def device(self) -> torch.device:
        """Where both models are."""
        return self.bundle.device

    def images(self) -> tuple[Tensor, Tensor]:
        """(1, 1, 3, S, S) and (1, 1, p): what the plain implementation starts from."""
        preprocess, device = self.bundle.preprocess, self.bundle.device
        images = preprocess.images(self.observation.images)[None]
        proprio = preprocess.normalise_proprio(self.observation.proprio)[None]
        return images.to(device), proprio.to(device)

    def plain_goal(self) -> tuple[Tensor, Tensor]:
        """The goal, encoded."""
        goal = self.bundle.encode_goal(self.goal)
        return goal.visual, goal.proprio

    def start(self, horizon: int, batch: int = 1) -> Tensor:
        """(batch, H, A) starting points, standard normal."""
        generator = torch.Generator().manual_seed(0)
        size = (batch, horizon, self.bundle.preprocess.action_dim)
        return torch.randn(size, generator=generator).to(self.bundle.device)

    def session(self, **settings: object) -> Session:
        """A session with the checkpoint's settings, changed; its goal is set."""
        changes = {"objective_alpha": 1.0, "warm_start": False, **settings}
        texts = [f"{key}={str(value).lower()}" for key, value in changes.items()]
        session = Session(Planner(self.bundle, planner_config(self.bundle.planner, texts)))
        session.set_goal(self.goal)
        return session

    def plain_descent(self, horizon: int, rollout: str) -> GradientDescent:
        """The released procedure, before its first iteration."""
        return GradientDescent(
            self.plain, *self.images(), self.plain_goal(), self.start(horizon), rollout
        )

    def descent(self, horizon: int, restarts: int = 1, **settings: object) -> Descent:
        """The package's descent, before its first iteration."""
        return Descent(self, PlannerConfig(horizon=horizon, **settings), restarts)  # type: ignore[arg-type]


class Descent:
    """Single iterations of the package's gradient planner."""

    def __init__(self, subject: Subject, config: PlannerConfig, restarts: int) -> None:
        bundle = subject.bundle
        self._planner = Planner(bundle, config)
        now = bundle.encode_observation(subject.observation)
        weights = frame_weights(config.objective, config.objective_base, config.horizon)
        goal = bundle.encode_goal(subject.goal)
        self._problem = Problem(now, goal, None, 1.0, weights.to(bundle.device))
        self._generator = self._planner.generator()
        self._bound = torch.full((bundle.preprocess.action_dim,), torch.inf, device=bundle.device)
        start = subject.start(config.horizon, restarts)
        self.actions = start[None].clone().requires_grad_(True)
        self._optimizer = make_optimizer(config.optimizer, self.actions, config.learning_rate)

    def cost(self, actions: Tensor) -> Tensor:
        """(1, N) costs of (1, N, H, A)."""
        return self._problem.costs(self._planner.engine, actions)

    def step(self, noise_std: float = 0.003) -> Tensor:
        """One iteration; costs before it."""
        with self._planner.engine.products():
            return descend(
                self.cost,
                self.actions,
                self._optimizer,
                noise_std,
                Bounds(-self._bound, self._bound),
                self._generator,
            )
