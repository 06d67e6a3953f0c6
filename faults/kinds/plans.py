"""Faults of plans: what a planner may send, and must not be followed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from rclpy.serialization import serialize_message
from trajectory_msgs.msg import JointTrajectoryPoint

from faults.fault import FRESH, Fault, Heal
from faults.kinds.altered import edit, held, once, set_alter, shifted, silence, unstamped


def _fault(name: str, does: str, inject: Any, *args: Any, **options: Any) -> Fault:
    return Fault(f"plan: {name}", "planner", does, inject, *args, **options)


def _all(value: float) -> Any:
    def change(message: Any, rng: np.random.Generator) -> None:
        for point in message.points:
            point.velocities = [value] * len(point.velocities)

    return change


def _one_nan(message: Any, rng: np.random.Generator) -> None:
    point = message.points[int(rng.integers(len(message.points)))]
    point.velocities[int(rng.integers(len(point.velocities)))] = np.nan


def _names(message: Any, rng: np.random.Generator) -> None:
    message.joint_names = [f"other_{name}" for name in message.joint_names]


def _swapped(message: Any, rng: np.random.Generator) -> None:
    message.joint_names = list(reversed(message.joint_names))


def _wide(message: Any, rng: np.random.Generator) -> None:
    for point in message.points:
        point.velocities = [*point.velocities, 0.1]


def _positions(message: Any, rng: np.random.Generator) -> None:
    for point in message.points:
        point.positions, point.velocities = point.velocities, []


def _no_points(message: Any, rng: np.random.Generator) -> None:
    message.points = []


def _spacing(message: Any, rng: np.random.Generator) -> None:
    for i, point in enumerate(message.points):
        point.time_from_start = Duration(sec=i)


def _backwards(message: Any, rng: np.random.Generator) -> None:
    message.points = list(reversed(message.points))


def _huge(count: int) -> Any:
    """Plans of so many points, as bytes: to write them must not hold up the campaign itself."""
    made: list[bytes] = []

    def inject(stage: Any, rng: np.random.Generator) -> None:
        if not made:
            stage.until(lambda: stage.plans.last is not None, 5.0)
            message = copy.deepcopy(stage.plans.last)
            values = list(message.points[0].velocities)
            message.points = [
                JointTrajectoryPoint(velocities=values, time_from_start=Duration(sec=i))
                for i in range(count)
            ]
            made.append(serialize_message(message))
            stage.until(stage.driving, 10.0)
            stage.start_now()
        for _ in range(3):
            stage.plans.publisher.publish(made[0])

    return inject


def _second_planner(stage: Any, rng: np.random.Generator) -> Heal:
    """Beside each plan one of somebody else's, the other way."""

    def alter(message: Any) -> tuple[Any, ...]:
        other = copy.deepcopy(message)
        for point in other.points:
            point.velocities = [-value for value in point.velocities]
        return message, other

    return set_alter(stage, "plans", alter)


FAULTS = (
    _fault("silence", "no plans any more", silence("plans"), share=2),
    _fault("the same again", "the last plan again and again", held("plans", False)),
    _fault("NaN, all", "every number is NaN", edit("plans", _all(np.nan)), share=2),
    _fault("NaN, one", "one number is NaN", edit("plans", _one_nan)),
    _fault("infinite", "every number is infinite", edit("plans", _all(np.inf))),
    _fault("one of NaN", "one plan of NaN between good ones", once("plans", _all(np.nan)), FRESH),
    _fault("far outside", "every number is 1e9", edit("plans", _all(1e9)), FRESH),
    _fault("no points", "plans without points", edit("plans", _no_points)),
    _fault("other names", "plans for other joints", edit("plans", _names)),
    _fault("other order", "the names in another order", edit("plans", _swapped)),
    _fault("too wide", "a number too many in each point", edit("plans", _wide)),
    _fault("positions", "positions where velocities are taken", edit("plans", _positions)),
    _fault("other spacing", "points a second apart", edit("plans", _spacing)),
    _fault("backwards", "points in falling order of time", edit("plans", _backwards)),
    _fault("100,000 points", "three plans of 100,000 points", _huge(100_000), FRESH),
    _fault("stamps 10 s behind", "stamps 10 s old", edit("plans", shifted(-10))),
    _fault("stamps 1 h ahead", "stamps of an hour ahead", edit("plans", shifted(3600))),
    _fault("stamps zero", "no stamps", edit("plans", unstamped)),
    _fault("a burst", "300 plans at once", once("plans", lambda m, r: None, 300), FRESH),
    _fault("two planners", "a second planner wants the other way", _second_planner, FRESH),
)
