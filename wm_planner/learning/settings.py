"""Settings of `wm-planner learn`."""

from __future__ import annotations

from dataclasses import dataclass, field

from wm_planner.config import Natural, Weight, check_at_least
from wm_planner.training.adversarial import Adversarial
from wm_planner.training.model import TransitionTraining

METHODS = ("base", "online", "adversarial", "all")


@dataclass(frozen=True)
class Learning(TransitionTraining):
    """Settings of `wm-planner learn`.

    Attributes:
        method: 'online' mixes recorded episodes and the core set by `recorded_share`;
            'adversarial' does so on perturbed inputs; 'base' draws from both as they are; 'all'
            tries each of these and takes the best that passes the gate.
        every: new episodes that begin a round; at least 2 in all, one of which is held out.
        recorded_share: share of recorded windows in a batch.
        most_forgotten: by which factor the error on the core set may grow.
        keep: versions and failures that stay on the disk, the newest.
        adversarial: the adversary.
    """

    method: str = "online"
    every: Natural = 10
    recorded_share: float = 0.7
    most_forgotten: Weight = 3.0
    keep: Natural = 10
    num_updates: Natural = 120
    rollout_fraction: float = 1.0
    learning_rate: Weight = 1e-4
    # A motor that has changed is learnt by the action embedding, which has few numbers.
    embedding_learning_rate: Weight | None = 3e-2
    adversarial: Adversarial = field(default_factory=Adversarial)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, every=1, keep=2)
        if self.method not in METHODS:
            raise ValueError(f"unknown method '{self.method}'; choices: {', '.join(METHODS)}")
        if not 0 < self.recorded_share <= 1 or not self.most_forgotten >= 1:
            raise ValueError(
                "recorded_share must be in (0, 1] and most_forgotten at least 1, got "
                f"{self.recorded_share}, {self.most_forgotten}"
            )
