"""Faults around the controller: second publishers, stops, parameters, transitions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from faults.fault import FRESH, PLANNER, STAND_IN, Fault, Heal
from faults.stage import CONTROLLER
from faults.stage import PLANNER as PLANNER_NODE

BOTH = (STAND_IN, PLANNER)
TRANSITIONS = {"configure": 1, "cleanup": 2, "activate": 3, "deactivate": 4}
SHUTDOWNS = (5, 6, 7)  # from unconfigured, inactive, active
AT_ONCE_S = 0.05  # for a command that was on its way when the answer was


def _second_publisher(stage: Any, rng: np.random.Generator) -> Heal:
    """Somebody else commands the same joints, ten times a second."""
    over = threading.Event()
    size = stage.robot.action.size
    publisher = stage.peer.intruder()

    def drive() -> None:
        while not over.wait(0.1):
            publisher([0.05] * size)

    thread = threading.Thread(target=drive, daemon=True)
    thread.start()

    def heal() -> None:
        over.set()
        thread.join()
        stage.peer.end_intruder()

    return heal


def _stop(stage: Any, rng: np.random.Generator) -> None:
    """The controller's own stop, which is latched."""
    stage.peer.trigger(f"/{CONTROLLER}/stop")
    stage.start_now()


def _transitions(node: str, numbers: Sequence[int]) -> Any:
    """Requests one after the other, whether they are possible or not; then back to active."""

    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        for number in numbers:
            stage.peer.transition(node, number, 5.0)
        stage.start_now()
        return lambda: stage.peer.make_active(node)

    return inject


def _random_transitions(node: str) -> Any:
    def inject(stage: Any, rng: np.random.Generator) -> Heal:
        numbers = rng.choice([1, 2, 3, 4], size=int(rng.integers(3, 8)))
        return _transitions(node, [int(number) for number in numbers])(stage, rng)

    return inject


def _parameter(node: str, name: str, value: Any) -> Any:
    """A parameter set at run time."""

    def inject(stage: Any, rng: np.random.Generator) -> None:
        stage.peer.set_parameter(node, name, value)

    return inject


def _named(node: str, subject: str, stages: tuple[str, ...]) -> list[Fault]:
    sequences = {
        "activate twice": ([3], FRESH, ()),
        "configure when active": ([1], FRESH, ()),
        "cleanup when active": ([2], FRESH, ()),
        "unknown transition": ([99, 0, 60], FRESH, ()),
        "deactivate": ([4], "stop", ()),
        "deactivate twice": ([4, 4], "stop", ()),
        "deactivate, cleanup": ([4, 2], "stop", ()),
        "all the way and back": ([4, 2, 1, 3], FRESH, ()),
        "shutdown": ([7], "stop", (node,)),
        "shutdown when inactive": ([4, 6], "stop", (node,)),
    }
    faults = []
    for name, (numbers, expect, ends) in sequences.items():
        faults.append(
            Fault(
                f"lifecycle of the {subject}: {name}",
                "lifecycle",
                f"transitions {numbers} of {node}",
                _transitions(node, numbers),
                expect,
                stages=stages,
                ends=ends,
                share=0.5,
                # The planner's last plan is dropped; the controller's next tick is the safe one. A
                # process that ends may take its last word with it: then the guard speaks.
                within_s=None if node == PLANNER_NODE or ends or expect == FRESH else AT_ONCE_S,
            )
        )
    faults.append(
        Fault(
            f"lifecycle of the {subject}: any order",
            "lifecycle",
            f"three to seven transitions of {node}, drawn at random",
            _random_transitions(node),
            FRESH,
            stages=stages,
            share=4,
        )
    )
    return faults


def _parameter_faults() -> list[Fault]:
    values = {
        "high": [50.0, 50.0, 50.0],
        "max_rate": [1e6, 1e6, 1e6],
        "stale_after_s": 60.0,
        "control_dt_s": -1.0,
        "action_names": ["a"],
        "no_such_parameter": 1,
    }
    return [
        Fault(
            f"parameter: {name}",
            "controller",
            f"{name} is set to {value} at run time",
            _parameter(CONTROLLER, name, value),
            FRESH,
            share=0.5,
        )
        for name, value in values.items()
    ]


FAULTS = (
    Fault(
        "controller: a second publisher",
        "controller",
        "somebody else commands the same joints",
        _second_publisher,
        recovers=False,
        within_s=1.5,
        share=2,
    ),
    Fault(
        "controller: stop",
        "controller",
        "the service stop is called",
        _stop,
        recovers=False,
        within_s=AT_ONCE_S,
        stages=BOTH,
        share=2,
    ),
    *_named(CONTROLLER, "controller", (STAND_IN,)),
    *_named(PLANNER_NODE, "planner", (PLANNER,)),
    *_parameter_faults(),
)
