"""Settings of plans over two time scales; `planning.upper` makes them."""

from __future__ import annotations

from dataclasses import dataclass

from wm_planner.config import Fraction, Natural, Weight

MAX_ENTRY = 10.0  # of a macro-action, in standard deviations of the training data's


@dataclass(frozen=True)
class Levels:
    """How the upper level plans. It descends over macro-actions, by Adam.

    Attributes:
        macro_horizon: macro-steps planned ahead, 2 at least.
        num_iterations: optimizer steps of a plan without a warm start.
        warm_iterations: the same when the last plan is at hand.
        learning_rate: step size, in standard deviations of macro-actions.
        num_candidates: macro-plans drawn from N(0, I) for a plan without a warm start, each tried
            by one rollout.
        num_restarts: how many of them, those of least cost, are optimised.
        prior_weight: of the mean square of the macro-actions' entries, which keeps them where the
            training data are.
        max_entry: greatest size of an entry of a macro-action.
        objective_base: weight of a frame of the macro-plan relative to the one before; below 1 for
            haste, above 1 for the end of the macro-plan.
        near: a goal is near, and planned for without the upper level, where macro-steps beyond the
            first bring it nearer by less than this share of its present distance.
    """

    macro_horizon: Natural = 4
    num_iterations: Natural = 40
    warm_iterations: Natural = 8
    learning_rate: float = 0.2
    num_candidates: Natural = 32
    num_restarts: Natural = 2
    prior_weight: Weight = 0.01
    max_entry: float = 2.5
    objective_base: float = 1.0
    near: Fraction = 0.1

    def __post_init__(self) -> None:
        if self.macro_horizon < 2:
            raise ValueError(
                f"macro_horizon must be at least 2, got {self.macro_horizon}; a goal within one "
                "macro-step is planned for without the upper level"
            )
        if not 0 < self.max_entry <= MAX_ENTRY:
            raise ValueError(
                f"max_entry must be positive, at most {MAX_ENTRY:g}, got {self.max_entry}"
            )
