"""A result that no evaluation has found, with the outcomes that a test asks for."""

from __future__ import annotations

from wm_planner.evaluation.result import Result


def result(outcomes: str, targets: str = "t", seconds: float = 1.0, **changes) -> Result:
    values = dict(
        task="wall",
        checkpoint="base",
        planner="gbp",
        mode="mpc",
        seed=0,
        episodes=len(outcomes),
        successes=outcomes.count("1"),
        success_rate=outcomes.count("1") / len(outcomes),
        interval_low=0.3,
        interval_high=1.0,
        plan_seconds_p50=seconds,
        plan_seconds_p99=1.0,
        plan_evaluations=20.0,
        model_calls=100.0,
        memory_mib=7.0,
        distance_median=4.5,
        horizon=5,
        batch_size=1,
        dropped=0,
        latency=None,
        shifts={},
        targets=targets,
        outcomes=outcomes,
    )
    return Result(**values | changes)
