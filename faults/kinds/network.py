"""Faults of the network between the robot's host and the planner's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from faults.fault import FRESH, NETWORK, REMOTE, Fault, Heal


def _fault(name: str, does: str, inject: Any, *args: Any, **options: Any) -> Fault:
    options = {"stages": (NETWORK, REMOTE), **options}
    return Fault(f"network: {name}", "network", does, inject, *args, **options)


def _cable(**directions: Mapping[str, float]) -> Any:
    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        stage.cable(**directions)
        return stage.cable

    return inject


def _both(**quality: float) -> Any:
    return _cable(to_planner=quality, to_robot=quality)


def _pulled(host: int) -> Any:
    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        stage.link(host, up=False)
        return lambda: stage.link(host, up=True)

    return inject


FAULTS = (
    _fault("parted", "no packet comes through", _both(loss=1.0), share=3),
    _fault("to the robot lost", "plans do not come through", _cable(to_robot={"loss": 1.0})),
    _fault("to the planner lost", "pictures do not", _cable(to_planner={"loss": 1.0})),
    _fault("robot's link down", "the interface of the robot's host is down", _pulled(0)),
    _fault("planner's link down", "that of the planner's host is down", _pulled(1)),
    _fault("delay 1 s", "every packet takes a second", _both(delay_s=1.0), stages=(NETWORK,)),
    _fault("delay 0.05 s", "every packet takes 0.05 s", _both(delay_s=0.05), FRESH),
    _fault("jitter 0.1 s", "packets overtake each other", _both(jitter_s=0.1), FRESH),
    _fault("loss 10 %", "every tenth packet is lost", _both(loss=0.1), FRESH),
    _fault("loss 50 %", "every second packet is lost", _both(loss=0.5), FRESH),
    _fault("twice", "every packet comes twice", _both(twice=1.0), FRESH),
    _fault("damaged", "a tenth has a byte changed", _both(damaged=0.1), FRESH),
    _fault("slow", "20 kB a second", _both(bytes_per_s=20_000.0), FRESH),
)
