"""Ways to alter messages on their way, shared by the tables of faults."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from faults.fault import Heal, Inject
from faults.wire import nothing, unaltered
from wm_planner.ros.conversions import to_ns, to_time

Edit = Callable[[Any, np.random.Generator], None]


def silence(wire: str) -> Inject:
    """Nothing comes any more."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        return set_alter(stage, wire, nothing)

    return inject


def edit(wire: str, change: Edit) -> Inject:
    """Every message is changed in place by `change`; the driver's own stays as it was."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        def alter(message: Any) -> tuple[Any, ...]:
            message = copy.deepcopy(message)
            change(message, rng)
            return (message,)

        return set_alter(stage, wire, alter)

    return inject


def once(wire: str, change: Edit, count: int = 1) -> Inject:
    """`count` messages more than there are, each changed by `change`; none is missing."""

    def inject(stage: Any, rng: np.random.Generator) -> None:
        place = getattr(stage, wire)
        stage.until(lambda: place.last is not None, 5.0)
        for _ in range(count):
            message = copy.deepcopy(place.last)
            change(message, rng)
            place.publisher.publish(message)

    return inject


def shifted(seconds: float) -> Edit:
    """The stamp lies so much later; negative: earlier."""

    def change(message: Any, rng: np.random.Generator) -> None:
        message.header.stamp = to_time(max(to_ns(message.header.stamp) + round(seconds * 1e9), 0))

    return change


def unstamped(message: Any, rng: np.random.Generator) -> None:
    """A driver that fills in no stamp."""
    message.header.stamp = to_time(0)


def uptime(message: Any, rng: np.random.Generator) -> None:
    """A driver that stamps by the time since it was started."""
    message.header.stamp = to_time(to_ns(message.header.stamp) % (1000 * 10**9))


def held(wire: str, restamped: bool) -> Inject:
    """The same message again and again."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        again = copy.deepcopy(getattr(stage, wire).last)

        def alter(message: Any) -> tuple[Any, ...]:
            if restamped:
                again.header.stamp = message.header.stamp
            return (again,)

        return set_alter(stage, wire, alter)

    return inject


def set_alter(stage: Any, wire: str, alter: Any) -> Heal:
    """Alter what goes over a wire until the heal."""
    place = getattr(stage, wire)
    place.alter = alter

    def heal() -> None:
        place.alter = unaltered

    return heal
