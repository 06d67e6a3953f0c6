"""Faults of the joint states."""

from __future__ import annotations

from typing import Any

import numpy as np

from faults.fault import FRESH, PLANNER, STAND_IN, Fault
from faults.kinds.altered import edit, held, once, shifted, silence, unstamped, uptime

BOTH = (STAND_IN, PLANNER)


def _fault(name: str, does: str, inject: Any, *args: Any, **options: Any) -> Fault:
    return Fault(f"joints: {name}", "joints", does, inject, *args, **{"stages": BOTH, **options})


def _values(value: float) -> Any:
    def change(message: Any, rng: np.random.Generator) -> None:
        message.position = [value] * len(message.position)

    return change


def _one(value: float) -> Any:
    def change(message: Any, rng: np.random.Generator) -> None:
        message.position[int(rng.integers(len(message.position)))] = value

    return change


def _without(count: int) -> Any:
    def change(message: Any, rng: np.random.Generator) -> None:
        keep = len(message.name) - count
        message.name, message.position = message.name[:keep], message.position[:keep]
        message.velocity = []

    return change


def _renamed(message: Any, rng: np.random.Generator) -> None:
    message.name = [f"other_{name}" for name in message.name]


def _short(message: Any, rng: np.random.Generator) -> None:
    message.position = message.position[:-1]


def _without_positions(message: Any, rng: np.random.Generator) -> None:
    message.position = []


def _twice(message: Any, rng: np.random.Generator) -> None:
    message.name = [message.name[0]] * len(message.name)


def _reversed(message: Any, rng: np.random.Generator) -> None:
    message.name = list(reversed(message.name))
    message.position = list(reversed(message.position))
    message.velocity = list(reversed(message.velocity))


def _longer(message: Any, rng: np.random.Generator) -> None:
    message.position = [*message.position, 1.0, 2.0, 3.0]


def _empty(message: Any, rng: np.random.Generator) -> None:
    message.name, message.position, message.velocity = [], [], []


def _many(message: Any, rng: np.random.Generator) -> None:
    message.name = [f"joint_{i}" for i in range(5000)]
    message.position = [0.0] * 5000
    message.velocity = []


FAULTS = (
    _fault("silence", "no joint states any more", silence("joints"), share=2),
    _fault("frozen, old stamps", "the same message again and again", held("joints", False)),
    _fault("NaN, all", "every position is NaN", edit("joints", _values(np.nan))),
    _fault("NaN, one", "the position of one joint is NaN", edit("joints", _one(np.nan))),
    _fault("infinite", "every position is infinite", edit("joints", _values(np.inf))),
    _fault(
        "one joint missing", "the last joint is not in the message", edit("joints", _without(1))
    ),
    _fault("other joints", "the joints have other names", edit("joints", _renamed)),
    _fault("empty", "messages without joints", edit("joints", _empty)),
    _fault("positions too few", "one position less than names", edit("joints", _short)),
    _fault("no positions", "names, and no positions", edit("joints", _without_positions)),
    _fault("one name for all", "every joint has the same name", edit("joints", _twice)),
    _fault("stamps 10 s behind", "stamps of a clock 10 s behind", edit("joints", shifted(-10))),
    _fault("stamps 1 h ahead", "stamps of a clock an hour ahead", edit("joints", shifted(3600))),
    _fault("stamps of uptime", "stamps count from the driver's start", edit("joints", uptime)),
    _fault("stamps zero", "no stamps", edit("joints", unstamped), FRESH),
    _fault("other order", "names and positions in another order", edit("joints", _reversed), FRESH),
    _fault("positions too many", "three positions more than names", edit("joints", _longer), FRESH),
    _fault(
        "one of NaN", "one message of NaN between good ones", once("joints", _values(np.nan)), FRESH
    ),
    _fault(
        "one empty", "one message without joints between good ones", once("joints", _empty), FRESH
    ),
    _fault("of 5000 joints", "a message of 5000 other joints", once("joints", _many), FRESH),
    _fault("a burst", "300 messages more at once", once("joints", lambda m, r: None, 300), FRESH),
    _fault("far out of range", "positions of 1e6", edit("joints", _values(1e6)), FRESH),
)
